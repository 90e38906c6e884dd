"""Captures what passes a switch in a classic pcap file, which Wireshark and tcpdump read."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.services.net.frame import PLAIN, Frame
from pvemu.services.net.offload import prepare

_MAGIC: Final = 0xA1B2C3D4  # times in microseconds
_LINKTYPE_ETHERNET: Final = 1
_LONGEST: Final = 0x40000


class PcapWriter:
    """A capture; give its `capture` to Switch.observe.

    Frames are written as they would be on a wire: checksums made, large packets cut.

    Args:
        now: the virtual clock, in nanoseconds since the epoch that the times in the file count from.
        warn: told when the file can't be written any more, after which the capture is over.

    Raises:
        PvemuError: the file can't be made.
    """

    def __init__(self, path: Path, now: Callable[[], int], warn: Callable[[str], None]) -> None:
        self._path = path
        self._now = now
        self._warn = warn
        try:
            # Unbuffered: whoever reads along, or finds the file after a crash, has whole packets.
            self._file = path.open("wb", buffering=0)
            self._file.write(struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _LONGEST, _LINKTYPE_ETHERNET))
        except (OSError, ValueError) as cause:
            reason = cause.strerror if isinstance(cause, OSError) else "no file has such a name"
            raise PvemuError(f"can't write packets to {path}: {reason}") from cause

    def capture(self, frame: Frame) -> None:
        """Write one frame."""
        seconds, nanoseconds = divmod(self._now(), 1_000_000_000)
        for piece in prepare(frame, PLAIN):
            if self._file.closed:
                return
            size = len(piece.data)
            record = struct.pack("<IIII", seconds & 0xFFFFFFFF, nanoseconds // 1000, size, size) + piece.data
            try:
                written = self._file.write(record)
            except OSError as cause:
                self._stop(cause.strerror)
                return
            if written != len(record):
                self._stop("only part of a packet was taken")

    def close(self) -> None:
        """End the capture."""
        self._file.close()

    def _stop(self, reason: str | None) -> None:
        self._file.close()
        self._warn(f"the capture in {self._path} ends here: {reason}")
