"""Maps of memory by address: the one that a guest is told as its own, and the machine's."""

import struct
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.memory import xen_foreign_memory_map, xen_memory_map
from pvemu.hypervisor.guest_structure import read_structure
from pvemu.hypervisor.physmap import any_domain
from pvemu.hypervisor.vcpu import Vcpu

#: An entry as the BIOS call e820 gives it: address, size in bytes, type.
_E820_ENTRY: Final = struct.Struct("<QQI")
_E820_RAM, _E820_RESERVED = 1, 2
_MOST_ENTRIES: Final = 1024


def tell(vcpu: Vcpu, argument: int) -> int:
    """XENMEM_memory_map: the map that was set for the guest; a PV guest has none at first, -ENOSYS."""
    domain = vcpu.domain
    request = read_structure(vcpu.domain, xen_memory_map, argument)
    if not domain.memory_map:
        raise HypercallError(Errno.ENOSYS)
    entries = domain.memory_map[: request.nr_entries]
    domain.memory.copy_to_guest(request.buffer, b"".join(_E820_ENTRY.pack(*entry) for entry in entries))
    domain.memory.write_u32(argument, len(entries))
    return 0


def replace(vcpu: Vcpu, argument: int) -> int:
    """XENMEM_set_memory_map: a guest may do so for itself, domain 0 for anybody."""
    request = read_structure(vcpu.domain, xen_foreign_memory_map, argument)
    if request.map.nr_entries > _MOST_ENTRIES:
        raise HypercallError(Errno.EINVAL)
    domain = any_domain(vcpu, request.domid)
    raw = vcpu.domain.memory.copy_from_guest(request.map.buffer, request.map.nr_entries * _E820_ENTRY.size)
    domain.memory_map = tuple(_E820_ENTRY.iter_unpack(raw))
    return 0


def tell_machines(vcpu: Vcpu, argument: int) -> int:
    """The machine's own map, for domain 0: low memory, a hole, RAM."""
    request = read_structure(vcpu.domain, xen_memory_map, argument)
    if not vcpu.domain.privileged:
        raise HypercallError(Errno.EPERM)
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
