"""What each instruction that stores to memory would store, computed for a store to a page-table entry.

Every function of STORES gets the vCPU, the decoded instruction and the machine address of the store, and
returns a `Store`, or None for a form that is not emulated. Nothing changes before `Store.commit`: only
then registers and flags get their new values.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.cpu import flags, layout
from pvemu.cpu.conditions import CONDITIONS
from pvemu.cpu.decode import Instruction, Operand
from pvemu.hypervisor.pv.store_shifts import COUNT_MASK, DOUBLE_SHIFTS, ROTATIONS, SHIFTS, flags_after
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SIZE


class Store(NamedTuple):
    """A store: its bytes, what is written (None: nothing), and what else the instruction does.

    `is_exchange` is set for XCHG, CMPXCHG and whatever has a LOCK prefix. `repeats` says that a REP prefix
    makes the instruction come again.
    """

    size: int
    written: int | None
    is_exchange: bool
    commit: Callable[[], None]
    repeats: bool = False


_Emulation = Callable[[Vcpu, Instruction, int], Store | None]
#: Computes (result, what leaves the flags behind) from the old value, the operand and the size in bytes.
_Arithmetic = Callable[[Vcpu, int, int, int], tuple[int, Callable[[], None]]]


def _nothing() -> None:
    pass


def _mask(size: int) -> int:
    return (1 << 8 * size) - 1


def read_operand(vcpu: Vcpu, operand: Operand) -> int:
    """The value of a register or immediate operand."""
    if operand.kind == "immediate":
        return operand.number & _mask(operand.size)
    value = vcpu.domain.hypervisor.cpu.window.u64[operand.number]
    return (value >> 8 if operand.high else value) & _mask(operand.size)


def write_register(vcpu: Vcpu, operand: Operand, value: int) -> None:
    """Set a register operand; the rest of its register stays, above bit 31 it becomes zero."""
    u64 = vcpu.domain.hypervisor.cpu.window.u64
    shift = 8 if operand.high else 0
    mask = _mask(operand.size) << shift
    u64[operand.number] = (u64[operand.number] & ~mask | value << shift & mask) & 0xFFFFFFFF


def _old(vcpu: Vcpu, at: int, size: int) -> int:
    """What is in memory; raises GuestFault at the end of the frame, behind which another one follows."""
    if (at & PAGE_MASK) + size > PAGE_SIZE:
        raise GuestFault(at)
    return int.from_bytes(vcpu.domain.hypervisor.ram.u8[at : at + size], "little")


def _result(instruction: Instruction, size: int, old: int, new: int, commit: Callable[[], None]) -> Store:
    """The store of a read-modify-write instruction: none if nothing changes."""
    new &= _mask(size)
    return Store(size, None if new == old else new, "lock" in instruction.prefixes, commit)


def _source(instruction: Instruction) -> tuple[Operand, Operand] | None:
    """Memory destination and register or immediate source; None for another form."""
    if len(instruction.operands) != 2:
        return None
    target, source = instruction.operands
    return (target, source) if target.kind == "memory" and source.kind in ("general", "immediate") else None


def _mov(vcpu: Vcpu, instruction: Instruction, _at: int) -> Store | None:
    form = _source(instruction)
    if form is None:
        return None
    return Store(form[0].size, read_operand(vcpu, form[1]), False, _nothing)


def _xchg(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    memory, register = sorted(instruction.operands, key=lambda operand: operand.kind != "memory")
    if memory.kind != "memory" or register.kind != "general":
        return None
    old, size = _old(vcpu, at, memory.size), memory.size
    return Store(size, read_operand(vcpu, register), True, lambda: write_register(vcpu, register, old))


def _binary(compute: _Arithmetic) -> _Emulation:
    def emulate(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
        form = _source(instruction)
        if form is None:
            return None
        size = form[0].size
        old, value = _old(vcpu, at, size), read_operand(vcpu, form[1])
        result, set_flags = compute(vcpu, old, value & _mask(size), size)
        return _result(instruction, size, old, result, set_flags)

    return emulate


def _unary(compute: _Arithmetic) -> _Emulation:
    def emulate(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
        if len(instruction.operands) != 1 or instruction.operands[0].kind != "memory":
            return None
        size = instruction.operands[0].size
        old = _old(vcpu, at, size)
        result, set_flags = compute(vcpu, old, 0, size)
        return _result(instruction, size, old, result, set_flags)

    return emulate


def _lazy(vcpu: Vcpu, kind: int, size: int, dst: int, src: int, src2: int = 0) -> Callable[[], None]:
    window = vcpu.domain.hypervisor.cpu.window
    return lambda: flags.set_lazy(window, kind, size, dst & _mask(size), src, src2)


def _carry(vcpu: Vcpu) -> int:
    return flags.read_eflags(vcpu.domain.hypervisor.cpu.window) & flags.CF


def _set_flag(vcpu: Vcpu, flag: int, value: bool) -> Callable[[], None]:
    window = vcpu.domain.hypervisor.cpu.window

    def set_flag() -> None:
        others = flags.read_eflags(window) & ~flag
        flags.write_eflags(window, others | flag if value else others)

    return set_flag


def _add(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Callable[[], None]]:
    return old + value, _lazy(vcpu, flags.ADD, size, old + value, value)


def _adc(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Callable[[], None]]:
    carry = _carry(vcpu)
    return old + value + carry, _lazy(vcpu, flags.ADC, size, old + value + carry, value, carry)


def _sub(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Callable[[], None]]:
    return old - value, _lazy(vcpu, flags.SUB, size, old - value, value)


def _sbb(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Callable[[], None]]:
    carry = _carry(vcpu)
    return old - value - carry, _lazy(vcpu, flags.SBB, size, old - value - carry, value, carry)


def _logic(operation: Callable[[int, int], int]) -> _Arithmetic:
    def compute(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Callable[[], None]]:
        result = operation(old, value)
        return result, _lazy(vcpu, flags.LOGIC, size, result, 0)

    return compute


def _inc(vcpu: Vcpu, old: int, _value: int, size: int) -> tuple[int, Callable[[], None]]:
    return old + 1, _lazy(vcpu, flags.INC, size, old + 1, _carry(vcpu))


def _dec(vcpu: Vcpu, old: int, _value: int, size: int) -> tuple[int, Callable[[], None]]:
    return old - 1, _lazy(vcpu, flags.DEC, size, old - 1, _carry(vcpu))


def _neg(vcpu: Vcpu, old: int, _value: int, size: int) -> tuple[int, Callable[[], None]]:
    return -old, _lazy(vcpu, flags.SUB, size, -old, old)


def _not(_vcpu: Vcpu, old: int, _value: int, _size: int) -> tuple[int, Callable[[], None]]:
    return ~old, _nothing


def _bit(change: Callable[[int, int], int]) -> _Arithmetic:
    """BTS, BTR, BTC: a bit offset in a register reaches beyond the operand; the fault says where."""

    def compute(vcpu: Vcpu, old: int, value: int, size: int) -> tuple[int, Callable[[], None]]:
        bit = 1 << (value & (8 * size - 1))
        return change(old, bit), _set_flag(vcpu, flags.CF, bool(old & bit))

    return compute


def _xadd(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    form = _source(instruction)
    if form is None:
        return None
    size, register = form[0].size, form[1]
    old, value = _old(vcpu, at, size), read_operand(vcpu, register)
    set_flags = _lazy(vcpu, flags.ADD, size, old + value, value)

    def commit() -> None:
        set_flags()
        write_register(vcpu, register, old)

    return _result(instruction, size, old, old + value, commit)


def _cmpxchg(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    form = _source(instruction)
    if form is None:
        return None
    size = form[0].size
    old = _old(vcpu, at, size)
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
    u64, entry = vcpu.domain.hypervisor.cpu.window.u64, _old(vcpu, at, 8)
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
    old, eflags = _old(vcpu, at, size), flags.read_eflags(window)
    if not count & COUNT_MASK:
        return Store(size, None, False, _nothing)
    other = read_operand(vcpu, others[0]) if others else 0
    shifted = _ALL_SHIFTS[name](old, count & COUNT_MASK, 8 * size, other)
    after = flags_after(name, shifted, size, eflags)
    return _result(instruction, size, old, shifted.result, lambda: flags.write_eflags(window, after))


def _setcc(holds: Callable[[int], bool]) -> _Emulation:
    def emulate(vcpu: Vcpu, _instruction: Instruction, _at: int) -> Store | None:
        value = holds(flags.read_eflags(vcpu.domain.hypervisor.cpu.window))
        return Store(1, int(value), False, _nothing)

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


def _arpl(vcpu: Vcpu, instruction: Instruction, at: int) -> Store | None:
    """ARPL: raise the RPL of a selector in memory to that of the one in the register."""
    old, rpl = _old(vcpu, at, 2), read_operand(vcpu, instruction.operands[1]) & 3
    raised = old & 3 < rpl
    return _result(instruction, 2, old, old & ~3 | rpl if raised else old, _set_flag(vcpu, flags.ZF, raised))


def _string(size: int, *, from_memory: bool) -> _Emulation:
    """MOVS and STOS: one step; with a REP prefix the instruction comes again for the next."""

    def emulate(vcpu: Vcpu, instruction: Instruction, _at: int) -> Store | None:
        window = vcpu.domain.hypervisor.cpu.window
        u64 = window.u64
        left = u64[layout.RCX] - 1 & 0xFFFFFFFF if instruction.prefixes & _REPEATS else None
        if from_memory:
            raw = vcpu.domain.memory.copy_from_guest(u64[layout.RSI] & 0xFFFFFFFF, size)
            value = int.from_bytes(raw, "little")
        else:
            value = u64[layout.RAX] & _mask(size)
        step = -size if flags.read_eflags(window) & flags.DF else size

        def commit() -> None:
            u64[layout.RDI] = (u64[layout.RDI] + step) & 0xFFFFFFFF
            if from_memory:
                u64[layout.RSI] = (u64[layout.RSI] + step) & 0xFFFFFFFF
            if left is not None:
                u64[layout.RCX] = left

        return Store(size, value, False, commit, repeats=bool(left))

    return emulate


_REPEATS: Final = frozenset({"rep", "repe", "repne"})
_ALL_SHIFTS: Final = {**SHIFTS, **ROTATIONS, **DOUBLE_SHIFTS}

STORES: Final[dict[str, _Emulation]] = {
    "mov": _mov,
    "xchg": _xchg,
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
    "movnti": _mov,
    "pop": _pop,
    "arpl": _arpl,
    **dict.fromkeys(_ALL_SHIFTS, _shift),
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
