"""A guest's ring page: messages in pieces, full rings, and guests that write nonsense."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.errors import PvemuError
from pvemu.abi.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE,
    XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
    xenstore_domain_interface,
)
from pvemu.services.xenstore.service import XenstoreService
from tests.services.xenstore.xenstore_clients import HEADER, NUMBERS, Client, RingPipe
from tests.services.xenstore.xenstore_stage import FRAME, PORT, Domains, XenstoreStage

WORDS = ("req_cons", "req_prod", "rsp_cons", "rsp_prod", "server_features", "connection", "error")
AT = {name: xenstore_domain_interface.offset(name, 4) for name in WORDS}
GET_PATH = HEADER.pack(NUMBERS["GET_DOMAIN_PATH"], 1, 0, 2) + b"1\0"
PATH_REPLY = HEADER.pack(NUMBERS["GET_DOMAIN_PATH"], 1, 0, 16) + b"/local/domain/1\0"


class Guest:
    """Domain 1 with its page, and the store that serves it."""

    def __init__(self) -> None:
        self.domains = Domains()
        self.service = XenstoreService(self.domains)
        self.page = self.domains.pages[1]
        self.service.introduce(1, FRAME + 1, PORT)
        self.pipe = RingPipe(memoryview(self.page), self.kick)
        self.client = Client(self.pipe, lambda: None)

    def kick(self) -> None:
        self.domains.kick(1)

    def get(self, name: str) -> int:
        return int.from_bytes(self.page[AT[name] : AT[name] + 4], "little")

    def put(self, name: str, value: int) -> None:
        struct.pack_into("<I", self.page, AT[name], value)


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_an_introduced_ring_is_empty_and_says_what_the_store_can(guest: Guest) -> None:
    features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR
    assert [guest.get(name) for name in WORDS] == [0, 0, 0, 0, features, XENSTORE_CONNECTED, 0]


@given(pieces=st.lists(st.integers(1, 40), max_size=20), repeat=st.integers(1, 8))
def test_a_request_may_come_in_pieces(pieces: list[int], repeat: int) -> None:
    guest = Guest()
    stream = GET_PATH * repeat
    got = b""
    for size in [*pieces, len(stream)]:
        guest.pipe.write(stream[:size])
        stream = stream[size:]
        got += guest.pipe.read()
    assert got == PATH_REPLY * repeat


def test_indexes_may_start_anywhere_and_wrap_around(guest: Guest) -> None:
    for name in ("req_cons", "req_prod", "rsp_cons", "rsp_prod"):
        guest.put(name, 0xFFFFFFF5)
    for _ in range(100):
        assert guest.client.request("GET_DOMAIN_PATH", b"1\0").payload == b"/local/domain/1\0"
    assert guest.get("req_prod") == (100 * len(GET_PATH) + 0xFFFFFFF5) & 0xFFFFFFFF


def test_a_reply_that_is_larger_than_the_ring_waits_for_room(guest: Guest) -> None:
    local = guest.service.local()
    local.write("/big", b"x" * 4000)
    local.set_permissions("/big", ["r0"])
    assert guest.client.request("READ", b"/big\0").payload == b"x" * 4000
    guest.pipe.write(HEADER.pack(NUMBERS["READ"], 1, 0, 5) + b"/big\0")
    for _ in range(5):
        guest.kick()
    assert guest.get("rsp_prod") - guest.get("rsp_cons") == XENSTORE_RING_SIZE


def test_requests_stay_in_the_ring_while_20_replies_wait(guest: Guest) -> None:
    local = guest.service.local()
    local.write("/big", b"x" * 4000)
    local.set_permissions("/big", ["r0"])
    request = HEADER.pack(NUMBERS["READ"], 1, 0, 5) + b"/big\0"
    stream = request * 100
    for _ in range(10):
        stream = stream[guest.pipe.write(stream) :]
    taken = guest.get("req_cons")
    assert taken == 20 * len(request)
    got = b""
    while piece := guest.pipe.read():
        got += piece
        stream = stream[guest.pipe.write(stream) :]
    assert got == (HEADER.pack(NUMBERS["READ"], 1, 0, 4000) + b"x" * 4000) * 100


def test_the_guest_is_notified_of_what_moves_and_of_nothing_else(guest: Guest) -> None:
    before = guest.domains.notified[1]
    guest.kick()
    assert guest.domains.notified[1] == before
    guest.pipe.write(GET_PATH)
    assert guest.domains.notified[1] == before + 1


@pytest.mark.parametrize(
    ("index", "value"), [("req_prod", XENSTORE_RING_SIZE + 1), ("req_cons", 1), ("req_prod", 0xFFFFFFFF)]
)
def test_requests_that_cannot_be_there_end_the_connection(guest: Guest, index: str, value: int) -> None:
    guest.put(index, value)
    guest.kick()
    assert guest.get("error") == XENSTORE_ERROR_RINGIDX


@pytest.mark.parametrize(("index", "value"), [("rsp_prod", 1025), ("rsp_cons", 1), ("rsp_cons", 0x80000000)])
def test_replies_that_cannot_be_there_end_the_connection(guest: Guest, index: str, value: int) -> None:
    guest.put(index, value)
    guest.pipe.write(GET_PATH)
    assert guest.get("error") == XENSTORE_ERROR_RINGIDX


def test_a_message_that_is_too_long_ends_the_connection(guest: Guest) -> None:
    guest.pipe.write(HEADER.pack(NUMBERS["WRITE"], 1, 0, 4097))
    assert guest.get("error") == XENSTORE_ERROR_PROTO
    guest.pipe.write(GET_PATH)
    assert guest.get("rsp_prod") == 0


def test_a_guest_can_reconnect_after_an_error(guest: Guest) -> None:
    guest.client.request("WATCH", b"@x\0t\0")
    number = int(guest.client.request("TRANSACTION_START", b"\0").payload[:-1])
    guest.pipe.write(HEADER.pack(NUMBERS["WRITE"], 1, 0, 4097))
    guest.put("connection", XENSTORE_RECONNECT)
    guest.kick()
    names = ("connection", "error", "req_cons", "req_prod", "rsp_cons", "rsp_prod")
    assert [guest.get(name) for name in names] == [XENSTORE_CONNECTED, XENSTORE_ERROR_NONE, 0, 0, 0, 0]
    client = Client(guest.pipe, lambda: None)
    assert client.request("READ", b"/\0", number).payload == b"ENOENT\0"
    assert client.request("UNWATCH", b"@x\0t\0").payload == b"ENOENT\0"


def test_reconnecting_forgets_a_message_that_has_begun(guest: Guest) -> None:
    guest.pipe.write(GET_PATH[:10])
    guest.put("connection", XENSTORE_RECONNECT)
    guest.kick()
    assert guest.client.request("GET_DOMAIN_PATH", b"1\0").payload == b"/local/domain/1\0"


def test_a_new_introduction_reaches_a_guest_that_was_cut_off(guest: Guest) -> None:
    guest.put("req_prod", 5000)
    guest.kick()
    guest.service.introduce(1, FRAME + 1, PORT)
    assert guest.get("error") == XENSTORE_ERROR_NONE
    assert guest.client.request("GET_DOMAIN_PATH", b"1\0").type == "GET_DOMAIN_PATH"


def test_a_released_guest_is_left_alone(guest: Guest) -> None:
    guest.service.release(1)
    before = bytes(guest.page)
    guest.pipe.write(GET_PATH)
    guest.put("req_cons", 0)
    guest.put("req_prod", 0)
    guest.page[: len(GET_PATH)] = before[: len(GET_PATH)]
    assert bytes(guest.page) == before
    guest.service.release(1)


@pytest.mark.parametrize(("domid", "mfn", "port"), [(1, 5, PORT), (1, FRAME + 1, 99), (9, FRAME + 9, PORT)])
def test_a_domain_that_cannot_be_served_is_refused(domid: int, mfn: int, port: int) -> None:
    service = XenstoreService(Domains(), domain_exists=lambda number: number < 4)
    with pytest.raises(PvemuError, match=f"domain {domid}"):
        service.introduce(domid, mfn, port)


def test_events_that_a_guest_does_not_fetch_have_a_bound(stage: XenstoreStage) -> None:
    stage.introduce(1)
    local = stage.service.local()
    stage.clients["d1"].request("WATCH", b"/\0" + b"t" * 2000 + b"\0")
    local.set_permissions("/", ["r0"])
    for number in range(2000):
        local.write(f"/{number}", b"")
    got = sum(len(event) for event in stage.clients["d1"].take_events())
    assert 1 << 20 < got < 3 << 20
    assert stage.clients["d1"].request("READ", b"/1\0").type == "READ"


@given(
    page=st.lists(st.tuples(st.integers(0, 4095), st.binary(min_size=1, max_size=40)), max_size=10),
    words=st.lists(
        st.tuples(
            st.sampled_from(WORDS),
            st.integers(0, 0xFFFFFFFF) | st.integers(0, 1100) | st.sampled_from([1, 16, 1024]),
        ),
        max_size=12,
    ),
)
def test_nothing_that_a_guest_writes_harms_the_store(
    page: list[tuple[int, bytes]], words: list[tuple[str, int]]
) -> None:
    guest = Guest()
    for offset, data in page:
        guest.page[offset : offset + len(data)] = data[: 4096 - offset]
    for name, value in words:
        guest.put(name, value)
        guest.kick()
    assert len(guest.page) == 4096
    assert guest.service.local().list("/") == ["tool"]
    guest.put("connection", XENSTORE_RECONNECT)
    guest.kick()
    assert Client(guest.pipe, lambda: None).request("GET_DOMAIN_PATH", b"1\0").type == "GET_DOMAIN_PATH"
