"""Images as people have them: odd sizes, missing rights, files that change meanwhile, a killed process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from block_front import ERROR, FLUSH, OKAY, READ, WRITE, BlockFront, World

from pvemu.abi.errors import PvemuError
from pvemu.services.block.disk import DiskSpec, open_image
from pvemu.services.block.image import ImageError, RawImage
from pvemu.services.block.overlay import OverlayImage


def refused(path: Path, *, writable: bool = True) -> str:
    with pytest.raises(PvemuError) as refusal:
        open_image(DiskSpec(str(path), "xvda", writable=writable))
    message = str(refusal.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_files_that_are_no_disk_are_refused_with_the_reason(tmp_path: Path) -> None:
    odd, empty, pipe = tmp_path / "odd", tmp_path / "empty", tmp_path / "pipe"
    odd.write_bytes(bytes(1000))
    empty.touch()
    os.mkfifo(pipe)
    assert "1000 bytes" in refused(odd)
    assert "empty" in refused(empty)
    assert "irectory" in refused(tmp_path)
    assert "directory" in refused(tmp_path, writable=False)
    assert "neither" in refused(pipe)
    assert "neither" in refused(Path("/dev/null"))
    assert "No such file" in refused(tmp_path / "missing")
    assert "no file has such a name" in refused(tmp_path / "a\0b")


def test_a_file_without_rights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    path.chmod(0)
    # Root may open anything; from a relative name, because nobody else may enter root's directories.
    program = (
        "import os\n"
        "from pvemu.abi.errors import PvemuError\n"
        "from pvemu.services.block.image import RawImage\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: RawImage('disk', writable=False)\n"
        "except PvemuError as refusal: print(refusal)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.startswith("can't open disk image disk (Permission denied): give a file")


def test_an_image_has_one_writer_or_many_readers(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(512))
    readers = [RawImage(str(path), writable=False) for _ in range(2)]
    assert "in use" in refused(path)
    for reader in readers:
        reader.close()
    writer = RawImage(str(path), writable=True)
    assert "in use" in refused(path)
    assert "in use" in refused(path, writable=False)
    writer.close()
    RawImage(str(path), writable=True).close()


def test_an_image_that_is_cut_short_meanwhile_gives_errors_and_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(8192))
    world = World()
    world.attach(path)
    front = BlockFront(world)
    front.page(50)
    os.truncate(path, 4096)
    assert [front.do(READ, 8, [(50, 0, 7)]) for _ in range(2)] == [ERROR, ERROR]
    assert front.do(READ, 0, [(50, 0, 7)]) == OKAY
    assert len(world.warnings) == 1
    assert str(path) in world.warnings[0]


def test_an_image_that_is_removed_meanwhile_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(512) * 8)
    world = World()
    world.attach(path)
    front = BlockFront(world)
    front.page(50)[:] = b"\x55" * 4096
    path.unlink()
    assert [front.do(WRITE, 0, [(50, 0, 0)]), front.do(READ, 0, [(50, 1, 1)])] == [OKAY, OKAY]


def test_a_full_disk_of_the_host_is_an_error_for_the_guest() -> None:
    class Full(RawImage):
        def write(self, offset: int, data: bytes) -> None:
            raise ImageError("No space left on device")

    program = Path(__file__)
    image = Full.__new__(Full)
    image.size, image.writable, image.discards = 4096, True, False
    world = World()
    world.attach(program, image=image)
    front = BlockFront(world)
    front.page(50)
    assert front.do(WRITE, 0, [(50, 0, 0)]) == ERROR
    assert world.warnings == ["No space left on device"]


def test_an_overlay_that_is_full_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(512) * 64)
    overlay = OverlayImage(RawImage(str(path), writable=False), limit=8192)
    overlay.write(512, b"a" * 512)
    overlay.write(4096, b"b" * 512)
    with pytest.raises(ImageError, match="full"):
        overlay.write(8192 - 512, b"c" * 1024)
    overlay.write(1024, b"d" * 512)
    assert overlay.read(0, 8192) == (
        bytes(512) + b"a" * 512 + b"d" * 512 + bytes(2560) + b"b" * 512 + bytes(3584)
    )


def test_what_an_overlay_keeps_outlives_the_device(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(4096))
    overlay = open_image(DiskSpec(str(path), "xvda", overlay=True))
    world = World()
    world.attach(path, image=overlay)
    first = BlockFront(world)
    first.page(50)[:512] = b"\x77" * 512
    assert first.do(WRITE, 0, [(50, 0, 0)]) == OKAY
    world.backend.detach_all(1)
    world.attach(path, image=overlay)
    second = BlockFront(world)
    page = second.page(51)
    assert second.do(READ, 0, [(51, 0, 0)]) == OKAY
    assert page[:512] == b"\x77" * 512


@pytest.mark.parametrize("operation", ["FLUSH", "BARRIER"])
def test_what_was_flushed_is_on_disk_when_the_process_is_killed(tmp_path: Path, operation: str) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(4096))
    program = (
        "import os, sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
        "from pathlib import Path\n"
        "import block_front as block\n"
        "synced = []\n"
        "real = os.fdatasync\n"
        "os.fdatasync = lambda fd: (real(fd), synced.append(fd))\n"
        "world = block.World()\n"
        "world.attach(Path(sys.argv[1]))\n"
        "front = block.BlockFront(world)\n"
        "front.page(50)[:512] = b'\\x99' * 512\n"
        "assert front.do(block.WRITE, 3, [(50, 0, 0)]) == block.OKAY\n"
        "assert not synced\n"
        f"assert front.do(block.{operation}, 0) == block.OKAY\n"
        "print(len(synced), flush=True)\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout) == (-signal.SIGKILL, "1\n"), run.stderr
    assert path.read_bytes() == bytes(1536) + b"\x99" * 512 + bytes(2048)


def test_a_flush_that_fails_is_told_to_the_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(4096))
    world = World()
    world.attach(path)
    front = BlockFront(world)

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    assert front.do(FLUSH, 0) == ERROR
    assert world.warnings == [f"{path}: Input/output error"]
