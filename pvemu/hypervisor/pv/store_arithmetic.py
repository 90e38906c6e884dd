"""Stores that compute: what arithmetic, bit and exchange instructions leave in memory and in the flags."""

from collections.abc import Callable
from typing import Final

from pvemu.cpu import flags, layout
from pvemu.cpu.decode import Instruction, Operand
from pvemu.hypervisor.pv.store_form import (
    Commit,
    Emulation,
    Store,
    mask,
    old_value,
    read_operand,
    source_form,
    store_result,
    write_register,
)
from pvemu.hypervisor.pv.store_shifts import COUNT_MASK, DOUBLE_SHIFTS, ROTATIONS, SHIFTS, flags_after
from pvemu.hypervisor.vcpu import Vcpu

#: Computes (result, what leaves the flags behind) from the old value, the operand and the size in bytes.
_Arithmetic = Callable[[Vcpu, int, int, int], tuple[int, Commit]]
_ALL_SHIFTS: Final = {**SHIFTS, **ROTATIONS, **DOUBLE_SHIFTS}


def _lazy(vcpu: Vcpu, kind: int, size: int, dst: int, src: int, src2: int = 0) -> Callable[[], None]:
    window = vcpu.domain.hypervisor.cpu.window
    return lambda: flags.set_lazy(window, kind, size, dst & mask(size), src, src2)


def _carry(vcpu: Vcpu) -> int:
    return flags.read_eflags(vcpu.domain.hypervisor.cpu.window) & flags.CF


def _set_flag(vcpu: Vcpu, flag: int, value: bool) -> Callable[[], None]:
    window = vcpu.domain.hypervisor.cpu.window

    def set_flag() -> None:
        others = flags.read_eflags(window) & ~flag
        flags.write_eflags(window, others | flag if value else others)

    return set_flag


def _add(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Commit]:
    return old + value, _lazy(vcpu, flags.ADD, size, old + value, value)


def _adc(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Commit]:
    carry = _carry(vcpu)
    return old + value + carry, _lazy(vcpu, flags.ADC, size, old + value + carry, value, carry)


def _sub(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Commit]:
    return old - value, _lazy(vcpu, flags.SUB, size, old - value, value)


def _sbb(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Commit]:
    carry = _carry(vcpu)
    return old - value - carry, _lazy(vcpu, flags.SBB, size, old - value - carry, value, carry)


def _logic(operation: Callable[[int, int], int]) -> _Arithmetic:
    def compute(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Commit]:
        result = operation(old, value)
        return result, _lazy(vcpu, flags.LOGIC, size, result, 0)

    return compute


def _inc(vcpu: Vcpu, old: int, _value: int, size: int) -> tuple[int, Commit]:
    return old + 1, _lazy(vcpu, flags.INC, size, old + 1, _carry(vcpu))


def _dec(vcpu: Vcpu, old: int, _value: int, size: int) -> tuple[int, Commit]:
    return old - 1, _lazy(vcpu, flags.DEC, size, old - 1, _carry(vcpu))


def _neg(vcpu: Vcpu, old: int, _value: int, size: int) -> tuple[int, Commit]:
    return -old, _lazy(vcpu, flags.SUB, size, -old, old)


def _not(_vcpu: Vcpu, old: int, _value: int, _size: int) -> tuple[int, Commit]:
    return ~old, None


def _bit(change: Callable[[int, int], int]) -> _Arithmetic:
    """BTS, BTR, BTC: a bit offset in a register reaches beyond the operand; the fault says where."""

    def compute(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Commit]:
        bit = 1 << (value & (8 * size - 1))
        return change(old, bit), _set_flag(vcpu, flags.CF, bool(old & bit))

    return compute


def _binary(compute: _Arithmetic) -> Emulation:
    def emulate(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
        form = source_form(instruction)
        if form is None:
            return None
        size = form[0].size
        old, value = old_value(vcpu, at, size), read_operand(vcpu, form[1])
        result, set_flags = compute(vcpu, old, value & mask(size), size)
        return store_result(instruction, size, old, result, set_flags)

    return emulate


def _unary(compute: _Arithmetic) -> Emulation:
    def emulate(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
        if len(instruction.operands) != 1 or instruction.operands[0].kind != "memory":
            return None
        size = instruction.operands[0].size
        old = old_value(vcpu, at, size)
        result, set_flags = compute(vcpu, old, 0, size)
        return store_result(instruction, size, old, result, set_flags)

    return emulate


def _xadd(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    form = source_form(instruction)
    if form is None:
        return None
    size, register = form[0].size, form[1]
    old, value = old_value(vcpu, at, size), read_operand(vcpu, register)
    set_flags = _lazy(vcpu, flags.ADD, size, old + value, value)

    def commit() -> None:
        set_flags()
        write_register(vcpu, register, old)

    return store_result(instruction, size, old, old + value, commit)


def _cmpxchg(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    form = source_form(instruction)
    if form is None:
        return None
    size = form[0].size
    old = old_value(vcpu, at, size)
    accumulator = Operand("general", size, layout.RAX)
    expected = read_operand(vcpu, accumulator)
    set_flags = _lazy(vcpu, flags.SUB, size, expected - old, old)
    if expected == old:
        return Store(size, read_operand(vcpu, form[1]), True, set_flags)

    def commit() -> None:
        set_flags()
        write_register(vcpu, accumulator, old)

    return Store(size, None, True, commit)


def _cmpxchg8b(vcpu: Vcpu, _instruction: Instruction, at: int) -> Store | None:
    u64, entry = vcpu.domain.hypervisor.cpu.window.u64, old_value(vcpu, at, 8)
    expected = u64[layout.RAX] & 0xFFFFFFFF | (u64[layout.RDX] & 0xFFFFFFFF) << 32
    set_zero = _set_flag(vcpu, flags.ZF, expected == entry)
    if expected == entry:
        new = u64[layout.RBX] & 0xFFFFFFFF | (u64[layout.RCX] & 0xFFFFFFFF) << 32
        return Store(8, new, True, set_zero)

    def commit() -> None:
        set_zero()
        u64[layout.RAX], u64[layout.RDX] = entry & 0xFFFFFFFF, entry >> 32

    return Store(8, None, True, commit)


def _shift(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    """Shifts and rotations; the last operand is the count, one in between is what SHLD and SHRD shift in."""
    memory, *others, counter = instruction.operands
    if memory.kind != "memory":
        return None
    window, name, size = vcpu.domain.hypervisor.cpu.window, instruction.mnemonic, memory.size
    count = counter.number if counter.kind == "immediate" else read_operand(vcpu, counter)
    old, eflags = old_value(vcpu, at, size), flags.read_eflags(window)
    if not count & COUNT_MASK:
        return Store(size, None, False, None)
    other = read_operand(vcpu, others[0]) if others else 0
    shifted = _ALL_SHIFTS[name](old, count & COUNT_MASK, 8 * size, other)
    after = flags_after(name, shifted, size, eflags)
    return store_result(instruction, size, old, shifted.result, lambda: flags.write_eflags(window, after))


def _arpl(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    """ARPL: raise the RPL of a selector in memory to that of the one in the register."""
    old, rpl = old_value(vcpu, at, 2), read_operand(vcpu, instruction.operands[1]) & 3
    raised = old & 3 < rpl
    return store_result(
        instruction, 2, old, old & ~3 | rpl if raised else old, _set_flag(vcpu, flags.ZF, raised)
    )


ARITHMETIC_STORES: Final[dict[str, Emulation]] = {
    "add": _binary(_add),
    "adc": _binary(_adc),
    "sub": _binary(_sub),
    "sbb": _binary(_sbb),
    "or": _binary(_logic(lambda old, value: old | value)),
    "and": _binary(_logic(lambda old, value: old & value)),
    "xor": _binary(_logic(lambda old, value: old ^ value)),
    "inc": _unary(_inc),
    "dec": _unary(_dec),
    "neg": _unary(_neg),
    "not": _unary(_not),
    "bts": _binary(_bit(lambda old, bit: old | bit)),
    "btr": _binary(_bit(lambda old, bit: old & ~bit)),
    "btc": _binary(_bit(lambda old, bit: old ^ bit)),
    "xadd": _xadd,
    "cmpxchg": _cmpxchg,
    "cmpxchg8b": _cmpxchg8b,
    "arpl": _arpl,
    **dict.fromkeys(_ALL_SHIFTS, _shift),
}
