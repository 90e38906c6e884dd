"""Frame numbers as guests give them: of machine frames; in a translated domain, numbers of its own."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

#: What the machine-to-physical map has for a frame that is at no gfn.
INVALID_M2P: Final = 0xFFFFFFFF
#: A machine frame that no machine has.
INVALID_MFN: Final = (1 << 64) - 1


def machine_frame(domain: "Domain", number: int) -> int:
    """The machine frame that a domain means by a number (Xen: get_page_from_gfn); INVALID_MFN for none."""
    if not domain.is_translated:
        return number
    mfn = domain.p2m.get(number)
    return INVALID_MFN if mfn is None else mfn


def frame_number(domain: "Domain", mfn: int) -> int:
    """The number by which a domain knows a machine frame (Xen: mfn_to_gfn); INVALID_MFN: by none."""
    if not domain.is_translated:
        return mfn
    gfn = domain.hypervisor.m2p.get(mfn)
    return INVALID_MFN if gfn == INVALID_M2P else gfn
