"""Looking up what a selector names, and the processor's checks when it is loaded.

Checks: AMD64 Architecture Programmer's Manual volume 2, section 4.10 (loading CS and SS on a return).
"""

from typing import Final

from pvemu.abi.arch_x86 import (
    FIRST_RESERVED_GDT_ENTRY,
    FLAT_RING1_CS,
    FLAT_RING1_SS,
    FLAT_RING3_CS,
    FLAT_RING3_SS,
)
from pvemu.cpu import layout
from pvemu.cpu.segments import (
    BIG,
    DPL_SHIFT,
    GRANULAR,
    NOT_SYSTEM,
    PRESENT,
    TYPE_ACCESSED,
    TYPE_WRITABLE,
    Descriptor,
    null_segment,
)
from pvemu.hypervisor.address_space import FLAT_SEGMENTS
from pvemu.hypervisor.pv.ldt import fault_in
from pvemu.hypervisor.vcpu import Vcpu

_BY_INDEX: Final = {selector & ~7: descriptor for selector, descriptor in FLAT_SEGMENTS.items()}
#: Selectors of the flat segments in the form in which the processor caches them.
CACHED_FLAT: Final = {selector: descriptor.cached(selector) for selector, descriptor in FLAT_SEGMENTS.items()}

#: Pairs of flat CS and SS that belong together, and their cached forms.
FLAT_RINGS: Final = {
    (code, stack): (CACHED_FLAT[code], CACHED_FLAT[stack])
    for code, stack in ((FLAT_RING1_CS, FLAT_RING1_SS), (FLAT_RING3_CS, FLAT_RING3_SS))
}

_PROGRAMS: Final = 3
#: High word of a flat segment of writable data, without DPL.
_FLAT_DATA: Final = 0xF0000 | GRANULAR | BIG | PRESENT | NOT_SYSTEM | TYPE_WRITABLE | TYPE_ACCESSED
_LOCAL: Final = 4  #: bit of a selector that names the LDT
_WITH_BASES: Final = (layout.FS, layout.GS)
_DATA_SEGMENTS: Final = (layout.ES, layout.DS, *_WITH_BASES)


def read_descriptor(vcpu: Vcpu, selector: int) -> Descriptor | None:
    """The descriptor that a selector names in the vCPU's tables; None beyond their end."""
    index = selector >> 3
    if vcpu.domain.is_translated and (selector & _LOCAL or index < FIRST_RESERVED_GDT_ENTRY):
        return vcpu.domain.translation.descriptors.read(vcpu, selector)
    if selector & _LOCAL:
        page = index >> 9
        if index >= vcpu.ldt_entries or not (page in vcpu.ldt_pages or fault_in(vcpu, index * 8)):
            return None
        return _descriptor_at(vcpu, vcpu.ldt_pages[page], index)
    if index >= FIRST_RESERVED_GDT_ENTRY:
        return _BY_INDEX.get(selector & ~7)
    page = index >> 9
    if index == 0 or page >= len(vcpu.gdt_frames):
        return None
    return _descriptor_at(vcpu, vcpu.gdt_frames[page], index)


def _descriptor_at(vcpu: Vcpu, mfn: int, index: int) -> Descriptor:
    return Descriptor.from_int(vcpu.domain.hypervisor.ram.u64[(mfn << 9) + (index & 511)])


def code_segment(vcpu: Vcpu, selector: int) -> bytes | None:
    """The cached form of a selector that may become CS; None when the processor would refuse it.

    Ring 0 and 64-bit segments are refused too: no 32-bit guest can have one.
    """
    flat = CACHED_FLAT.get(selector)
    descriptor = FLAT_SEGMENTS[selector] if flat else read_descriptor(vcpu, selector)
    if descriptor is None or not descriptor.is_code or not descriptor.present:
        return None
    ring = selector & 3
    fits = descriptor.dpl <= ring if descriptor.is_conforming else descriptor.dpl == ring
    return (flat or descriptor.cached(selector)) if ring and fits else None


def stack_segment(vcpu: Vcpu, selector: int, ring: int) -> bytes | None:
    """The cached form of a selector that may become SS in a ring; None when the processor would refuse it.

    The null selector is good outside ring 3, since it is 64-bit code that loads it; what is loaded is flat.
    """
    if not selector & ~3 and ring != _PROGRAMS:
        return Descriptor(0xFFFF, _FLAT_DATA | ring << DPL_SHIFT).cached(selector)
    flat = CACHED_FLAT.get(selector)
    descriptor = FLAT_SEGMENTS[selector] if flat else read_descriptor(vcpu, selector)
    if descriptor is None or not descriptor.is_writable_data or not descriptor.present:
        return None
    return (flat or descriptor.cached(selector)) if selector & 3 == ring == descriptor.dpl else None


def segment_base(vcpu: Vcpu, selector: int) -> int:
    """The linear address at which a selector's segment begins; 0 for one that names nothing."""
    descriptor = read_descriptor(vcpu, selector)
    return 0 if descriptor is None else descriptor.base


def drop_inner_data_segments(vcpu: Vcpu, ring: int) -> None:
    """Make null every data segment register that code of an outer ring may not keep.

    FS and GS keep a null selector as it is: their bases may count.
    """
    cpu = vcpu.domain.hypervisor.cpu
    u32 = cpu.window.u32
    for register in _DATA_SEGMENTS:
        at = (layout.SEGMENTS + register * layout.SEGMENT_SIZE) // 4
        if register in _WITH_BASES and not u32[at] & 0xFFFC:
            continue
        descriptor = Descriptor(0, u32[at + layout.ATTRIBUTES // 4])
        if not descriptor.is_conforming and descriptor.dpl < ring:
            cpu.set_segment(register, null_segment())
