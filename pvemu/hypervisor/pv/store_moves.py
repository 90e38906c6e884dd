"""Stores that move: MOV, PUSH and POP, SETcc and the string instructions."""

from typing import Final

from pvemu.cpu import flags, layout
from pvemu.cpu.conditions import CONDITIONS, Condition
from pvemu.cpu.decode import Instruction
from pvemu.hypervisor.pv.emul_gate_op import linear_address
from pvemu.hypervisor.pv.store_form import (
    Emulation,
    Store,
    mask,
    old_value,
    read_operand,
    write_register,
)
from pvemu.hypervisor.vcpu import Vcpu

_REPEATS: Final = frozenset({"rep", "repe", "repne"})


def _mov(vcpu: Vcpu, instruction: Instruction, _at: int) -> Store | None:
    target, source = instruction.operands
    if target.kind != "memory" or source.kind not in ("general", "immediate"):
        return None
    return Store(target.size, read_operand(vcpu, source), False, None)


def _xchg(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    memory, register = sorted(instruction.operands, key=lambda operand: operand.kind != "memory")
    if memory.kind != "memory" or register.kind != "general":
        return None
    old, size = old_value(vcpu, at, memory.size), memory.size
    return Store(size, read_operand(vcpu, register), True, lambda: write_register(vcpu, register, old))


def _setcc(holds: Condition) -> Emulation:
    def emulate(vcpu: Vcpu, _instruction: Instruction, _at: int) -> Store | None:
        value = holds(flags.read_eflags(vcpu.domain.hypervisor.cpu.window))
        return Store(1, int(value), False, None)

    return emulate


def _pop(vcpu: Vcpu, instruction: Instruction, _at: int) -> Store | None:
    """POP to memory; the stack is flat, as everything that this emulation sees."""
    memory = instruction.operands[0]
    if memory.kind != "memory":
        return None
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    stack = u64[layout.RSP] & 0xFFFFFFFF
    value = int.from_bytes(vcpu.domain.memory.copy_from_guest(stack, memory.size), "little")

    def commit() -> None:
        u64[layout.RSP] = (stack + memory.size) & 0xFFFFFFFF

    return Store(memory.size, value, False, commit)


def _push(vcpu: Vcpu, instruction: Instruction, _at: int) -> Store | None:
    """PUSH of a register, a number or memory; of a segment register not (recorded: store_forms)."""
    source = instruction.operands[0]
    if source.kind == "memory":
        raw = vcpu.domain.memory.copy_from_guest(linear_address(vcpu, source), source.size)
        return _pushed(vcpu, source.size, int.from_bytes(raw, "little"))
    if source.kind not in ("general", "immediate"):
        return None
    return _pushed(vcpu, source.size, read_operand(vcpu, source))


def _pushf(size: int) -> Emulation:
    def emulate(vcpu: Vcpu, _instruction: Instruction, _at: int) -> Store | None:
        shown = flags.read_eflags(vcpu.domain.hypervisor.cpu.window) & ~(flags.RF | flags.VM)
        return _pushed(vcpu, size, shown & mask(size))

    return emulate


def _pushed(vcpu: Vcpu, size: int, value: int) -> Store:
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    stack = (u64[layout.RSP] - size) & 0xFFFFFFFF

    def commit() -> None:
        u64[layout.RSP] = stack

    return Store(size, value, False, commit)


def _string(size: int, *, from_memory: bool) -> Emulation:
    """MOVS and STOS: one step; with a REP prefix the instruction comes again for the next."""

    def emulate(vcpu: Vcpu, instruction: Instruction, _at: int) -> Store | None:
        window = vcpu.domain.hypervisor.cpu.window
        u64 = window.u64
        left = u64[layout.RCX] - 1 & 0xFFFFFFFF if instruction.prefixes & _REPEATS else None
        if from_memory:
            raw = vcpu.domain.memory.copy_from_guest(u64[layout.RSI] & 0xFFFFFFFF, size)
            value = int.from_bytes(raw, "little")
        else:
            value = u64[layout.RAX] & mask(size)
        step = -size if flags.read_eflags(window) & flags.DF else size

        def commit() -> None:
            u64[layout.RDI] = (u64[layout.RDI] + step) & 0xFFFFFFFF
            if from_memory:
                u64[layout.RSI] = (u64[layout.RSI] + step) & 0xFFFFFFFF
            if left is not None:
                u64[layout.RCX] = left

        return Store(size, value, False, commit, repeats=bool(left))

    return emulate


MOVE_STORES: Final[dict[str, Emulation]] = {
    "mov": _mov,
    "xchg": _xchg,
    "movnti": _mov,
    "pop": _pop,
    "push": _push,
    "pushf": _pushf(2),
    "pushfd": _pushf(4),
    **{f"set{name}": _setcc(holds) for name, holds in CONDITIONS.items()},
    **{
        f"movs{letter}": _string(size, from_memory=True)
        for letter, size in zip("bwd", (1, 2, 4), strict=True)
    },
    **{
        f"stos{letter}": _string(size, from_memory=False)
        for letter, size in zip("bwd", (1, 2, 4), strict=True)
    },
}
