"""IN and OUT of an HVM guest: who may, and which device answers."""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import flags, layout
from pvemu.hypervisor.hvm.segment_registers import read_segment
from pvemu.hypervisor.hvm.string_ports import move_the_rest
from pvemu.memory.guest_walk import GuestPageFault

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_HFLAGS, _EFLAGS = layout.HFLAGS // 4, layout.EFLAGS // 8
_IOPL_SHIFT: Final = 12
#: Of a task-state segment: where it says at which of its bytes the map of ports begins.
_MAP_BASE: Final = 0x66
#: Of its descriptor's attributes: that it has 32 bits.
_WIDE_TASK: Final = 1 << 11


def port_in(vcpu: "Vcpu", port: int, size: int) -> int | None:
    """What IN reads; None for #GP."""
    if not _may_access(vcpu, port, size):
        return None
    if vcpu.domain.has_shut_down:
        return (1 << 8 * size) - 1
    vcpu.domain.hvm.upcalls.left_guest()
    ports = vcpu.domain.hvm.ports
    value = ports.read(port, size)
    if size > 1 and port in ports.strings:
        move_the_rest(vcpu, ports.strings[port], size, is_write=False)
    return value


def port_out(vcpu: "Vcpu", port: int, size: int, value: int) -> bool:
    """Do what OUT does; False for #GP."""
    if not _may_access(vcpu, port, size):
        return False
    if vcpu.domain.has_shut_down:
        return True  # what stands behind the end in the same block of code still runs, but nobody sees it
    vcpu.domain.hvm.upcalls.left_guest()
    ports = vcpu.domain.hvm.ports
    ports.write(port, size, value)
    if size > 1 and port in ports.strings:
        move_the_rest(vcpu, ports.strings[port], size, is_write=True)
    if vcpu.domain.has_shut_down:
        vcpu.domain.hypervisor.reschedule()
    return True


def _may_access(vcpu: "Vcpu", port: int, size: int) -> bool:
    """Above IOPL, and always in virtual-8086 mode, the TSS decides (APM volume 2, section 12.2.4).

    One of 16 bits has no map of ports.
    """
    window = vcpu.domain.hypervisor.cpu.window
    hflags, rest = window.u32[_HFLAGS], window.u64[_EFLAGS]
    if not hflags & layout.HF_PE:
        return True
    if hflags & layout.HF_CPL <= rest >> _IOPL_SHIFT & 3 and not rest & flags.VM:
        return True
    task, memory = read_segment(window, layout.TR), vcpu.hvm.linear_memory
    try:
        if task.limit < _MAP_BASE + 1 or not task.attributes & _WIDE_TASK:
            return False
        offset = int.from_bytes(memory.read(task.base + _MAP_BASE, 2), "little") + port // 8
        if offset + 1 > task.limit:
            return False
        bits = int.from_bytes(memory.read(task.base + offset, 2), "little") >> port % 8
    except GuestPageFault:
        return False
    return not bits & (1 << size) - 1
