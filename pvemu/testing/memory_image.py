"""What is in a machine's RAM at one moment, put back by the host's virtual memory: it costs what was changed.

The contents go into a file in memory, which is mapped privately in the place of the RAM. A page that is
written gets a copy of its own from the host's kernel; to forget all copies is one system call. So nothing
has to be compared, and a page that nobody wrote costs nothing.
"""

import ctypes
import mmap
import os
import weakref
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.memory.ram import PAGE_SIZE, Ram

_MAP_FIXED: Final = 0x10
_ZEROS: Final = bytes(PAGE_SIZE)

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
)


class MemoryImage:
    """The contents of a RAM, as they are now.

    Raises:
        PvemuError: the host refuses memory for them.
    """

    def __init__(self, ram: Ram) -> None:
        self._ram = ram
        self._file = os.memfd_create("pvemu-snapshot")
        weakref.finalize(self, os.close, self._file)
        os.ftruncate(self._file, ram.size)
        for at in range(0, ram.size, PAGE_SIZE):
            page = bytes(ram.u8[at : at + PAGE_SIZE])
            if page != _ZEROS:
                os.pwrite(self._file, page, at)
        self.restore()

    def restore(self) -> None:
        """Put the contents back. Code that the engine has translated is not looked at here."""
        address = self._ram.host_address
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        at = _mmap(address, self._ram.size, protection, mmap.MAP_PRIVATE | _MAP_FIXED, self._file, 0)
        if at != address:
            raise PvemuError(f"the host can't put the memory back ({os.strerror(ctypes.get_errno())})")
