"""Programs that others wrote, on our socket: Debian's xenstore-utils, and pyxs."""

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.services.xenstore.xenstore_stage import XenstoreStage

PATIENCE = 30  # seconds; what is waited for takes milliseconds
needs_utils = pytest.mark.skipif(
    shutil.which("xenstore-ls") is None, reason="needs Debian's xenstore-utils to talk to the store"
)


def finish(stage: XenstoreStage, is_done: Callable[[], bool]) -> None:
    """Serve the socket until something is done."""
    end = time.monotonic() + PATIENCE
    while not is_done():
        assert time.monotonic() < end, "the program hangs"
        stage.outside.turn(0.01)


def start(stage: XenstoreStage, *command: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"XENSTORED_PATH": str(stage.path)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(stage: XenstoreStage, *command: str) -> tuple[int, str]:
    """Exit status and output of a tool."""
    process = start(stage, *command)
    finish(stage, lambda: process.poll() is not None)
    output, complaints = process.communicate()
    return process.returncode, (output + complaints).decode()


@needs_utils
def test_write_read_list_exists_and_rm(stage: XenstoreStage) -> None:
    assert run(stage, "xenstore-write", "/a/b", "one", "/a/c", "two words") == (0, "")
    assert run(stage, "xenstore-read", "/a/b", "/a/c") == (0, "one\ntwo words\n")
    assert run(stage, "xenstore-read", "-p", "/a/b") == (0, "/a/b: one\n")
    assert run(stage, "xenstore-list", "/a") == (0, "b\nc\n")
    assert run(stage, "xenstore-exists", "/a/b")[0] == 0
    assert run(stage, "xenstore-exists", "/a/x")[0] == 1
    assert run(stage, "xenstore-rm", "/a/b") == (0, "")
    assert run(stage, "xenstore-list", "/a") == (0, "c\n")
    assert run(stage, "xenstore-rm", "-t", "/a/c") == (0, "")
    assert run(stage, "xenstore-exists", "/a")[0] == 1


@needs_utils
def test_a_tool_says_what_went_wrong(stage: XenstoreStage) -> None:
    status, text = run(stage, "xenstore-read", "/nothing")
    assert (status, text) == (1, "xenstore-read: couldn't read path /nothing\n")
    assert run(stage, "xenstore-rm", "/no/such")[0] == 1
    assert run(stage, "xenstore-write", "/bad//path", "x")[0] == 1


@needs_utils
def test_ls_shows_the_tree_with_values_and_permissions(stage: XenstoreStage) -> None:
    stage.clients["s1"].request("WRITE", b"/a/b\0value")
    stage.clients["s1"].request("SET_PERMS", b"/a/b\0n1\0r2\0b3\0")
    assert run(stage, "xenstore-ls", "/a") == (0, 'b = "value"\n')
    assert run(stage, "xenstore-ls", "-f", "-p", "/a") == (0, '/a/b = "value"   (n1,r2,b3)\n')
    assert run(stage, "xenstore-ls") == (0, 'tool = ""\n xenstored = ""\na = ""\n b = "value"\n')


@needs_utils
def test_ls_shows_directories_that_fit_no_message(stage: XenstoreStage) -> None:
    names = [f"{number:04}{'n' * 60}" for number in range(500)]
    local = stage.service.local()
    for name in names:
        local.write(f"/many/{name}", "")
    status, text = run(stage, "xenstore-ls", "-f", "/many")
    assert (status, text.splitlines()) == (0, [f'/many/{name} = ""' for name in names])


@needs_utils
def test_chmod_changes_one_node_or_all_below(stage: XenstoreStage) -> None:
    stage.clients["s1"].request("MKDIR", b"/a/b\0")
    assert run(stage, "xenstore-chmod", "/a", "n1", "r2") == (0, "")
    local = stage.service.local()
    assert (local.permissions("/a"), local.permissions("/a/b")) == (("n1", "r2"), ("n0",))
    assert run(stage, "xenstore-chmod", "-r", "/a", "b3") == (0, "")
    assert (local.permissions("/a"), local.permissions("/a/b")) == (("b3",), ("b3",))


@needs_utils
def test_watch_prints_what_changes(stage: XenstoreStage) -> None:
    process = start(stage, "xenstore-watch", "-n", "3", "/a")
    local = stage.service.local()
    finish(stage, lambda: bool(select.select([process.stdout], [], [], 0)[0]))
    local.write("/a/b", "1")
    local.rm("/a")
    finish(stage, lambda: process.poll() is not None)
    assert process.communicate()[0].decode().splitlines() == ["/a", "/a/b", "/a"]


def in_thread(stage: XenstoreStage, work: Callable[[], Any]) -> Any:
    """Run a client that blocks, while the store is served here."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(work)
    finish(stage, future.done)
    executor.shutdown()
    return future.result()


def test_pyxs_reads_writes_and_transacts(stage: XenstoreStage) -> None:
    pyxs = pytest.importorskip("pyxs", reason="needs pyxs (in the test extra) to talk to the store")

    def work() -> Sequence[object]:
        with pyxs.Client(unix_socket_path=str(stage.path)) as client:
            client.write(b"/a/b", b"one")
            client.mkdir(b"/a/c")
            seen: list[object] = [client.read(b"/a/b"), client.list(b"/a"), client.exists(b"/a/x")]
            client.set_perms(b"/a/b", [b"n1", b"r2"])
            seen.append(client.get_perms(b"/a/b"))
            client.transaction()
            client.write(b"/a/b", b"two")
            client.commit()
            client.transaction()
            client.write(b"/a/b", b"three")
            client.rollback()
            seen += [client.read(b"/a/b"), client.get_domain_path(5), client.is_domain_introduced(5)]
            client.delete(b"/a")
            return [*seen, client.exists(b"/a")]

    assert in_thread(stage, work) == [
        *(b"one", [b"b", b"c"], False, [b"n1", b"r2"], b"two", b"/local/domain/5", False),
        False,
    ]


def test_pyxs_is_told_of_changes_and_of_conflicts(stage: XenstoreStage) -> None:
    pyxs = pytest.importorskip("pyxs", reason="needs pyxs (in the test extra) to talk to the store")

    def work() -> Sequence[object]:
        path = str(stage.path)
        with pyxs.Client(unix_socket_path=path) as client, pyxs.Client(unix_socket_path=path) as other:
            monitor = client.monitor()
            monitor.watch(b"/a", b"token")
            first = next(monitor.wait())
            other.write(b"/a/b", b"x")
            second = next(monitor.wait())
            client.transaction()
            client.read(b"/a/b")
            other.write(b"/a/b", b"y")
            return [tuple(first), tuple(second), client.commit()]

    assert in_thread(stage, work) == [(b"/a", b"token"), (b"/a/b", b"token"), False]
