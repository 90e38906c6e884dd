"""The Unix socket: many programs, programs that misbehave, and paths that can't be used."""

import socket
import stat
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.errors import PvemuError
from pvemu.abi.xs_wire import XS_WATCH_EVENT
from pvemu.services.xenstore.service import XenstoreService
from pvemu.services.xenstore.socket_server import LARGEST_BACKLOG, LONGEST_PATH, MOST_CLIENTS
from pvemu.services.xenstore.wire import Message, Parser, ProtocolViolation
from tests.services.xenstore.xenstore_clients import HEADER, NUMBERS, Closed, SocketPipe
from tests.services.xenstore.xenstore_stage import Domains, Loop, XenstoreStage


def connect(stage: XenstoreStage) -> socket.socket:
    plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plug.connect(str(stage.path))
    plug.setblocking(False)
    stage.outside.turn()
    return plug


def turns(stage: XenstoreStage, count: int = 50) -> None:
    for _ in range(count):
        stage.outside.turn()


def is_alive(stage: XenstoreStage) -> bool:
    return stage.clients["s1"].request("READ", b"/\0").type == "READ"


def test_a_program_that_leaves_takes_its_watches_with_it(stage: XenstoreStage) -> None:
    client = stage.program()
    client.request("WATCH", b"/\0t\0")
    waiting = len(stage.outside.sources)
    assert isinstance(client.pipe, SocketPipe)
    client.pipe.socket.close()
    turns(stage)
    assert len(stage.outside.sources) == waiting - 1
    assert is_alive(stage)


def test_requests_sent_before_leaving_are_carried_out(stage: XenstoreStage) -> None:
    plug = connect(stage)
    plug.send(HEADER.pack(NUMBERS["WRITE"], 1, 0, 4) + b"/a\0x")
    plug.close()
    turns(stage)
    assert stage.clients["s1"].request("READ", b"/a\0").payload == b"x"


def test_a_message_that_is_too_long_ends_the_connection(stage: XenstoreStage) -> None:
    client = stage.program()
    with pytest.raises(Closed):
        client.request("WRITE", b"/a\0" + b"x" * 4094)
    assert is_alive(stage)


def test_a_program_that_reads_nothing_can_ask_only_so_much(stage: XenstoreStage) -> None:
    stage.clients["s1"].request("WRITE", b"/big\0" + b"x" * 4000)
    plug = connect(stage)
    request = HEADER.pack(NUMBERS["READ"], 1, 0, 5) + b"/big\0"
    sent = 0
    for _ in range(20_000):
        try:
            sent += plug.send(request)
        except BlockingIOError:
            break
        stage.outside.turn()
    else:
        pytest.fail("the store takes requests without end")
    got = 0
    plug.settimeout(10)
    while got < sent // len(request) * 4016:
        turns(stage, 1)
        got += len(plug.recv(1 << 20))
    assert is_alive(stage)


def test_a_program_that_reads_no_events_is_dropped(stage: XenstoreStage) -> None:
    idle = stage.program()
    token = b"t" * 3000
    idle.request("WATCH", b"/\0" + token + b"\0")
    before = len(stage.outside.sources)
    local = stage.service.local()
    for number in range(2 * LARGEST_BACKLOG // len(token)):
        local.write(f"/{number}", b"")
        turns(stage, 1)
    assert len(stage.outside.sources) == before - 1
    assert is_alive(stage)


def test_programs_beyond_the_limit_wait_until_one_leaves(stage: XenstoreStage) -> None:
    plugs = [connect(stage) for _ in range(MOST_CLIENTS - len(stage.clients))]
    last = stage.program()
    assert isinstance(last.pipe, SocketPipe)
    last.pipe.write(HEADER.pack(NUMBERS["READ"], 1, 0, 2) + b"/\0")
    turns(stage)
    assert last.pipe.read() == b""
    plugs.pop().close()
    turns(stage)
    assert last.pipe.read() == HEADER.pack(NUMBERS["READ"], 1, 0, 0)
    for plug in plugs:
        plug.close()


def test_closing_drops_everybody_and_removes_the_file(tmp_path: Path) -> None:
    stage = XenstoreStage(tmp_path / "here")
    stage.close()
    assert not stage.path.exists()
    assert stage.outside.sources == {}


def test_only_the_owner_can_connect(stage: XenstoreStage) -> None:
    assert stat.S_IMODE(stage.path.stat().st_mode) == 0o600


def listen(path: Path) -> XenstoreService:
    service = XenstoreService(Domains())
    service.listen(Loop(), path)
    return service


def test_a_socket_in_use_is_refused(stage: XenstoreStage) -> None:
    with pytest.raises(PvemuError, match="in use"):
        listen(stage.path)
    turns(stage)
    assert is_alive(stage)


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
        plug.bind(str(path))
    service = listen(path)
    service.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("keep me")
    with pytest.raises(PvemuError, match="not a socket"):
        listen(path)
    assert path.read_text() == "keep me"


def test_another_file_at_the_path_survives_closing(tmp_path: Path) -> None:
    service = listen(tmp_path / "socket")
    (tmp_path / "socket").unlink()
    (tmp_path / "socket").write_text("mine")
    service.close()
    assert (tmp_path / "socket").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/no/such/directory/socket", "No such file"), ("/" + "x" * LONGEST_PATH, f"at most {LONGEST_PATH}")],
)
def test_a_path_that_cannot_be_made_is_refused(path: str, reason: str) -> None:
    with pytest.raises(PvemuError, match=reason):
        listen(Path(path))


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(PvemuError, match="NUL"):
        listen(Path("/tmp/a\0b"))


# --- the stream ----------------------------------------------------------------------------------

_MESSAGES = st.lists(
    st.builds(
        Message,
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFFFFFF),
        st.binary(max_size=60),
    ),
    max_size=6,
)


@given(messages=_MESSAGES, pieces=st.lists(st.integers(0, 50), max_size=20))
def test_messages_survive_any_division_of_their_bytes(messages: list[Message], pieces: list[int]) -> None:
    stream = b"".join(message.encode() for message in messages)
    parser, found = Parser(), []
    for size in [*pieces, len(stream)]:
        parser.push(stream[:size])
        stream = stream[size:]
        while (message := parser.next()) is not None:
            found.append(message)
    assert found == messages


@given(data=st.binary(max_size=300))
def test_bytes_without_sense_are_messages_or_a_violation(data: bytes) -> None:
    parser = Parser()
    parser.push(data)
    try:
        while parser.next() is not None:
            pass
        assert parser.wanted > 0
    except ProtocolViolation:
        assert any(data[at : at + 2] != b"\0\0" for at in range(len(data)))


_PAYLOADS = st.binary(max_size=40) | st.lists(
    st.sampled_from(
        [b"/", b"/a", b"a/b", b"n0", b"r1", b"0", b"1", b"T", b"F", b"@releaseDomain", b"t", b""]
    ),
    max_size=4,
).map(lambda parts: b"".join(part + b"\0" for part in parts))
_REQUESTS = st.tuples(st.integers(0, 24) | st.just(0xFFFF), st.sampled_from([0, 0, 1, 2, 99]), _PAYLOADS)


@given(requests=st.lists(_REQUESTS, max_size=30), is_guest=st.booleans())
def test_whatever_is_asked_is_answered_and_leaves_the_tree_whole(
    requests: list[tuple[int, int, bytes]], is_guest: bool
) -> None:
    with TemporaryDirectory() as directory, closing(XenstoreStage(Path(directory) / "socket")) as stage:
        pipe = stage.introduce(1).pipe if is_guest else stage.clients["s1"].pipe
        for number, (kind, transaction, payload) in enumerate(requests):
            pipe.write(HEADER.pack(kind, number, transaction, len(payload)) + payload)
            turns(stage, 4)
            parser = Parser()
            parser.push(pipe.read())
            replies = [each.request for each in iter(parser.next, None) if each.type != XS_WATCH_EVENT]
            assert replies == [number]
        assert stage.service.local().control("check") == "OK"
