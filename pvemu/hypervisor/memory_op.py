"""The memory_op hypercall: how many frames a domain has, giving some back and getting others.

The commands on extents return how many they did, so a bad pointer is 0 and no error (golden: memory_op).
"""

from collections.abc import Callable
from typing import Any, Final

from pvemu.abi.arch_x86 import MACH2PHYS_VIRT_START_PAE
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.memory import (
    XENMEM_access_op,
    XENMEM_acquire_resource,
    XENMEM_add_to_physmap,
    XENMEM_add_to_physmap_batch,
    XENMEM_current_reservation,
    XENMEM_decrease_reservation,
    XENMEM_exchange,
    XENMEM_get_pod_target,
    XENMEM_get_sharing_freed_pages,
    XENMEM_get_sharing_shared_pages,
    XENMEM_get_vnumainfo,
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
    XENMEM_reserved_device_memory_map,
    XENMEM_set_memory_map,
    XENMEM_set_pod_target,
    XENMEMF_populate_on_demand,
    xen_machphys_mapping,
    xen_machphys_mfn_list,
    xen_memory_domain,
    xen_memory_reservation,
)
from pvemu.abi.structure import Structure
from pvemu.abi.xen import shared_info
from pvemu.hypervisor import memory_map, memory_physmap, memory_resources
from pvemu.hypervisor.continuation import REQUEST_COST, Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.guest_structure import read_structure
from pvemu.hypervisor.hvm.physmap import add_page, guest_remove_page
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
from pvemu.memory.ram import PAGE_SHIFT

_EXTENT_SHIFT: Final = 6
_COMMAND_MASK: Final = (1 << _EXTENT_SHIFT) - 1
_MOST_EXTENTS: Final = 0xFFFFFFFF >> _EXTENT_SHIFT
#: Extents of a 32-bit guest's list that real Xen translates at a time.
_TRANSLATED_EXTENTS: Final = (2 * 4096 - 32) // 8
_NOTHING_TO_TELL: Final = -1

#: Where the machine-to-physical map could reach, in entries, too (golden: machphys_mapping).
_M2P_VIRT_END: Final = 0xFFE00000
_M2P_ENTRIES: Final = (_M2P_VIRT_END - MACH2PHYS_VIRT_START_PAE) // 4

#: The most that a 32-bit guest is told; domain 0 has no limit.
_INT_MAX: Final = (1 << 31) - 1
_MAX_PFN: Final = shared_info.offset("arch.max_pfn", 4)


@hypercall("memory_op")
def memory_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one XENMEM_* command. Its upper bits say at which extent a call that was stopped goes on."""
    start, operation = command >> _EXTENT_SHIFT, command & _COMMAND_MASK
    if operation in _ON_EXTENTS:
        return _reservation(vcpu, operation, start, argument)
    if operation in _RESUMED:
        return _RESUMED[operation](vcpu, start, argument)
    if operation not in _OTHERS or (vcpu.domain.is_translated and operation in _OF_MACHINE_FRAMES):
        raise HypercallError(Errno.ENOSYS)
    if start and operation not in _GOES_ON_ANYWHERE:
        raise HypercallError(Errno.ENOSYS if operation in _OF_X86 else Errno.EINVAL)
    return _OTHERS[operation](vcpu, argument)


def _write(vcpu: Vcpu, structure: Structure, argument: int, **values: int) -> None:
    vcpu.domain.memory.copy_to_guest(argument, structure.pack(vcpu.domain.word, **values))


# --- extents --------------------------------------------------------------------------------------


def _reservation(vcpu: Vcpu, operation: int, start: int, argument: int) -> int:
    memory, word = vcpu.domain.memory, vcpu.domain.word
    try:
        request = read_structure(vcpu.domain, xen_memory_reservation, argument)
        domain = any_domain(vcpu, request.domid)
    except HypercallError:
        return start
    extents, listed = request.nr_extents, request.extent_start
    if extents > _MOST_EXTENTS or start >= extents:
        return start
    # No list is fine for increase_reservation alone; for the others page 0 is read, which usually fails.
    in_range = memory.range_okay(listed, extents * word)
    if request.extent_order > max_order(vcpu.domain) or not in_range:
        return start
    hypervisor = domain.hypervisor
    # As many address bits as the machine has are no restriction; none above a page's are a mistake.
    if 0 < address_bits(request.mem_flags) <= PAGE_SHIFT:
        return start
    # Of a 32-bit guest's list the numbers are written back when much has been done, as far as that goes.
    most_untold = _TRANSLATED_EXTENTS if word == 4 else 1
    told, numbers = start, list[int]()
    for index in range(start, extents):
        if index != start and hypervisor.hypercall_preempt_check(vcpu):
            told = _tell(vcpu, listed, told, numbers)
            raise Continuation(operation | told << _EXTENT_SHIFT, argument)
        hypervisor.charge(REQUEST_COST << request.extent_order)
        try:
            number = _ON_EXTENTS[operation](vcpu, domain, listed + index * word, request)
        except HypercallError:
            break
        if number is None:
            break
        numbers.append(number)
        if len(numbers) == most_untold:
            told = _tell(vcpu, listed, told, numbers)
            if told <= index:
                return told
            numbers.clear()
    return _tell(vcpu, listed, told, numbers)


def _tell(vcpu: Vcpu, listed: int, first: int, numbers: list[int]) -> int:
    """Write numbers of extents into the list from the first on; at which extent that comes to its end."""
    memory, word = vcpu.domain.memory, vcpu.domain.word
    for index, number in enumerate(numbers, first):
        if number != _NOTHING_TO_TELL:
            try:
                memory.write_word(listed + index * word, word, number)
            except HypercallError:
                return index
    return first + len(numbers)


def _frame_limit(request: Any) -> int | None:
    return frame_limit(address_bits(request.mem_flags))


def _increase(_vcpu: Vcpu, domain: Domain, _at: int, request: Any) -> int | None:
    """More frames; a translated domain is not told which, and has them at no gfn."""
    mfn = allocate_extent(domain, request.extent_order, below=_frame_limit(request))
    if mfn is None or (request.extent_start and not domain.is_translated):
        return mfn
    return _NOTHING_TO_TELL


def _decrease(vcpu: Vcpu, domain: Domain, at: int, request: Any) -> int | None:
    first = vcpu.domain.memory.read_word(at, vcpu.domain.word)
    if not domain.is_translated:
        done = all(release_frame(domain, first + page) for page in range(1 << request.extent_order))
        return _NOTHING_TO_TELL if done else None
    for page in range(1 << request.extent_order):
        guest_remove_page(domain, first + page)
    return _NOTHING_TO_TELL


def _populate(vcpu: Vcpu, domain: Domain, at: int, request: Any) -> int | None:
    memory, word, m2p = vcpu.domain.memory, vcpu.domain.word, domain.hypervisor.m2p
    pfn = memory.read_word(at, word)
    if request.mem_flags & XENMEMF_populate_on_demand:  # not for oneself, and no other domain has that
        return None
    mfn = allocate_extent(domain, request.extent_order, below=_frame_limit(request))
    if mfn is None:
        return None
    for page in range(1 << request.extent_order):
        if domain.is_translated:
            add_page(domain, pfn + page, mfn + page)
        else:
            m2p.set(mfn + page, (pfn + page) & 0xFFFFFFFF)
    if not domain.is_translated:
        return mfn
    # Real Xen writes the lists of 32-bit guests back even when nothing in them has changed.
    return pfn if word == 4 else _NOTHING_TO_TELL


#: Each gives the number that the list is to hold for an extent, or NOTHING_TO_TELL; None: it was not done.
_ON_EXTENTS: Final[dict[int, Callable[[Vcpu, Domain, int, Any], int | None]]] = {
    XENMEM_increase_reservation: _increase,
    XENMEM_decrease_reservation: _decrease,
    XENMEM_populate_physmap: _populate,
}


# --- the rest -------------------------------------------------------------------------------------


def _maximum_ram_page(vcpu: Vcpu, _argument: int) -> int:
    return vcpu.domain.hypervisor.ram.frames


def _asked_about(vcpu: Vcpu, argument: int) -> Domain:
    """The domain that is all a request names; raises HypercallError: EFAULT, ESRCH, EPERM."""
    return any_domain(vcpu, read_structure(vcpu.domain, xen_memory_domain, argument).domid)


def _current_reservation(vcpu: Vcpu, argument: int) -> int:
    return _asked_about(vcpu, argument).pages


def _maximum_reservation(vcpu: Vcpu, argument: int) -> int:
    return min(_asked_about(vcpu, argument).max_pages, _INT_MAX)


def _maximum_gpfn(vcpu: Vcpu, argument: int) -> int:
    """A PV guest itself says how many pfns it has, in its shared_info."""
    domain = _asked_about(vcpu, argument)
    if domain.is_translated:
        return domain.p2m.highest
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
    request = read_structure(vcpu.domain, xen_machphys_mfn_list, argument)
    m2p, word = vcpu.domain.hypervisor.m2p, vcpu.domain.word
    number = min(request.max_extents, m2p.pages)
    for page in range(number):
        vcpu.domain.memory.write_word(request.extent_start + page * word, word, m2p.first + page * 512)
    vcpu.domain.memory.write_u32(argument + xen_machphys_mfn_list.offset("nr_extents", word), number)
    return 0


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
    XENMEM_remove_from_physmap: memory_physmap.remove,
    XENMEM_exchange: exchange,
    XENMEM_get_sharing_freed_pages: _nothing_shared,
    XENMEM_get_sharing_shared_pages: _nothing_shared,
    XENMEM_access_op: memory_resources.access_op,
    XENMEM_get_pod_target: memory_resources.pod_target,
    XENMEM_set_pod_target: memory_resources.pod_target,
    XENMEM_memory_map: memory_map.tell,
    XENMEM_set_memory_map: memory_map.replace,
    XENMEM_machine_memory_map: memory_map.tell_machines,
    XENMEM_get_vnumainfo: memory_resources.get_vnumainfo,
    XENMEM_reserved_device_memory_map: memory_resources.reserved_device_memory_map,
}
#: Commands that go on where they were stopped, at what the upper bits of the command say.
_RESUMED: Final[dict[int, Callable[[Vcpu, int, int], int]]] = {
    XENMEM_add_to_physmap: memory_physmap.add,
    XENMEM_add_to_physmap_batch: memory_physmap.add_batch,
    XENMEM_acquire_resource: memory_resources.acquire_resource,
}
#: Commands of x86 alone are told by the whole number: with an extent it is none of them.
_OF_X86: Final = frozenset(
    {
        XENMEM_machphys_mapping,
        XENMEM_machphys_mfn_list,
        XENMEM_machphys_compat_mfn_list,
        XENMEM_memory_map,
        XENMEM_set_memory_map,
        XENMEM_machine_memory_map,
        XENMEM_set_pod_target,
        XENMEM_get_pod_target,
        XENMEM_get_sharing_freed_pages,
        XENMEM_get_sharing_shared_pages,
    }
)
_GOES_ON_ANYWHERE: Final = frozenset({XENMEM_access_op})
#: Commands that no translated guest has.
_OF_MACHINE_FRAMES: Final = frozenset({XENMEM_machine_memory_map, XENMEM_machphys_mapping})
