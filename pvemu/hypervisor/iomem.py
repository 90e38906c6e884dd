"""Memory that is no RAM: what domain 0 may map of it, and how (golden: mmu_update-val-*-mmio-*)."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.memory.page_tables import CACHE_DISABLE, LARGE, WRITABLE, WRITE_THROUGH

_EPERM, _EINVAL = -int(Errno.EPERM), -int(Errno.EINVAL)

#: Bit 7 of an L1 entry: with the two others it selects one of eight cache types.
_PAT: Final = LARGE
_CACHE_BITS: Final = WRITE_THROUGH | CACHE_DISABLE | _PAT

#: The processor has 40 address bits. The last 12 GiB below that are its links' (HyperTransport).
_FRAMES: Final = 1 << 28
_LINKS: Final = range(_FRAMES - (3 << 20), _FRAMES)
#: Local APIC and interrupt messages.
_INTERRUPTS: Final = range(0xFEE00, 0xFEF00)
#: The I/O APIC may be looked at only.
_IO_APIC: Final = 0xFEC00
_INVALID_MFN: Final = (1 << 40) - 1


def iomem_refusal(mfn: int) -> int:
    """The error for a frame that a domain may not map: -EINVAL for the invalid frame number, else -EPERM."""
    return _EINVAL if mfn == _INVALID_MFN else _EPERM


def iomem_flags(entry: int, mfn: int) -> int:
    """Bits to flip in an L1 entry of domain 0 for such a frame: it is not cached; or a negative errno."""
    if mfn >= _FRAMES or mfn in _LINKS or mfn in _INTERRUPTS:
        return iomem_refusal(mfn)
    flip = entry & WRITABLE if mfn == _IO_APIC else 0
    cache = entry & _CACHE_BITS
    if cache == 0:
        return flip | WRITE_THROUGH | CACHE_DISABLE
    if cache & ~_PAT == WRITE_THROUGH:
        return flip | CACHE_DISABLE | cache & _PAT
    return flip
