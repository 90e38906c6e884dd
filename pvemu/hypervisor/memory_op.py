"""The memory_op hypercall: how many frames a domain has, giving some back and getting others.

The commands on extents return how many they did, so a bad pointer is 0 and no error (golden: memory_op).
"""

import struct
from collections.abc import Callable
from typing import Any, Final

from pvemu.abi.arch_x86 import MACH2PHYS_VIRT_START_PAE
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.memory import (
    XENMEM_add_to_physmap,
    XENMEM_current_reservation,
    XENMEM_decrease_reservation,
    XENMEM_exchange,
    XENMEM_get_sharing_freed_pages,
    XENMEM_get_sharing_shared_pages,
    XENMEM_increase_reservation,
    XENMEM_machine_memory_map,
    XENMEM_machphys_compat_mfn_list,
    XENMEM_machphys_mapping,
    XENMEM_machphys_mfn_list,
    XENMEM_maximum_gpfn,
    XENMEM_maximum_ram_page,
    XENMEM_maximum_reservation,
    XENMEM_memory_map,
    XENMEM_populate_physmap,
    XENMEM_remove_from_physmap,
    xen_add_to_physmap,
    xen_machphys_mapping,
    xen_machphys_mfn_list,
    xen_memory_domain,
    xen_memory_map,
    xen_memory_reservation,
    xen_remove_from_physmap,
)
from pvemu.abi.structure import Structure
from pvemu.abi.xen import shared_info
from pvemu.hypervisor.continuation import REQUEST_COST, Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.memory_exchange import exchange
from pvemu.hypervisor.physmap import (
    address_bits,
    allocate_extent,
    any_domain,
    frame_limit,
    max_order,
    release_frame,
)
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_SHIFT

_EXTENT_SHIFT: Final = 6
_COMMAND_MASK: Final = (1 << _EXTENT_SHIFT) - 1
_MOST_EXTENTS: Final = 0xFFFFFFFF >> _EXTENT_SHIFT

#: Where the machine-to-physical map could reach, in entries, too (golden: machphys_mapping).
_M2P_VIRT_END: Final = 0xFFE00000
_M2P_ENTRIES: Final = (_M2P_VIRT_END - MACH2PHYS_VIRT_START_PAE) // 4

#: The most that a 32-bit guest is told; domain 0 has no limit.
_INT_MAX: Final = (1 << 31) - 1
_E820_ENTRY: Final = struct.Struct("<QQI")
_E820_RAM, _E820_RESERVED = 1, 2
_MAX_PFN: Final = shared_info.offset("arch.max_pfn", 4)


@hypercall("memory_op")
def memory_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one XENMEM_* command. Its upper bits say at which extent a call that was stopped goes on."""
    start, operation = command >> _EXTENT_SHIFT, command & _COMMAND_MASK
    if operation in _ON_EXTENTS:
        return _reservation(vcpu, operation, start, argument)
    if operation not in _OTHERS:
        raise HypercallError(Errno.ENOSYS)
    if start:
        raise HypercallError(Errno.EINVAL)
    return _OTHERS[operation](vcpu, argument)


def _read(vcpu: Vcpu, structure: Structure, argument: int) -> Any:
    word = vcpu.domain.word
    return structure.unpack(word, vcpu.domain.memory.copy_from_guest(argument, structure.size(word)))


def _write(vcpu: Vcpu, structure: Structure, argument: int, **values: int) -> None:
    vcpu.domain.memory.copy_to_guest(argument, structure.pack(vcpu.domain.word, **values))


# --- extents --------------------------------------------------------------------------------------


def _reservation(vcpu: Vcpu, operation: int, start: int, argument: int) -> int:
    memory = vcpu.domain.memory
    try:
        request = _read(vcpu, xen_memory_reservation, argument)
        domain = any_domain(vcpu, request.domid)
    except HypercallError:
        return start
    extents, listed = request.nr_extents, request.extent_start
    if extents > _MOST_EXTENTS or start >= extents:
        return start
    # No list is fine for increase_reservation alone; for the others page 0 is read, which usually fails.
    in_range = memory.range_okay(listed, extents * 4)
    if request.extent_order > max_order(vcpu.domain) or not in_range:
        return start
    hypervisor = domain.hypervisor
    # As many address bits as the machine has are no restriction; none above a page's are a mistake.
    if 0 < address_bits(request.mem_flags) <= PAGE_SHIFT:
        return start
    for index in range(start, extents):
        if index != start and hypervisor.preempt_due():
            raise Continuation(operation | index << _EXTENT_SHIFT, argument)
        hypervisor.charge(REQUEST_COST << request.extent_order)
        try:
            if not _ON_EXTENTS[operation](vcpu, domain, listed + index * 4, request):
                return index
        except GuestFault:
            return index
    return int(extents)


def _frame_limit(request: Any) -> int | None:
    return frame_limit(address_bits(request.mem_flags))


def _increase(vcpu: Vcpu, domain: Domain, at: int, request: Any) -> bool:
    mfn = allocate_extent(domain, request.extent_order, below=_frame_limit(request))
    if mfn is None:
        return False
    if request.extent_start:
        vcpu.domain.memory.write_u32(at, mfn)
    return True


def _decrease(vcpu: Vcpu, domain: Domain, at: int, request: Any) -> bool:
    first = vcpu.domain.memory.read_u32(at)
    return all(release_frame(domain, first + page) for page in range(1 << request.extent_order))


def _populate(vcpu: Vcpu, domain: Domain, at: int, request: Any) -> bool:
    memory, m2p = vcpu.domain.memory, domain.hypervisor.m2p
    pfn = memory.read_u32(at)
    mfn = allocate_extent(domain, request.extent_order, below=_frame_limit(request))
    if mfn is None:
        return False
    for page in range(1 << request.extent_order):
        m2p.set(mfn + page, (pfn + page) & 0xFFFFFFFF)
    memory.write_u32(at, mfn)
    return True


_ON_EXTENTS: Final[dict[int, Callable[[Vcpu, Domain, int, Any], bool]]] = {
    XENMEM_increase_reservation: _increase,
    XENMEM_decrease_reservation: _decrease,
    XENMEM_populate_physmap: _populate,
}


# --- the rest -------------------------------------------------------------------------------------


def _maximum_ram_page(vcpu: Vcpu, _argument: int) -> int:
    return vcpu.domain.hypervisor.ram.frames


def _current_reservation(vcpu: Vcpu, argument: int) -> int:
    return any_domain(vcpu, _read(vcpu, xen_memory_domain, argument).domid).pages


def _maximum_reservation(vcpu: Vcpu, argument: int) -> int:
    return min(any_domain(vcpu, _read(vcpu, xen_memory_domain, argument).domid).max_pages, _INT_MAX)


def _maximum_gpfn(vcpu: Vcpu, argument: int) -> int:
    """The guest itself says how many pfns it has, in its shared_info."""
    domain = any_domain(vcpu, _read(vcpu, xen_memory_domain, argument).domid)
    pages = domain.hypervisor.ram.u32[domain.shared_info + _MAX_PFN >> 2]
    return max(pages, 1) - 1


def _machphys_mapping(vcpu: Vcpu, argument: int) -> int:
    _write(
        vcpu,
        xen_machphys_mapping,
        argument,
        v_start=MACH2PHYS_VIRT_START_PAE,
        v_end=_M2P_VIRT_END,
        max_mfn=_M2P_ENTRIES - 1,
    )
    return 0


def _machphys_mfn_list(vcpu: Vcpu, argument: int) -> int:
    """The first frame of each 2 MiB of the machine-to-physical map."""
    request = _read(vcpu, xen_machphys_mfn_list, argument)
    m2p = vcpu.domain.hypervisor.m2p
    number = min(request.max_extents, m2p.pages)
    for page in range(number):
        vcpu.domain.memory.write_u32(request.extent_start + page * 4, m2p.first + page * 512)
    vcpu.domain.memory.write_u32(argument + xen_machphys_mfn_list.offset("nr_extents", 4), number)
    return 0


def _memory_map(_vcpu: Vcpu, _argument: int) -> int:
    """A PV guest has a map only if its toolstack gave it one, which ours does not."""
    raise HypercallError(Errno.ENOSYS)


def _machine_memory_map(vcpu: Vcpu, argument: int) -> int:
    """The machine's own map, for domain 0: low memory, a hole, RAM."""
    if not vcpu.domain.privileged:
        raise HypercallError(Errno.EPERM)
    request = _read(vcpu, xen_memory_map, argument)
    size = vcpu.domain.hypervisor.ram.size
    entries = (
        (0, 0xA0000, _E820_RAM),
        (0xA0000, 0x60000, _E820_RESERVED),
        (1 << 20, size - (1 << 20), _E820_RAM),
    )
    if request.buffer:
        if request.nr_entries < len(entries):
            raise HypercallError(Errno.EINVAL)
        raw = b"".join(_E820_ENTRY.pack(*entry) for entry in entries)
        vcpu.domain.memory.copy_to_guest(request.buffer, raw)
    vcpu.domain.memory.write_u32(argument, len(entries))
    return 0


def _only_translated(structure: Structure) -> Callable[[Vcpu, int], int]:
    """A command for guests whose physmap the hypervisor keeps: -EACCES for a PV guest."""

    def refuse(vcpu: Vcpu, argument: int) -> int:
        request = _read(vcpu, structure, argument)
        caller = vcpu.domain
        if not caller.is_self(request.domid) and request.domid not in caller.hypervisor.domains:
            raise HypercallError(Errno.ESRCH)
        raise HypercallError(Errno.EACCES)

    return refuse


def _nothing_shared(_vcpu: Vcpu, _argument: int) -> int:
    return 0


_OTHERS: Final[dict[int, Callable[[Vcpu, int], int]]] = {
    XENMEM_maximum_ram_page: _maximum_ram_page,
    XENMEM_current_reservation: _current_reservation,
    XENMEM_maximum_reservation: _maximum_reservation,
    XENMEM_maximum_gpfn: _maximum_gpfn,
    XENMEM_machphys_mapping: _machphys_mapping,
    XENMEM_machphys_mfn_list: _machphys_mfn_list,
    XENMEM_machphys_compat_mfn_list: _machphys_mfn_list,
    XENMEM_memory_map: _memory_map,
    XENMEM_machine_memory_map: _machine_memory_map,
    XENMEM_add_to_physmap: _only_translated(xen_add_to_physmap),
    XENMEM_remove_from_physmap: _only_translated(xen_remove_from_physmap),
    XENMEM_exchange: exchange,
    XENMEM_get_sharing_freed_pages: _nothing_shared,
    XENMEM_get_sharing_shared_pages: _nothing_shared,
}
