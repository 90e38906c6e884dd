"""Stands in front of the engine's abort(): code that it can't translate is an exit, not the process's end.

The engine's translator has assertions that a guest can trip (LOCK BT with a register operand is one). They
call abort(), through a slot of the library's table of imported functions. That slot is made to point to a
few bytes of native code, which leave the translator as a fault of the guest does: by a VM exit.
"""

import ctypes
import mmap
import struct
import threading
from collections.abc import Iterator
from typing import Final

from pvemu.cpu import exits
from pvemu.cpu.errors import EngineError
from pvemu.cpu.native_page import NativePage, function_address

# Finds this thread's entry (thread, state) in the table and calls leave(state, exit code, 0, 0); without one
# it goes on to the real abort():
#   mov rax, [fs:0x10] ; lea rcx, [table] ; lea rdx, [end] ; 1: cmp [rcx], rax ; je 2f ; add rcx, 16
#   cmp rcx, rdx ; jb 1b ; jmp [real] ; 2: mov rdi, [rcx+8] ; mov esi, code ; xor edx, edx ; xor ecx, ecx
#   and rsp, -16 ; call [leave]
_STUB: Final = bytes.fromhex(
    "64488b042510000000 488d0d50000000 488d15e90f0000 483901 740f 4883c110 4839d1 72f2 ff252d000000"
    "488b7908 be02040000 31d2 31c9 4883e4f0 ff150e000000"
)
_LEAVE, _REAL, _TABLE = 0x50, 0x58, 0x60
_ENTRY_SIZE: Final = 16
_EXIT_CODE: Final = exits.UNTRANSLATABLE - exits.VMEXIT

# Dynamic section tags (System V ABI, chapter 5), and the AMD64 relocation of an imported function.
_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_JMPREL = 2, 5, 6, 23
_PT_DYNAMIC: Final = 2
_R_X86_64_JUMP_SLOT: Final = 7


class AbortGuard:
    """The native code and its table of threads that run guests, one for the whole process.

    Args:
        library: the engine's library.

    Raises:
        EngineError: the library's slot was not found, or this host gives no executable memory.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._page = NativePage(_STUB, "the abort guard")
        self._words = self._page.words
        self._words[_LEAVE // 8] = function_address(library.cpu_vmexit_x86_64)
        self._words[_REAL // 8] = function_address(ctypes.CDLL(None).abort)
        self._free = list(range(_TABLE // 8, mmap.PAGESIZE // 8, _ENTRY_SIZE // 8))
        self._entries: dict[int, int] = {}
        slot = imported_function_slot(library, b"abort")
        ctypes.c_uint64.from_address(slot).value = self._page.address

    def enter(self, state: int) -> tuple[int, int]:
        """Say that this thread is about to run the engine whose CPU state is at a host address.

        Gives what `leave` is to be called with.

        Raises:
            EngineError: more threads run guests at once than the table holds (about 250).
        """
        thread = threading.get_ident()
        at = self._entries.get(thread)
        if at is None:
            if not self._free:
                raise EngineError("too many threads run guests at once")
            at = self._entries[thread] = self._free.pop()
            self._words[at] = thread
        before = self._words[at + 1]
        self._words[at + 1] = state
        return at, before

    def leave(self, at: int, before: int) -> None:
        """Say that this thread has come back from the engine."""
        self._words[at + 1] = before
        if not before:
            self._words[at] = 0
            del self._entries[threading.get_ident()]
            self._free.append(at)


def imported_function_slot(library: ctypes.CDLL, name: bytes) -> int:
    """Host address of the word through which a library calls a function of another one.

    Raises:
        EngineError: there is none.
    """
    base = _base(library)
    dynamic = dict(_dynamic_section(base))
    symbols, strings = dynamic[_DT_SYMTAB], dynamic[_DT_STRTAB]
    relocations = ctypes.string_at(dynamic[_DT_JMPREL], dynamic[_DT_PLTRELSZ])
    for offset, info, _addend in struct.iter_unpack("<QQq", relocations):
        if info & 0xFFFFFFFF != _R_X86_64_JUMP_SLOT:
            continue
        name_offset = ctypes.c_uint32.from_address(symbols + 24 * (info >> 32)).value
        if ctypes.string_at(strings + name_offset, len(name) + 1) == name + b"\0":
            return base + int(offset)
    raise EngineError(f"Unicorn does not import {name.decode()}; run `pvemu doctor`")


class _Info(ctypes.Structure):
    """`Dl_info`: which library an address belongs to."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _base(library: ctypes.CDLL) -> int:
    info = _Info()
    if not ctypes.CDLL(None).dladdr(ctypes.cast(library.uc_open, ctypes.c_void_p), ctypes.byref(info)):
        raise EngineError("the Unicorn library was not found in memory; run `pvemu doctor`")
    base: int = info.base
    return base


def _dynamic_section(base: int) -> Iterator[tuple[int, int]]:
    """Tags and values; the loader has made addresses of those that are some."""
    header = ctypes.string_at(base, 64)
    table, entry_size, number = struct.unpack_from("<32xQ14xHH", header)
    for index in range(number):
        kind, address = struct.unpack("<I12xQ", ctypes.string_at(base + table + index * entry_size, 24))
        if kind != _PT_DYNAMIC:
            continue
        at = base + address
        while True:
            tag, value = struct.unpack("<QQ", ctypes.string_at(at, 16))
            if not tag:
                return
            yield tag, value
            at += 16
