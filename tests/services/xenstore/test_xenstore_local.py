"""The client for back ends and tools in this process."""

import pytest

from pvemu.abi.errno import Errno
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.local_client import LocalClient
from pvemu.services.xenstore.service import XenstoreService
from tests.services.xenstore.xenstore_stage import FRAME, PORT, Domains, XenstoreStage


@pytest.fixture
def service() -> XenstoreService:
    return XenstoreService(Domains(), domain_exists=lambda domid: domid < 4)


@pytest.fixture
def client(service: XenstoreService) -> LocalClient:
    return service.local()


def test_what_is_written_is_read(client: LocalClient) -> None:
    client.write("/a/b", "text")
    client.write("relative", b"\0bytes\xff")
    client.mkdir("/a/c")
    assert (client.read("/a/b"), client.read("/local/domain/0/relative")) == (b"text", b"\0bytes\xff")
    assert client.list("/a") == ["b", "c"]
    client.rm("/a/b")
    assert (client.find("/a/b"), client.find("/a/c")) == (None, b"")


def test_a_list_has_any_length(client: LocalClient) -> None:
    names = [f"{number:04}{'n' * 50}" for number in range(300)]
    for name in names:
        client.mkdir(f"/many/{name}")
    assert client.list("/many") == names
    assert client.list("/many/" + names[0]) == []


def test_permissions_are_read_as_they_were_set(client: LocalClient) -> None:
    client.mkdir("/a")
    client.set_permissions("/a", ["n1", "r2", "b3"])
    assert client.permissions("/a") == ("n1", "r2", "b3")


@pytest.mark.parametrize("path", ["", "/a/", "/a b", "/a\0b", "/ä", "/Ω", "/" + "n" * 5000])
def test_a_bad_path_is_refused(client: LocalClient, path: str) -> None:
    with pytest.raises(XenstoreError) as caught:
        client.write(path, "x")
    assert caught.value.errno in (Errno.EINVAL, Errno.E2BIG)


def test_a_value_that_fits_no_message_is_refused(client: LocalClient) -> None:
    with pytest.raises(XenstoreError) as caught:
        client.write("/a", "x" * 4094)
    assert caught.value.errno is Errno.E2BIG


def test_callbacks_come_with_the_pump_and_once_at_once(service: XenstoreService, client: LocalClient) -> None:
    seen: list[str] = []
    client.watch("/a", seen.append)
    assert seen == []
    service.pump()
    client.write("/a/b", "1")
    client.write("/b", "1")
    assert seen == ["/a"]
    service.pump()
    assert seen == ["/a", "/a/b"]


def test_a_callback_is_never_inside_another(service: XenstoreService, client: LocalClient) -> None:
    other = service.local()
    depth, order = [0], []

    def on_a(path: str) -> None:
        depth[0] += 1
        assert depth == [1]
        order.append(path)
        if path == "/a":
            other.write("/a/more", "1")
            client.write("/b", "1")
            service.pump()
        depth[0] -= 1

    client.watch("/a", on_a)
    other.watch("/b", on_a)
    service.pump()
    # The write to /b is told by the event that waited there already.
    assert order == ["/a", "/a/more", "/b"]


def test_a_cancelled_watch_is_silent_even_about_what_has_happened(
    service: XenstoreService, client: LocalClient
) -> None:
    seen: list[str] = []
    watch = client.watch("/a", seen.append)
    client.write("/a", "1")
    watch.cancel()
    watch.cancel()
    client.write("/a", "2")
    service.pump()
    assert seen == []


def test_a_callback_that_fails_does_not_stop_the_others(
    service: XenstoreService, client: LocalClient
) -> None:
    seen: list[str] = []

    def fail(path: str) -> None:
        raise ZeroDivisionError

    client.watch("/a", fail)
    client.watch("/a", seen.append)
    with pytest.raises(ZeroDivisionError):
        service.pump()
    service.pump()
    assert seen == ["/a"]


def test_a_transaction_is_seen_at_its_end(service: XenstoreService, client: LocalClient) -> None:
    other, seen = service.local(), list[str]()
    other.watch("/t", seen.append)
    service.pump()
    with client.transaction() as transaction:
        transaction.write("/t/a", "1")
        transaction.write("/t/b", "2")
        service.pump()
        assert (other.find("/t"), transaction.list("/t"), seen) == (None, ["a", "b"], ["/t"])
    service.pump()
    assert (other.read("/t/b"), sorted(seen)) == (b"2", ["/t", "/t/a", "/t/b"])


def test_a_transaction_that_raises_is_forgotten(client: LocalClient) -> None:
    with pytest.raises(ZeroDivisionError), client.transaction() as transaction:
        transaction.write("/t", "1")
        raise ZeroDivisionError
    assert client.find("/t") is None


def test_a_transaction_that_was_overtaken_says_so(service: XenstoreService, client: LocalClient) -> None:
    client.write("/t", "1")
    with pytest.raises(XenstoreError) as caught, client.transaction() as transaction:
        value = transaction.read("/t")
        service.local().write("/t", "2")
        transaction.write("/u", value)
    assert caught.value.errno is Errno.EAGAIN
    assert client.find("/u") is None


def test_special_watches_tell_of_domains_that_come_and_go(
    service: XenstoreService, client: LocalClient
) -> None:
    seen: list[str] = []
    for name in ("@introduceDomain", "@releaseDomain"):
        client.watch(name, seen.append)
    service.pump()
    seen.clear()
    service.introduce(1, FRAME + 1, PORT)
    assert seen == ["@introduceDomain"]
    service.shutdown(1)
    service.shutdown(1)
    assert seen == ["@introduceDomain", "@releaseDomain"]
    service.release(1)
    assert seen == ["@introduceDomain", "@releaseDomain", "@releaseDomain"]
    service.release(1)
    service.shutdown(1)
    assert len(seen) == 3


def test_a_domain_that_goes_takes_its_nodes_and_its_rights(stage: XenstoreStage) -> None:
    client = stage.service.local()
    guest = stage.introduce(1)
    client.mkdir("/local/domain/1")
    client.set_permissions("/local/domain/1", ["n1"])
    guest.request("WRITE", b"a/b\0x")
    client.mkdir("/shared")
    client.set_permissions("/shared", ["n0", "r1"])
    stage.service.release(1)
    assert client.find("/local/domain/1") is None
    assert stage.introduce(1).request("READ", b"/shared\0").payload == b"EACCES\0"
    assert client.permissions("/shared") == ("n0", "r1")


def test_a_domain_that_was_never_introduced_is_forgotten_quietly(
    service: XenstoreService, client: LocalClient
) -> None:
    seen: list[str] = []
    client.mkdir("/local/domain/2")
    client.set_permissions("/local/domain/2", ["n2"])
    client.watch("@releaseDomain", seen.append)
    service.pump()
    seen.clear()
    service.release(2)
    assert (client.find("/local/domain/2"), seen) == (None, [])


def test_a_watch_of_a_local_client_fires_when_a_guest_writes(stage: XenstoreStage) -> None:
    client = stage.service.local()
    guest = stage.introduce(1)
    client.mkdir("/local/domain/1")
    client.set_permissions("/local/domain/1", ["n1"])
    seen: list[str] = []
    client.watch("/local/domain/1/state", seen.append)
    stage.service.pump()
    guest.request("WRITE", b"state\x003")
    assert seen == ["/local/domain/1/state"] * 2


def test_the_root_outlives_a_domain_that_owns_it(stage: XenstoreStage) -> None:
    client = stage.service.local()
    stage.introduce(1)
    client.set_permissions("/", ["r1", "b2"])
    client.set_permissions("/tool/xenstored", ["n1"])
    stage.service.release(1)
    assert client.permissions("/") == ("r0", "b2")
    assert (client.list("/"), client.list("/tool"), client.control("check")) == (["tool"], [], "OK")


def test_a_second_introduction_with_a_bad_port_leaves_the_domain_without_events(stage: XenstoreStage) -> None:
    stage.introduce(1)
    assert stage.privcmd.handlers
    stage.service.introduce(1, FRAME + 1, PORT + 1)
    assert not stage.privcmd.handlers
    assert stage.introduce(1).request("READ", b"/\0").type == "ERROR"
