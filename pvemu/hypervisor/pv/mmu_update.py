"""The hypercalls that change entries of page tables: mmu_update and update_va_mapping."""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.xen import (
    DOMID_IO,
    DOMID_SELF,
    MMU_MACHPHYS_UPDATE,
    MMU_NORMAL_PT_UPDATE,
    MMU_PT_UPDATE_NO_TRANSLATE,
    MMU_PT_UPDATE_PRESERVE_AD,
    UVMF_ALL,
    UVMF_FLUSHTYPE_MASK,
    UVMF_INVLPG,
    UVMF_TLB_FLUSH,
)
from pvemu.hypervisor.continuation import finish_batch, is_finishing, run_batch, write_done
from pvemu.hypervisor.hypercall import ARGUMENT_INDEXES, Entry, Handler, Words, made_entry, made_hypercall
from pvemu.hypervisor.pv.entry_rules import CHANGES
from pvemu.hypervisor.pv.mm import mod_l2_entry, mod_l3_entry
from pvemu.hypervisor.pv.page_types import EINVAL
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_L1, PGT_L2, PGT_L3, PGT_WRITABLE
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

_EBX, _ECX, _EDX, _ESI, _ = ARGUMENT_INDEXES
_REQUEST: Final = struct.Struct("<QQ")
_COMMAND_MASK: Final = 7
_ENOSYS, _EPERM = -int(Errno.ENOSYS), -int(Errno.EPERM)
_TABLE_UPDATES: Final = frozenset(
    {MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_PRESERVE_AD, MMU_PT_UPDATE_NO_TRANSLATE}
)
_MODIFY_UPPER: Final[dict[int, Callable[["Domain", int, int, int], int]]] = {
    PGT_L2: mod_l2_entry,
    PGT_L3: mod_l3_entry,
}


def page_owner(vcpu: Vcpu, domid: int) -> "Domain":
    """The domain whose frames an operation is about; DOMID_SELF, not the caller's number, names the caller.

    Raises:
        HypercallError: ESRCH.
    """
    found = vcpu.domain.hypervisor.foreign_domain(vcpu.domain, domid)
    if found is None:
        raise HypercallError(Errno.ESRCH)
    return found


@made_entry("mmu_update")
def make_mmu_update(hypervisor: "Hypervisor") -> Entry:
    """Make mmu_update for a machine."""
    u8, u64, mod_l1_entry = hypervisor.ram.u8, hypervisor.ram.u64, hypervisor.mod_l1_entry
    l1_owner = hypervisor.frames.l1_owner
    unpack, last_in_page = _REQUEST.unpack_from, PAGE_SIZE - _REQUEST.size

    def mmu_update(vcpu: Vcpu, words: Words) -> int:
        """Carry out updates, each a machine address with a command in its low bits, and a value.

        How many were done is written to where the third argument points, unless that is 0 or can't be
        written. The upper half of the fourth, less one, names a domain whose page tables are meant.
        """
        if words[_ECX] == 1 and words[_ESI] == DOMID_SELF and not words[_EDX]:
            # What kernels do most: set one entry of an own L1. No batch is needed for it.
            requests, caller = words[_EBX], vcpu.domain
            page, offset = caller.memory.readable.get(requests >> PAGE_SHIFT), requests & PAGE_MASK
            if page is not None and offset <= last_in_page:
                pointer, value = unpack(u8, page + offset)
                if not pointer & _COMMAND_MASK and l1_owner.get(pointer >> PAGE_SHIFT) == caller.domid:
                    at = pointer >> 3
                    if not (u64[at] ^ value) & CHANGES:
                        u64[at] = value
                        hypervisor.tlb_is_stale = True
                        return 0
                    return mod_l1_entry(caller, at, value, MMU_NORMAL_PT_UPDATE, caller)
        return _batch(vcpu, (words[_EBX], words[_ECX], words[_EDX], words[_ESI]))

    return mmu_update


def _batch(vcpu: Vcpu, arguments: tuple[int, int, int, int]) -> int:
    """Any mmu_update."""
    requests, count, done_pointer, foreign = arguments
    caller = vcpu.domain
    if is_finishing(requests, count):
        return finish_batch(vcpu, arguments)
    table_owner = _table_owner(caller, foreign >> 16)
    try:
        owner = page_owner(vcpu, foreign & 0xFFFF)
    except HypercallError:
        if done_pointer:
            write_done(vcpu, done_pointer, 0)
        raise
    hypervisor, own = caller.hypervisor, table_owner is owner is caller
    u64, mod_l1_entry, l1_owner = hypervisor.ram.u64, hypervisor.mod_l1_entry, hypervisor.frames.l1_owner

    def carry_out(raw: bytes) -> tuple[int, int]:
        """Entries of the caller's own L1s are short work; all else goes through `_update`."""
        done, table = 0, -1
        for pointer, value in _REQUEST.iter_unpack(raw):
            if pointer >> PAGE_SHIFT != table or pointer & _COMMAND_MASK:
                table = pointer >> PAGE_SHIFT
                if not own or pointer & _COMMAND_MASK or l1_owner.get(table) != caller.domid:
                    result = _update(caller, table_owner, owner, pointer, value)
                    # The rest is read anew: this may have changed it, or left work to do first.
                    return (done, result) if result else (done + 1, 0)
            at = pointer >> 3
            if not (u64[at] ^ value) & CHANGES:
                u64[at] = value
                hypervisor.tlb_is_stale = True
            else:
                result = mod_l1_entry(caller, at, value, MMU_NORMAL_PT_UPDATE, caller)
                if result:
                    return done, result
            done += 1
        return done, 0

    return run_batch(vcpu, arguments, _REQUEST.size, carry_out)


def _table_owner(caller: "Domain", number: int) -> "Domain":
    """The domain whose page tables are meant; 0 means the caller. Raises HypercallError(ESRCH)."""
    if number == 0:
        return caller
    found = caller.hypervisor.domains.get(number - 1)
    if found is None:
        raise HypercallError(Errno.ESRCH)
    return found


def _update(caller: "Domain", table_owner: "Domain", owner: "Domain", pointer: int, value: int) -> int:
    """One update; 0, RESTART or a negative errno."""
    command = pointer & _COMMAND_MASK
    if command in _TABLE_UPDATES:
        if owner is not caller and owner.domid != DOMID_IO and not caller.privileged:
            return _EPERM
        if table_owner is not caller and not caller.privileged:
            return _EPERM
        return _update_table(table_owner, owner, pointer >> 3, value, command)
    if command == MMU_MACHPHYS_UPDATE:
        if table_owner is not caller or (
            owner is not caller and owner.domid != DOMID_IO and not caller.privileged
        ):
            return _EPERM
        return _update_machphys(owner, pointer >> 12, value & 0xFFFFFFFF)
    return _ENOSYS


def _update_table(table_owner: "Domain", owner: "Domain", at: int, value: int, command: int) -> int:
    hypervisor = table_owner.hypervisor
    frames, types, table = hypervisor.frames, hypervisor.page_types, at >> 9
    if table >= frames.number or frames.owner[table] != table_owner.domid or not frames.count[table]:
        return EINVAL
    frames.count[table] += 1
    try:
        kind = frames.type[table] if frames.type_count[table] else PGT_WRITABLE
        if kind == PGT_L1:
            return hypervisor.mod_l1_entry(table_owner, at, value, command, owner)
        if kind in _MODIFY_UPPER:
            return (
                EINVAL if owner is not table_owner else _MODIFY_UPPER[kind](table_owner, at, value, command)
            )
        failure = types.get_page_type(table, PGT_WRITABLE)
        if failure:
            return failure
        hypervisor.before_write(table)
        hypervisor.ram.u64[at] = value
        types.put_page_type(table)
        return 0
    finally:
        types.put_page(table)


def _update_machphys(owner: "Domain", mfn: int, pfn: int) -> int:
    hypervisor = owner.hypervisor
    frames = hypervisor.frames
    if mfn >= frames.number or frames.owner[mfn] != owner.domid or not frames.count[mfn]:
        return EINVAL
    hypervisor.m2p.set(mfn, pfn)
    hypervisor.mark_dirty(mfn)
    return 0


@made_entry("update_va_mapping")
def make_update_va_mapping(hypervisor: "Hypervisor") -> Entry:
    """Make update_va_mapping for a machine."""
    mod_l1_entry, l1_owner = hypervisor.mod_l1_entry, hypervisor.frames.l1_owner

    def update_va_mapping(vcpu: Vcpu, words: Words) -> int:
        """Replace the L1 entry that maps a linear address, and flush what is asked for."""
        address, domain = words[_EBX], vcpu.domain
        memory = domain.memory
        at = memory.own_l1_entries.get(address >> PAGE_SHIFT)
        if at is None:
            at = memory.l1_entry_index(address)
            if at is None or l1_owner.get(at >> 9) != domain.domid:
                return EINVAL
            memory.own_l1_entries[address >> PAGE_SHIFT] = at
        result = mod_l1_entry(domain, at, words[_ECX] | words[_EDX] << 32, MMU_NORMAL_PT_UPDATE, domain)
        if words[_ESI] and not result:
            _flush(vcpu, words[_ESI])
        return result

    return update_va_mapping


@made_hypercall("update_va_mapping_otherdomain")
def make_update_va_mapping_otherdomain(hypervisor: "Hypervisor") -> Handler:
    """Make the handler of update_va_mapping_otherdomain for a machine."""
    mod_l1_entry, l1_owner = hypervisor.mod_l1_entry, hypervisor.frames.l1_owner

    def update_va_mapping_otherdomain(vcpu: Vcpu, address: int, value: int, flush: int, domid: int) -> int:
        """The same for a frame of another domain."""
        domain = vcpu.domain
        owner = page_owner(vcpu, domid & 0xFFFF)
        if owner is not domain and not domain.privileged:
            return _EPERM
        at = domain.memory.l1_entry_index(address)
        if at is None or l1_owner.get(at >> 9) != domain.domid:
            return EINVAL
        result = mod_l1_entry(domain, at, value, MMU_NORMAL_PT_UPDATE, owner)
        if flush and not result:
            _flush(vcpu, flush)
        return result

    return update_va_mapping_otherdomain


def _flush(vcpu: Vcpu, flush: int) -> None:
    """Flush as the UVMF_* flags say; raises GuestFault for a bitmap of vCPUs that can't be read."""
    kind, where = flush & UVMF_FLUSHTYPE_MASK, flush & ~UVMF_FLUSHTYPE_MASK
    if kind in (UVMF_TLB_FLUSH, UVMF_INVLPG):
        if where and where != UVMF_ALL:
            vcpu.domain.memory.read_u32(where)
        vcpu.domain.hypervisor.flush_stale_tlb()
