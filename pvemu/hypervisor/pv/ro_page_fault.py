"""Writable page tables: a plain store to a read-only L1 is carried out as an update of the entry.

Domain 0 always has this, a domU after vm_assist(writable_pagetables). Stores to other tables, and stores
that are not aligned or would make a bad entry, stay page faults (golden: trap-ptwr-*).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.xen import VMASST_TYPE_writable_pagetables
from pvemu.cpu.conditions import CONDITIONS
from pvemu.cpu.decode import Instruction
from pvemu.hypervisor.emulate import Unemulated
from pvemu.hypervisor.emulate.emulator import Operation, translate
from pvemu.hypervisor.emulate.translation import Mode
from pvemu.hypervisor.pv.emul_priv_op import fetch, retire
from pvemu.hypervisor.pv.l1_store import L1Store, Refused
from pvemu.hypervisor.vcpu import Vcpu
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

_WRITE_PROTECTED: Final = FAULT_PRESENT | FAULT_WRITE
_LOOKED_AT: Final = _WRITE_PROTECTED | FAULT_USER | FAULT_RESERVED | FAULT_FETCH
_ASSIST: Final = 1 << VMASST_TYPE_writable_pagetables

#: What is emulated here. RCL and RCR are missing: when their store faults, the engine has put the new carry
#: in place of the old. For what else is missing see docs/differences.md.
_STORES: Final = frozenset(
    {
        *("mov", "movnti", "xchg", "xadd", "cmpxchg", "cmpxchg8b", "arpl"),
        *("add", "adc", "sub", "sbb", "or", "and", "xor", "inc", "dec", "neg", "not"),
        *("bts", "btr", "btc", "shl", "sal", "shr", "sar", "rol", "ror", "shld", "shrd"),
        *("push", "pushf", "pushfd", "pop", "call"),
        *("movsb", "movsw", "movsd", "stosb", "stosw", "stosd"),
        *(f"set{condition}" for condition in CONDITIONS),
    }
)
#: The kernel's code is 32-bit code. What a segment forbids is not looked at.
_MODE: Final = Mode(32, 32, is_protected=True, is_checked=False)
_CACHE_LIMIT: Final = 4096

#: (vCPU, linear address of the fault, its error code) to whether a store was carried out.
EmulateStore = Callable[[Vcpu, int, int], bool]


def make_emulate_store(hypervisor: "Hypervisor") -> EmulateStore:
    """The function for a machine; a closure, because a kernel may set all its entries this way."""
    u64, l1_owner = hypervisor.ram.u64, hypervisor.frames.l1_owner
    operations: dict[Instruction, Operation | None] = {}
    store = L1Store(hypervisor)

    def operation_of(instruction: Instruction) -> Operation | None:
        if len(operations) >= _CACHE_LIMIT:
            operations.clear()
        operations[instruction] = operation = _translate(hypervisor, instruction)
        return operation

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
        if mapping & (PRESENT | WRITABLE) != PRESENT or l1_owner.get(table) != domain.domid:
            return False
        instruction = fetch(vcpu)
        if instruction is None:
            return False
        operation = operations[instruction] if instruction in operations else operation_of(instruction)
        if operation is None:
            return False
        store.domain, store.address, store.is_exchange = domain, address, operation.is_exchange
        store.at = table << PAGE_SHIFT | address & PAGE_MASK
        try:
            comes_again = operation.run(store)
        except (Refused, GuestFault):
            return False  # of the other memory operand: the fault at hand comes first
        retire(vcpu, 0 if comes_again else operation.length)
        return True

    return emulate_store


def _translate(hypervisor: "Hypervisor", instruction: Instruction) -> Operation | None:
    """The operation of an instruction; None for one that is the guest's own affair."""
    if instruction.mnemonic not in _STORES or any(
        operand.kind == "segment" for operand in instruction.operands
    ):
        return None
    try:
        return translate(hypervisor.cpu.window, _MODE, instruction)
    except Unemulated:
        return None
