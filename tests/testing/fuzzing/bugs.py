"""Bugs for campaigns to find: files that a job runs first (`pvemu fuzz --extra`), each puts one in."""

from pathlib import Path

#: A guest writes wherever its pointer leads.
WILD_WRITES = """
from pvemu.memory.guest import GuestFault, GuestMemory
from pvemu.memory.page_tables import WRITABLE, walk

sound = GuestMemory._translate

def translate(self, address, right):
    if right != WRITABLE:
        return sound(self, address, right)
    found = None if self._root is None else walk(self._ram, self._form, self._root, address)
    if found is None or found.address >= self._ram.size:
        raise GuestFault(address)
    return found.address & ~0xFFF

GuestMemory._translate = translate
"""

#: A hypercall of the family ends the process, hangs for ever or raises what nobody expects.
_IN_GET_DEBUGREG = """
import os, signal, time
from pvemu.hypervisor import core

sound = core.Hypervisor.call

def call(self, vcpu, number, words):
    if number == {number}:
        {what}
    return sound(self, vcpu, number, words)

core.Hypervisor.call = call
"""
GET_DEBUGREG = 9
SEGFAULT = _IN_GET_DEBUGREG.format(number=GET_DEBUGREG, what="os.kill(os.getpid(), signal.SIGSEGV)")
ENDLESS = _IN_GET_DEBUGREG.format(number=GET_DEBUGREG, what="time.sleep(3600)")
ZERO_DIVISION = _IN_GET_DEBUGREG.format(number=GET_DEBUGREG, what="return 1 // 0")


def plant(folder: Path, text: str) -> str:
    """A file with a bug in it; its path."""
    path = folder / "bug.py"
    path.write_text(text)
    return str(path)
