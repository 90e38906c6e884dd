"""The guest's GDT: its frames are typed like page tables, and every descriptor in them is checked."""

from typing import Final

from pvemu.abi.arch_x86 import FIRST_RESERVED_GDT_ENTRY
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.cpu.segments import Descriptor
from pvemu.hypervisor.address_space import map_gdt
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.pv.descriptor_check import fixed_descriptor
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_SEG_DESC, PGT_WRITABLE

_ENTRIES_PER_FRAME: Final = 512


@hypercall("set_gdt")
def set_gdt(vcpu: Vcpu, frame_list: int, entries: int) -> int:
    """Install a GDT of up to 7168 entries (14 frames); none uninstalls it."""
    if entries > FIRST_RESERVED_GDT_ENTRY:
        raise HypercallError(Errno.EINVAL)
    domain = vcpu.domain
    number = -(-entries // _ENTRIES_PER_FRAME)
    raw = domain.memory.copy_from_guest(frame_list, number * 4) if number else b""
    frames = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
    install_gdt(vcpu, frames, entries)
    return 0


def install_gdt(vcpu: Vcpu, frames: list[int], entries: int) -> None:
    """Make frames of the domain a vCPU's GDT, and let go of the old one; raises HypercallError(EINVAL)."""
    if entries > FIRST_RESERVED_GDT_ENTRY:
        raise HypercallError(Errno.EINVAL)
    domain = vcpu.domain
    if domain.is_translated:
        domain.translation.descriptors.install_gdt(vcpu, frames)
        vcpu.gdt_entries = entries
        return
    hypervisor = domain.hypervisor
    types = hypervisor.page_types
    for taken, mfn in enumerate(frames):
        if types.get_page_and_type(mfn, domain, PGT_SEG_DESC):
            for done in frames[:taken]:
                types.put_page_and_type(done)
            raise HypercallError(Errno.EINVAL)
    old, vcpu.gdt_frames = vcpu.gdt_frames, frames
    vcpu.gdt_entries = entries
    map_gdt(hypervisor, vcpu)
    hypervisor.flush_tlb()
    for mfn in old:
        types.put_page_and_type(mfn)


def gdt_frame_numbers(vcpu: Vcpu) -> list[int]:
    """The frames of a vCPU's GDT, by the guest's own numbers."""
    domain = vcpu.domain
    return domain.translation.descriptors.gdt(vcpu) if domain.is_translated else vcpu.gdt_frames


@hypercall("update_descriptor")
def update_descriptor(vcpu: Vcpu, address: int, value: int) -> int:
    """Write one descriptor at a machine address: in a table, or in ordinary memory that may become one."""
    hypervisor = vcpu.domain.hypervisor
    fixed = fixed_descriptor(Descriptor.from_int(value))
    mfn = address >> 12
    if address & 7 or fixed is None or not hypervisor.frames.get_page(mfn, vcpu.domain.domid):
        raise HypercallError(Errno.EINVAL)
    types = hypervisor.page_types
    kind = PGT_SEG_DESC if hypervisor.frames.type[mfn] == PGT_SEG_DESC else PGT_WRITABLE
    failure = types.get_page_type(mfn, kind)
    if not failure:
        hypervisor.before_write(mfn)
        hypervisor.ram.u64[address >> 3] = fixed.low | fixed.high << 32
        types.put_page_type(mfn)
    types.put_page(mfn)
    return failure
