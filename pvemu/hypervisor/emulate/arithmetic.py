"""Instructions that compute: addition to comparison, increments, exchanges with a sum or a comparison."""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.decode import Operand
from pvemu.hypervisor.emulate.memory import InstructionFault, Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Run, Translation, mask


class _Operation(NamedTuple):
    """Computes a result from the first operand, the second and the carry; `flags` is their lazy kind."""

    flags: int
    compute: Callable[[int, int, int], int]
    uses_carry: bool = False


_OPERATIONS: Final[dict[str, _Operation]] = {
    "add": _Operation(flags.ADD, lambda old, value, carry: old + value),
    "adc": _Operation(flags.ADC, lambda old, value, carry: old + value + carry, uses_carry=True),
    "sub": _Operation(flags.SUB, lambda old, value, carry: old - value),
    "cmp": _Operation(flags.SUB, lambda old, value, carry: old - value),
    "sbb": _Operation(flags.SBB, lambda old, value, carry: old - value - carry, uses_carry=True),
}
_LOGIC: Final[dict[str, _Operation]] = {
    "or": _Operation(flags.LOGIC, lambda old, value, carry: old | value),
    "and": _Operation(flags.LOGIC, lambda old, value, carry: old & value),
    "test": _Operation(flags.LOGIC, lambda old, value, carry: old & value),
    "xor": _Operation(flags.LOGIC, lambda old, value, carry: old ^ value),
}
_ONLY_FLAGS: Final = frozenset({"cmp", "test"})


def _binary(name: str) -> Translate:
    operation = (_OPERATIONS | _LOGIC)[name]
    kind, compute, uses_carry = operation

    def translate(translation: Translation) -> Run:
        window, (target, source) = translation.window, translation.operands
        size, ones, eflags = target.size, mask(target.size), translation.eflags()
        # Flags of logic follow from the result alone.
        kept = 0 if name in _LOGIC else ones
        if target.kind == "memory" and name not in _ONLY_FLAGS:
            place, value = translation.place(target, size, write=True), translation.value(source, size)

            def change(memory: Memory) -> bool:
                at = place()
                old, other = memory.read_for_write(at, size), value()
                carry = eflags() & flags.CF if uses_carry else 0
                result = compute(int.from_bytes(old, "little"), other, carry) & ones
                memory.replace(at, old, result.to_bytes(size, "little"))
                flags.set_lazy(window, kind, size, result, other & kept, carry)
                return False

            return change
        load, load_other = translation.load(target, size), translation.load(source, size)
        put = None if name in _ONLY_FLAGS else translation.put(target)

        def combine(memory: Memory) -> bool:
            old, other = load(memory), load_other(memory)
            carry = eflags() & flags.CF if uses_carry else 0
            result = compute(old, other, carry) & ones
            flags.set_lazy(window, kind, size, result, other & kept, carry)
            if put is not None:
                put(result)
            return False

        return combine

    return translate


def _unary(compute: Callable[[int], int], kind: int | None) -> Translate:
    def translate(translation: Translation) -> Run:
        window, target = translation.window, translation.operands[0]
        size, ones, eflags = target.size, mask(target.size), translation.eflags()
        place = translation.place(target, size, write=True)

        def change(memory: Memory) -> bool:
            at = place()
            raw = memory.read_for_write(at, size)
            old = int.from_bytes(raw, "little")
            result = compute(old) & ones
            memory.replace(at, raw, result.to_bytes(size, "little"))
            if kind is not None:
                # NEG subtracts the old value; INC and DEC leave the carry as it is.
                flags.set_lazy(window, kind, size, result, old if kind == flags.SUB else eflags() & flags.CF)
            return False

        return change

    return translate


def _xadd(translation: Translation) -> Run:
    target, register = translation.operands
    window, size, ones = translation.window, target.size, mask(target.size)
    place, value = translation.place(target, size, write=True), translation.value(register, size)
    put = translation.put(register)

    def add(memory: Memory) -> bool:
        at = place()
        raw, other = memory.read_for_write(at, size), value()
        old = int.from_bytes(raw, "little")
        result = old + other & ones
        memory.replace(at, raw, result.to_bytes(size, "little"))
        put(old)
        flags.set_lazy(window, flags.ADD, size, result, other)
        return False

    return add


def _cmpxchg(translation: Translation) -> Run:
    """CMPXCHG; the accumulator is written in any case, which shows in the upper half of RAX."""
    target, register = translation.operands
    window, size, ones = translation.window, target.size, mask(target.size)
    accumulator = Operand("general", size, layout.RAX)
    place, data = translation.place(target, size, write=True), translation.raw(register, size)
    expected, put = translation.value(accumulator, size), translation.put(accumulator)

    def exchange(memory: Memory) -> bool:
        at, wanted = place(), expected()
        raw = memory.read_for_write(at, size)
        old = int.from_bytes(raw, "little")
        if old == wanted:
            memory.write(at, data())
        else:
            memory.replace(at, raw, raw)
        put(old)
        flags.set_lazy(window, flags.SUB, size, wanted - old & ones, old)
        return False

    return exchange


def _exchange_pair(translation: Translation) -> Run:
    """CMPXCHG8B and CMPXCHG16B: EDX:EAX, ECX:EBX or their 64-bit forms. The latter wants to be aligned."""
    target = translation.operands[0]
    u64, size, half = translation.window.u64, target.size, target.size // 2
    place, ones, shift = translation.place(target, size, write=True), mask(half), 8 * half
    set_zero = translation.set_flag(flags.ZF)

    def exchange(memory: Memory) -> bool:
        at = place()
        if size == 16 and at & 15:
            raise InstructionFault(exits.GP)
        raw = memory.read_for_write(at, size)
        old = int.from_bytes(raw, "little")
        equal = old == u64[layout.RAX] & ones | (u64[layout.RDX] & ones) << shift
        if equal:
            new = u64[layout.RBX] & ones | (u64[layout.RCX] & ones) << shift
            memory.write(at, new.to_bytes(size, "little"))
        else:
            memory.replace(at, raw, raw)
            u64[layout.RAX], u64[layout.RDX] = old & ones, old >> shift
        set_zero(equal)
        return False

    return exchange


def _arpl(translation: Translation) -> Run:
    """ARPL: raise the RPL of a selector in memory to that of the one in the register."""
    target, register = translation.operands
    place, value = translation.place(target, 2, write=True), translation.value(register, 2)
    set_zero = translation.set_flag(flags.ZF)

    def adjust(memory: Memory) -> bool:
        at, rpl = place(), value() & 3
        raw = memory.read_for_write(at, 2)
        old = int.from_bytes(raw, "little")
        raised = old & 3 < rpl
        memory.replace(at, raw, (old & ~3 | rpl).to_bytes(2, "little") if raised else raw)
        set_zero(raised)
        return False

    return adjust


ARITHMETIC: Final[dict[str, Translate]] = {
    **{name: _binary(name) for name in (_OPERATIONS | _LOGIC)},
    "inc": _unary(lambda old: old + 1, flags.INC),
    "dec": _unary(lambda old: old - 1, flags.DEC),
    "neg": _unary(lambda old: -old, flags.SUB),
    "not": _unary(lambda old: ~old, None),
    "xadd": _xadd,
    "cmpxchg": _cmpxchg,
    "cmpxchg8b": _exchange_pair,
    "cmpxchg16b": _exchange_pair,
    "arpl": _arpl,
}
