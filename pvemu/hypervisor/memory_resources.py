"""Commands of memory_op about memory of other kinds: of other domains, of NUMA nodes, reserved for devices.

There is none of it, and callers are told so as real Xen tells them (golden: programs).
"""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.memory import (
    XENMEM_RDM_ALL,
    xen_mem_acquire_resource,
    xen_pod_target,
    xen_reserved_device_memory,
    xen_reserved_device_memory_map,
    xen_vnuma_topology_info,
)
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.guest_structure import read_structure
from pvemu.hypervisor.physmap import any_domain
from pvemu.hypervisor.vcpu import Vcpu

#: Bytes of struct xen_mem_access_op of a 32-bit guest: op, access, domid, nr, pfn, two lists.
_ACCESS_OP_SIZE: Final = 24
#: Frames for whose numbers there is room where a 32-bit guest's request is translated.
_TRANSLATED_FRAMES: Final = (2 * 4096 - 40) // 8


def acquire_resource(vcpu: Vcpu, _start: int, argument: int) -> int:
    """Mapping what belongs to another domain: real Xen lets no translated guest do that, but domain 0.

    Nothing of another domain is given away here: -EOPNOTSUPP for who may have it.
    """
    caller = vcpu.domain
    if caller.is_translated:
        raise HypercallError(Errno.EACCES)
    request = read_structure(vcpu.domain, xen_mem_acquire_resource, argument)
    number = request.nr_frames
    if caller.word == 4 and request.frame_list:
        number = min(number, _TRANSLATED_FRAMES)
    if request.pad or request.frame + number >> 32:
        raise HypercallError(Errno.EINVAL)
    _other_domain(vcpu, request.domid)
    if not caller.privileged:
        raise HypercallError(Errno.EPERM)
    raise HypercallError(Errno.EOPNOTSUPP)


def _other_domain(vcpu: Vcpu, domid: int) -> Domain:
    """Another domain; raises HypercallError: ESRCH, for DOMID_SELF too, EPERM for the caller."""
    found = vcpu.domain.hypervisor.domains.get(domid)
    if found is None:
        raise HypercallError(Errno.ESRCH)
    if found is vcpu.domain:
        raise HypercallError(Errno.EPERM)
    return found


def access_op(vcpu: Vcpu, argument: int) -> int:
    """Rights of a guest's memory, for who watches it: only HVM guests have them, and nobody watches."""
    vcpu.domain.memory.copy_from_guest(argument, _ACCESS_OP_SIZE)
    domain = _other_domain(vcpu, vcpu.domain.memory.read_u16(argument + 2))
    if not domain.is_hvm:
        raise HypercallError(Errno.EINVAL)
    raise HypercallError(Errno.ENODEV if vcpu.domain.privileged else Errno.EPERM)


def pod_target(vcpu: Vcpu, argument: int) -> int:
    """Memory that is populated on demand: only HVM guests could have it, and none has."""
    request = read_structure(vcpu.domain, xen_pod_target, argument)
    if not vcpu.domain.named(request.domid).is_hvm:
        raise HypercallError(Errno.EINVAL)
    raise HypercallError(Errno.ENOSYS if vcpu.domain.privileged else Errno.EPERM)


def get_vnumainfo(vcpu: Vcpu, argument: int) -> int:
    """No domain has virtual NUMA nodes."""
    request = read_structure(vcpu.domain, xen_vnuma_topology_info, argument)
    if request.pad:
        raise HypercallError(Errno.EINVAL)
    any_domain(vcpu, request.domid)
    raise HypercallError(Errno.EOPNOTSUPP)


def reserved_device_memory_map(vcpu: Vcpu, argument: int) -> int:
    """No memory is reserved for devices: there is no IOMMU."""
    memory, word = vcpu.domain.memory, vcpu.domain.word
    request = read_structure(vcpu.domain, xen_reserved_device_memory_map, argument)
    if not memory.range_okay(request.buffer, request.nr_entries * xen_reserved_device_memory.size(word)):
        raise HypercallError(Errno.EFAULT)
    if request.flags & ~XENMEM_RDM_ALL:
        raise HypercallError(Errno.EINVAL)
    memory.write_u32(argument + xen_reserved_device_memory_map.offset("nr_entries", word), 0)
    return 0
