"""What a disk image is to the back end, and the raw file that is one."""

import ctypes
import errno
import fcntl
import os
import stat
from typing import Final, Protocol

from pvemu.abi.errors import PvemuError

SECTOR: Final = 512
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class ImageError(Exception):
    """The image can't do what was asked, told to the guest as a failed request."""


class Image(Protocol):
    """Storage of a fixed size. Offsets and sizes are in bytes, multiples of 512, inside the image."""

    @property
    def size(self) -> int:
        """Bytes, a multiple of 512."""

    @property
    def writable(self) -> bool:
        """Whether `write` and `discard` may be called."""

    @property
    def discards(self) -> bool:
        """Whether `discard` may be called."""

    def read(self, offset: int, size: int) -> bytes:
        """Exactly so many bytes; raises ImageError."""

    def write(self, offset: int, data: bytes) -> None:
        """Replace bytes; raises ImageError."""

    def flush(self) -> None:
        """Return when all that was written will survive the end of this process; raises ImageError."""

    def discard(self, offset: int, size: int) -> None:
        """Give storage back: what was there reads as zeros; raises ImageError."""

    def close(self) -> None:
        """Give the image back."""


class RawImage:
    """A file, or a block device of the host, whose bytes are the disk's.

    A file is locked as long as it is open: one writer, or any number of readers.

    Raises:
        PvemuError: it can't be opened so, is no file, is empty, or has no whole number of sectors.
    """

    def __init__(self, path: str, *, writable: bool) -> None:
        self.writable = writable
        self._path = path
        # O_NONBLOCK: opening a pipe would wait for its other end.
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(path, flags)
        except (OSError, ValueError) as cause:  # ValueError: a NUL in the name
            reason = cause.strerror if isinstance(cause, OSError) else "no file has such a name"
            raise PvemuError(f"can't open disk image {path} ({reason}): {_advice(path, cause)}") from cause
        try:
            self.size = self._measure()
            self._lock()
        except PvemuError:
            os.close(self._fd)
            raise
        self.discards = writable and self._can_punch_holes()

    def read(self, offset: int, size: int) -> bytes:
        """Exactly so many bytes; raises ImageError, also when the file has been made shorter."""
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    raise ImageError(f"{self._path} has become shorter than {self.size} bytes")
                data += more
        except OSError as cause:
            raise ImageError(f"{self._path}: {cause.strerror}") from cause
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Replace bytes; raises ImageError."""
        try:
            done = 0
            while done < len(data):
                written = os.pwrite(self._fd, data[done:] if done else data, offset + done)
                if not written:
                    raise ImageError(f"{self._path} takes no more than {offset + done} bytes")
                done += written
        except OSError as cause:
            raise ImageError(f"{self._path}: {cause.strerror}") from cause

    def flush(self) -> None:
        """Return when the host says that all is on the disk (fdatasync); raises ImageError."""
        try:
            os.fdatasync(self._fd)
        except OSError as cause:
            raise ImageError(f"{self._path}: {cause.strerror}") from cause

    def discard(self, offset: int, size: int) -> None:
        """Make a hole in the file; raises ImageError."""
        if size and not self._punch(offset, size):
            raise ImageError(f"{self._path}: {os.strerror(ctypes.get_errno())}")

    def close(self) -> None:
        """Close the file, which unlocks it."""
        os.close(self._fd)

    def _measure(self) -> int:
        mode = os.fstat(self._fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            what = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a block device"
            raise PvemuError(f"disk image {self._path} is {what}")
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if not size:
            raise PvemuError(f"disk image {self._path} is empty: make one with truncate -s 64M {self._path}")
        if size % SECTOR:
            raise PvemuError(
                f"disk image {self._path} has {size} bytes, which is no whole number of 512-byte sectors: "
                f"pad it with truncate -s %512 {self._path}"
            )
        return size

    def _lock(self) -> None:
        kind = fcntl.LOCK_EX if self.writable else fcntl.LOCK_SH
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise PvemuError(
                f"disk image {self._path} is in use: "
                + ("it can't be written by two" if self.writable else "somebody writes it")
            ) from held
        except OSError as cause:
            # Some network file systems have no locks; the image can be used, only unprotected.
            if cause.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise PvemuError(f"can't lock disk image {self._path}: {cause.strerror}") from cause

    def _can_punch_holes(self) -> bool:
        # Beyond the end there is nothing to lose, and a file system that can't says so there, too.
        return stat.S_ISREG(os.fstat(self._fd).st_mode) and self._punch(self.size, SECTOR)

    def _punch(self, offset: int, size: int) -> bool:
        mode = _KEEP_SIZE | _PUNCH_HOLE
        result: int = _fallocate(self._fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size))
        return result == 0


def _advice(path: str, cause: Exception) -> str:
    """What a person can do when an image can't be opened."""
    if isinstance(cause, FileNotFoundError):
        return f"give a raw image, or make one with truncate -s 64M {path}"
    return "give a file that you may read and write, or only read: with r, or overlay, after its name"


# Python's os has no fallocate with a mode.
_fallocate: Final = ctypes.CDLL(None, use_errno=True).fallocate
