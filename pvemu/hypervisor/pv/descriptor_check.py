"""Which descriptors may stand in a guest's tables, and how Xen mends those that nearly may.

What is fixed rather than refused: a DPL of 0 becomes 1; a flat segment that ends below the hypervisor
covers all 4 GiB; a call gate keeps its DPL in the selector's RPL and gets DPL 0, so that using it traps
(golden: set_gdt, update_descriptor).
"""

from typing import TYPE_CHECKING, Final

from pvemu.abi.arch_x86 import FIRST_RESERVED_GDT_ENTRY, FLAT_RING1_CS, HYPERVISOR_VIRT_START_PAE
from pvemu.cpu.segments import DPL_SHIFT, LONG, NOT_SYSTEM, PRESENT, Descriptor

if TYPE_CHECKING:
    from pvemu.memory.ram import Ram

_TYPE_MASK: Final = 0xF00
_CALL_GATE: Final = 0xC00
_GATE_RESERVED: Final = 0xE0
_DPL_MASK: Final = 3 << DPL_SHIFT
_LOCAL: Final = 4


def fixed_descriptor(descriptor: Descriptor) -> Descriptor | None:
    """The descriptor as it may stand in a guest's table; None: it may not."""
    low, high = descriptor
    if not high & PRESENT:
        return descriptor
    dpl = descriptor.dpl or 1
    high = high & ~_DPL_MASK | dpl << DPL_SHIFT
    if high & NOT_SYSTEM:
        if high & LONG:
            return None
        beyond = descriptor.limit + 1 > HYPERVISOR_VIRT_START_PAE
        if descriptor.base == 0 and beyond:
            low, high = low | 0xFFFF, high | 0xF0000
        return Descriptor(low, high)
    if high & _TYPE_MASK == 0:
        return descriptor
    selector = low >> 16
    if high & _TYPE_MASK != _CALL_GATE or high & _GATE_RESERVED or not _gate_target_okay(selector):
        return None
    return Descriptor(low & 0xFFFF | (selector & ~3 | dpl) << 16, high & ~_DPL_MASK)


def _gate_target_okay(selector: int) -> bool:
    """Whether a call gate may lead to a selector: the guest's own segments, or the kernel's flat one."""
    return selector >> 3 < FIRST_RESERVED_GDT_ENTRY or selector == FLAT_RING1_CS or bool(selector & _LOCAL)


def validate_descriptor_frame(ram: "Ram", mfn: int) -> bool:
    """Fix every descriptor of a frame that is to be part of a table; False when one may not stand there."""
    table = ram.u64[mfn << 9 : (mfn + 1) << 9]
    for index, value in enumerate(table.tolist()):
        fixed = fixed_descriptor(Descriptor.from_int(value))
        if fixed is None:
            return False
        table[index] = fixed.low | fixed.high << 32
    return True
