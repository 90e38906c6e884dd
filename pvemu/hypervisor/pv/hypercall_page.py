"""The page of code through which a 32-bit PV guest makes its hypercalls: 32 bytes for each number."""

from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.memory.ram import PAGE_SIZE

_STUB_SIZE: Final = 32
_FILLER: Final = b"\xcc"
#: mov eax, number ; int 0x82 ; ret. The iret stub is jumped to, and leaves eax on the stack.
_CALL: Final = b"\xb8%s\xcd\x82\xc3"
_IRET: Final = b"\x50\xb8%s\xcd\x82"


def hypercall_page() -> bytes:
    """The contents of the page (dumped from real Xen: tests/golden/entry)."""
    iret = BY_NAME["iret"].number
    stubs = (
        (_IRET if number == iret else _CALL).replace(b"%s", number.to_bytes(4, "little"))
        for number in range(PAGE_SIZE // _STUB_SIZE)
    )
    return b"".join(stub.ljust(_STUB_SIZE, _FILLER) for stub in stubs)
