"""The names that every program knows: constants and structures of Xen's ABI, registers and keywords."""

from functools import cache

from guestkit.x86.operands import REGISTERS
from pvemu.abi import vocabulary

KEYWORDS = frozenset(
    {"byte", "word", "dword", "qword", "tword", "oword", "ptr", "short", "near", "far", "rel", "abs"}
)
"""Words that have a meaning among operands, so that a symbol of that name could not be used there."""

_FOLDERS = {"arch_x86": "arch-x86/xen", "start_info": "arch-x86/hvm/start_info"}
"""Where the headers of modules are that are called otherwise, or lie in a folder."""

constants = vocabulary.constants
structures = vocabulary.structures


@cache
def _headers() -> dict[str, str]:
    """Return for each name of the ABI the public header that it comes from."""
    headers: dict[str, str] = {}
    for name in constants():
        if name.startswith("__HYPERVISOR_"):
            headers[name] = "xen.h"
    for module in vocabulary.HEADERS:
        stem = module.__name__.rpartition(".")[2]
        header = _FOLDERS.get(stem, stem) + ".h"
        for name in vars(module):
            headers.setdefault(name, header)
    return headers


def reserved_because(name: str) -> str | None:
    """Say why a program can't define a symbol of this name; None when it can."""
    if name.lower() in REGISTERS:
        return f"{name} is a register"
    if name.lower() in KEYWORDS:
        return f'"{name}" is a keyword among operands'
    if name in structures():
        return f"{name} is a structure of Xen's ABI ({_headers().get(name, 'public headers')})"
    if name in constants():
        return f"{name} is a constant of Xen's ABI ({_headers().get(name, 'errno.h')})"
    return None
