"""The hypercalls that change page tables and descriptors, as auto-translated guests have them.

Xen 4.17 has no such guests any more, but what is left of their rules in its common code and public headers
is kept to: all frame numbers are the guest's own. The rest is as Xen 3 had it, where a change of an entry is
a plain store: nothing in a table can be wrong.
"""

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.xen import (
    DOMID_IO,
    MMU_MACHPHYS_UPDATE,
    MMU_NORMAL_PT_UPDATE,
    MMU_PT_UPDATE_NO_TRANSLATE,
    MMU_PT_UPDATE_PRESERVE_AD,
    UVMF_ALL,
    UVMF_FLUSHTYPE_MASK,
    UVMF_INVLPG,
    UVMF_LOCAL,
    UVMF_TLB_FLUSH,
)
from pvemu.cpu.segments import Descriptor
from pvemu.hypervisor.continuation import finish_batch, is_finishing, run_batch
from pvemu.hypervisor.hypercall import Handler
from pvemu.hypervisor.pv.descriptor_check import fixed_descriptor
from pvemu.hypervisor.pv.mmu_update import page_owner
from pvemu.hypervisor.translated.mmuext import mmuext_op
from pvemu.memory.page_tables import ACCESSED, DIRTY
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_UPDATE: Final = struct.Struct("<QQ")
_ENTRY_SIZE: Final = 8
_COMMAND_MASK: Final = 7
_TABLE_UPDATES: Final = frozenset(
    {MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_PRESERVE_AD, MMU_PT_UPDATE_NO_TRANSLATE}
)
_EINVAL, _EPERM, _ENOSYS = (-int(number) for number in (Errno.EINVAL, Errno.EPERM, Errno.ENOSYS))


def _is_foreign(vcpu: "Vcpu", foreign: int) -> bool:
    """Whether an operation is about frames of another domain; raises HypercallError(ESRCH)."""
    return page_owner(vcpu, foreign & 0xFFFF) is not vcpu.domain or foreign >> 16 not in (
        0,
        vcpu.domain.domid + 1,
    )


def mmu_update(vcpu: "Vcpu", requests: int, count: int, done_pointer: int, foreign: int) -> int:
    """Store entries, each named by its guest-physical address with a command in its low bits."""
    if is_finishing(requests, count):
        return finish_batch(vcpu, (requests, count, done_pointer, foreign))
    refused = _is_foreign(vcpu, foreign) and foreign & 0xFFFF != DOMID_IO

    def carry_out(raw: bytes) -> tuple[int, int]:
        done = 0
        for pointer, value in _UPDATE.iter_unpack(raw):
            result = _EPERM if refused else _update(vcpu, pointer, value)
            if result:
                return done, result
            done += 1
        return done, 0

    return run_batch(vcpu, (requests, count, done_pointer, foreign), _UPDATE.size, carry_out)


def _update(vcpu: "Vcpu", pointer: int, value: int) -> int:
    command = pointer & _COMMAND_MASK
    if command in _TABLE_UPDATES:
        return _store_entry(vcpu, pointer & ~_COMMAND_MASK, value, keep=command == MMU_PT_UPDATE_PRESERVE_AD)
    return _EINVAL if command == MMU_MACHPHYS_UPDATE else _ENOSYS


def _store_entry(vcpu: "Vcpu", address: int, value: int, *, keep: bool = False) -> int:
    """Write eight bytes at a guest-physical address; 0 or -EINVAL.

    Args:
        keep: accessed and dirty bits that are set stay set.
    """
    domain = vcpu.domain
    if keep:
        mfn = domain.p2m.get(address >> PAGE_SHIFT)
        if mfn is None:
            return _EINVAL
        at = (mfn << PAGE_SHIFT | address & PAGE_SIZE - 1) >> 3
        value |= domain.hypervisor.ram.u64[at] & (ACCESSED | DIRTY)
    stored = domain.translation.store(address, value.to_bytes(_ENTRY_SIZE, "little"))
    return 0 if stored else _EINVAL


def update_va_mapping(vcpu: "Vcpu", address: int, value: int, flush: int) -> int:
    """Store the L1 entry for a linear address, and flush what is asked for; -EINVAL: there is no L1."""
    translation = vcpu.domain.translation
    place = translation.memory.guest_l1e(vcpu, address)
    result = _EINVAL if place is None else _store_entry(vcpu, place, value)
    if result:
        return result
    kind, where = flush & UVMF_FLUSHTYPE_MASK, flush & ~UVMF_FLUSHTYPE_MASK
    if kind in (UVMF_TLB_FLUSH, UVMF_INVLPG):
        if where not in (UVMF_LOCAL, UVMF_ALL):
            vcpu.domain.memory.read_u32(where)
        if kind == UVMF_INVLPG and where == UVMF_LOCAL:
            translation.invalidate(vcpu, address)
        else:
            translation.flush(vcpu)
    return 0


def update_va_mapping_otherdomain(vcpu: "Vcpu", address: int, value: int, flush: int, domid: int) -> int:
    """The same; frames of other domains have no number here, so only the caller can be meant."""
    if page_owner(vcpu, domid & 0xFFFF) is not vcpu.domain:
        return _EPERM
    return update_va_mapping(vcpu, address, value, flush)


def update_descriptor(vcpu: "Vcpu", address: int, value: int) -> int:
    """Store a descriptor at a guest-physical address, as far as a guest may have it."""
    fixed = fixed_descriptor(Descriptor.from_int(value))
    if address & 7 or fixed is None or _store_entry(vcpu, address, fixed.low | fixed.high << 32):
        raise HypercallError(Errno.EINVAL)
    return 0


#: By name, the handlers that take the place of those of other PV guests.
HANDLERS: Final[Mapping[str, Handler]] = {
    "mmu_update": mmu_update,
    "mmuext_op": mmuext_op,
    "update_va_mapping": update_va_mapping,
    "update_va_mapping_otherdomain": update_va_mapping_otherdomain,
    "update_descriptor": update_descriptor,
}
