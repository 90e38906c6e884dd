"""A store to a page-table entry, as its emulation describes it; operands and old values for those who do.

An emulation gets the vCPU, the decoded instruction and the machine address of the store, and returns a
`Store`, or None for a form that is not emulated. Nothing changes before `Store.commit`: only then registers
and flags get their new values.
"""

from collections.abc import Callable
from typing import NamedTuple

from pvemu.cpu.decode import Instruction, Operand
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SIZE

#: How registers and flags change with the store; None: they don't.
Commit = Callable[[], None] | None


class Store(NamedTuple):
    """A store: its bytes, what is written (None: nothing), and what else the instruction does.

    `is_exchange` is set for XCHG, CMPXCHG and whatever has a LOCK prefix. `repeats` says that a REP prefix
    makes the instruction come again.
    """

    size: int
    written: int | None
    is_exchange: bool
    commit: Commit
    repeats: bool = False


Emulation = Callable[[Vcpu, Instruction, int], Store | None]


def mask(size: int) -> int:
    """All ones in `size` bytes."""
    return (1 << 8 * size) - 1


def read_operand(vcpu: Vcpu, operand: Operand) -> int:
    """The value of a register or immediate operand."""
    if operand.kind == "immediate":
        return operand.number & mask(operand.size)
    value = vcpu.domain.hypervisor.cpu.window.u64[operand.number]
    return (value >> 8 if operand.high else value) & mask(operand.size)


def write_register(vcpu: Vcpu, operand: Operand, value: int) -> None:
    """Set a register operand; the rest of its register stays, above bit 31 it becomes zero."""
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    shift = 8 if operand.high else 0
    changed = mask(operand.size) << shift
    u64[operand.number] = (u64[operand.number] & ~changed | value << shift & changed) & 0xFFFFFFFF


def old_value(vcpu: Vcpu, at: int, size: int) -> int:
    """What is in memory; raises GuestFault at the end of the frame, behind which another one follows."""
    if (at & PAGE_MASK) + size > PAGE_SIZE:
        raise GuestFault(at)
    return int.from_bytes(vcpu.domain.hypervisor.ram.u8[at : at + size], "little")


def store_result(instruction: Instruction, size: int, old: int, new: int, commit: Commit) -> Store:
    """The store of a read-modify-write instruction: none if nothing changes."""
    new &= mask(size)
    return Store(size, None if new == old else new, "lock" in instruction.prefixes, commit)


def source_form(instruction: Instruction) -> tuple[Operand, Operand] | None:
    """Memory destination and register or immediate source; None for another form."""
    if len(instruction.operands) != 2:
        return None
    target, source = instruction.operands
    return (target, source) if target.kind == "memory" and source.kind in ("general", "immediate") else None
