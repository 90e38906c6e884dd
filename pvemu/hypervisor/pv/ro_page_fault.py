"""Writable page tables: a plain store to a read-only L1 is carried out as an update of the entry.

Domain 0 always has this, a domU after vm_assist(writable_pagetables). Stores to other tables, and stores
that are not aligned or would make a bad entry, stay page faults (golden: trap-ptwr-*).
"""

from typing import Final

from pvemu.abi.xen import VMASST_TYPE_writable_pagetables
from pvemu.hypervisor.pv.emul_priv_op import fetch, retire
from pvemu.hypervisor.pv.entry_rules import HARMLESS
from pvemu.hypervisor.pv.store_emulation import STORES
from pvemu.hypervisor.pv.store_form import Store
from pvemu.hypervisor.pv.store_place import store_place
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_L1
from pvemu.memory.guest import GuestFault
from pvemu.memory.page_tables import (
    FAULT_FETCH,
    FAULT_PRESENT,
    FAULT_RESERVED,
    FAULT_USER,
    FAULT_WRITE,
    PRESENT,
    WRITABLE,
    entry_frame,
)
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

_WRITE_PROTECTED: Final = FAULT_PRESENT | FAULT_WRITE
_LOOKED_AT: Final = _WRITE_PROTECTED | FAULT_USER | FAULT_RESERVED | FAULT_FETCH
_ASSIST: Final = 1 << VMASST_TYPE_writable_pagetables


def emulate_store(vcpu: Vcpu, address: int, error_code: int) -> bool:
    """Carry out a faulting store of the kernel to an L1; False when the guest has to get its page fault."""
    domain = vcpu.domain
    if error_code & _LOOKED_AT != _WRITE_PROTECTED or not (domain.privileged or domain.vm_assist & _ASSIST):
        return False
    table = _table_behind(vcpu, address)
    if table is None:
        return False
    instruction = fetch(vcpu)
    if instruction is None or instruction.mnemonic not in STORES:
        return False
    if not address & PAGE_MASK and store_place(vcpu, instruction) != address:
        return False  # it begins on the page before
    at = table << PAGE_SHIFT | address & PAGE_MASK
    try:
        store = STORES[instruction.mnemonic](vcpu, instruction, at)
    except GuestFault:
        return False  # the other memory operand: the fault at hand comes first
    if store is None:
        return False
    if store.written is not None and (address & (store.size - 1) or not _write(vcpu, at, store)):
        return False
    store.commit()
    retire(vcpu, 0 if store.repeats else instruction.length)
    return True


def _table_behind(vcpu: Vcpu, address: int) -> int | None:
    """The frame that a linear address maps read-only, if it is an L1 in use of the domain."""
    hypervisor = vcpu.domain.hypervisor
    at = vcpu.domain.memory.l1_entry_index(address)
    if at is None:
        return None
    mapping = hypervisor.ram.u64[at]
    mfn, frames = entry_frame(mapping), hypervisor.frames
    if mapping & (PRESENT | WRITABLE) != PRESENT or mfn >= frames.number:
        return None
    is_table = (
        frames.type[mfn] == PGT_L1 and frames.type_count[mfn] and frames.owner[mfn] == vcpu.domain.domid
    )
    return mfn if is_table else None


def _write(vcpu: Vcpu, address: int, store: Store) -> bool:
    """Put the written bytes into the entry at a machine address, if what comes out is valid."""
    domain = vcpu.domain
    hypervisor = domain.hypervisor
    assert store.written is not None
    at, offset = address >> 3, address & 7
    old = hypervisor.ram.u64[at]
    shift = 8 * offset
    mask = (1 << 8 * store.size) - 1 << shift
    new = old & ~mask | store.written << shift & mask
    types = hypervisor.page_types
    if new & PRESENT and (not old & PRESENT or (old ^ new) & ~HARMLESS):
        result = types.get_page_from_l1e(new, domain, domain)
        if result < 0:
            # The halves of an entry may be written in the wrong order: the lower one will follow.
            if store.size != 4 or offset != 4 or store.is_exchange:
                return False
            new &= ~PRESENT
        else:
            new ^= result
    elif new & PRESENT:
        hypervisor.ram.u64[at] = new
        hypervisor.tlb_is_stale = True
        return True
    hypervisor.ram.u64[at] = new
    if old & PRESENT:
        hypervisor.tlb_is_stale = True
        domain.memory.forget(at)
        types.put_page_from_l1e(old)
    return True
