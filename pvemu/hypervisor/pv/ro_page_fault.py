"""Writable page tables: a plain store to a read-only L1 is carried out as an update of the entry.

Domain 0 always has this, a domU after vm_assist(writable_pagetables). Stores to other tables, and stores
that are not aligned or would make a bad entry, stay page faults (golden: trap-ptwr-*).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.xen import VMASST_TYPE_writable_pagetables
from pvemu.hypervisor.pv.emul_priv_op import fetch, retire
from pvemu.hypervisor.pv.entry_rules import HARMLESS
from pvemu.hypervisor.pv.store_emulation import STORES
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
    FRAME_MASK_64,
    PRESENT,
    WRITABLE,
)
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

_WRITE_PROTECTED: Final = FAULT_PRESENT | FAULT_WRITE
_LOOKED_AT: Final = _WRITE_PROTECTED | FAULT_USER | FAULT_RESERVED | FAULT_FETCH
_ASSIST: Final = 1 << VMASST_TYPE_writable_pagetables


#: (vCPU, linear address of the fault, its error code) to whether a store was carried out.
EmulateStore = Callable[[Vcpu, int, int], bool]


def make_emulate_store(hypervisor: "Hypervisor") -> EmulateStore:
    """The function for a machine; a closure, because a kernel may set all its entries this way."""
    u64, frames = hypervisor.ram.u64, hypervisor.frames
    number, owner, kind, type_count = frames.number, frames.owner, frames.type, frames.type_count

    def emulate_store(vcpu: Vcpu, address: int, error_code: int) -> bool:
        """Carry out a faulting store of the kernel to an L1; False: the guest has to get its page fault."""
        domain = vcpu.domain
        if error_code & _LOOKED_AT != _WRITE_PROTECTED or not (
            domain.privileged or domain.vm_assist & _ASSIST
        ):
            return False
        mapped_by = domain.memory.l1_entry_index(address)
        if mapped_by is None:
            return False
        mapping = u64[mapped_by]
        table = mapping >> PAGE_SHIFT & FRAME_MASK_64
        if mapping & (PRESENT | WRITABLE) != PRESENT or table >= number:
            return False
        if kind[table] != PGT_L1 or not type_count[table] or owner[table] != domain.domid:
            return False
        instruction = fetch(vcpu)
        emulate = None if instruction is None else STORES.get(instruction.mnemonic)
        if instruction is None or emulate is None:
            return False
        if not address & PAGE_MASK and store_place(vcpu, instruction) != address:
            return False  # it begins on the page before
        at = table << PAGE_SHIFT | address & PAGE_MASK
        try:
            store = emulate(vcpu, instruction, at)
        except GuestFault:
            return False  # the other memory operand: the fault at hand comes first
        if store is None:
            return False
        size, written, is_exchange, commit, repeats = store
        if written is not None and (
            address & (size - 1) or not _write(domain, at, size, written, is_exchange)
        ):
            return False
        if commit is not None:
            commit()
        retire(vcpu, 0 if repeats else instruction.length)
        return True

    return emulate_store


def _write(domain: "Domain", address: int, size: int, written: int, is_exchange: bool) -> bool:
    """Put the written bytes into the entry at a machine address, if what comes out is valid."""
    hypervisor = domain.hypervisor
    at, offset = address >> 3, address & 7
    old = hypervisor.ram.u64[at]
    shift = 8 * offset
    mask = (1 << 8 * size) - 1 << shift
    new = old & ~mask | written << shift & mask
    if new & PRESENT and (not old & PRESENT or (old ^ new) & ~HARMLESS):
        result = hypervisor.page_types.get_page_from_l1e(new, domain, domain)
        if result < 0:
            # The halves of an entry may be written in the wrong order: the lower one will follow.
            if size != 4 or offset != 4 or is_exchange:
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
        hypervisor.page_types.put_page_from_l1e(old)
    return True
