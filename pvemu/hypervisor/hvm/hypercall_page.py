"""The page of code through which an HVM guest makes its hypercalls: 32 bytes for each number."""

from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.memory.ram import PAGE_SIZE

_STUB_SIZE: Final = 32
_FILLER: Final = b"\xcc"
#: mov eax, number ; vmmcall ; ret: the processor says it is AMD's.
_CALL: Final = b"\xb8%s\x0f\x01\xd9\xc3"
#: An HVM guest has no use for the iret hypercall: ud2.
_IRET: Final = b"\x0f\x0b"


def hypercall_page() -> bytes:
    """The contents of the page."""
    iret = BY_NAME["iret"].number
    stubs = (
        _IRET if number == iret else _CALL.replace(b"%s", number.to_bytes(4, "little"))
        for number in range(PAGE_SIZE // _STUB_SIZE)
    )
    return b"".join(stub.ljust(_STUB_SIZE, _FILLER) for stub in stubs)
