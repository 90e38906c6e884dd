"""The default quotas: how much of everything a guest can have, as real xenstored gave it."""

import pytest

from tests.services.xenstore.xenstore_clients import Client
from tests.services.xenstore.xenstore_stage import XenstoreStage

MORE_THAN_ENOUGH = 1100


@pytest.fixture
def guest(stage: XenstoreStage) -> Client:
    client = stage.introduce(1)
    for kind, payload in (("MKDIR", b"/local/domain/1\0"), ("SET_PERMS", b"/local/domain/1\0n1\0")):
        stage.clients["s1"].request(kind, payload)
    return client


def accepted(client: Client, kind: str, payload: bytes) -> tuple[int, bytes]:
    """How often a request goes well (%d in it is a number), and what is said when it does no more."""
    for number in range(MORE_THAN_ENOUGH):
        reply = client.request(kind, payload.replace(b"%d", b"%d" % number))
        if reply.type == "ERROR":
            return number, reply.payload
    return MORE_THAN_ENOUGH, b""


def test_a_guest_owns_at_most_1000_nodes(guest: Client) -> None:
    # Its home is one of them. The names are spread, as each node has a quota of its own.
    made = 1
    for group in (b"a", b"b", b"c", b"d", b"e", b"f"):
        reply = guest.request("MKDIR", group + b"\0")
        made += reply.type == "MKDIR"
        for number in range(180):
            reply = guest.request("MKDIR", b"%s/%d\0" % (group, number))
            made += reply.type == "MKDIR"
    assert (made, reply.payload) == (1000, b"ENOSPC\0")


def test_a_guest_has_at_most_129_watches(guest: Client) -> None:
    assert accepted(guest, "WATCH", b"a\0%d\0") == (129, b"E2BIG\0")


def test_a_guest_has_at_most_11_transactions(guest: Client) -> None:
    assert accepted(guest, "TRANSACTION_START", b"\0") == (11, b"ENOSPC\0")


@pytest.mark.parametrize(
    ("kind", "payload"), [("MKDIR", b"/x/%d\0"), ("WATCH", b"/x\0%d\0"), ("TRANSACTION_START", b"\0")]
)
def test_domain_0_has_no_limits(stage: XenstoreStage, kind: str, payload: bytes) -> None:
    assert accepted(stage.clients["s1"], kind, payload) == (MORE_THAN_ENOUGH, b"")


def test_quotas_can_be_read_and_set(stage: XenstoreStage, guest: Client) -> None:
    program = stage.clients["s1"]
    program.request("CONTROL", b"quota\0set\0watches\x003\0")
    assert accepted(guest, "WATCH", b"a\0%d\0") == (4, b"E2BIG\0")
    settings = program.request("CONTROL", b"quota\0").payload.decode()
    assert [line.split()[:3] for line in settings.splitlines() if line.startswith("watches")] == [
        ["watches", ":", "3"]
    ]
    used = program.request("CONTROL", b"quota\x001\0").payload.decode()
    assert [line.split()[-1] for line in used.splitlines() if line.startswith("watches")] == ["4"]


def test_control_lists_its_commands(stage: XenstoreStage) -> None:
    text = stage.clients["s1"].request("CONTROL", b"help\0").payload.decode()
    assert [line.split("\t")[0] for line in text.rstrip("\0").splitlines()] == ["check", "quota", "help"]
