"""Multiplication and division by an operand in memory; undefined flags are as the engine leaves them."""

from typing import Final

from pvemu.cpu import exits, flags, layout
from pvemu.hypervisor.emulate.memory import InstructionFault, Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Get, Put, Run, Translation, mask, register, set_register


def _signed(value: int, size: int) -> int:
    sign = 1 << 8 * size - 1
    return (value ^ sign) - sign


def _pair(translation: Translation, size: int) -> tuple[Get, Put]:
    """The double-width accumulator: AX for bytes, else DX:AX and its wider forms."""
    window = translation.window
    if size == 1:
        return register(window, layout.RAX, 2), set_register(window, layout.RAX, 2)
    low, high = (register(window, number, size) for number in (layout.RAX, layout.RDX))
    put_low, put_high = (set_register(window, number, size) for number in (layout.RAX, layout.RDX))
    shift, ones = 8 * size, mask(size)

    def put(value: int) -> None:
        put_low(value & ones)
        put_high(value >> shift & ones)

    return lambda: low() | high() << shift, put


def _multiply(*, signed: bool) -> Translate:
    """MUL, and IMUL with one operand: the accumulator times memory."""

    def translate(translation: Translation) -> Run:
        window, source = translation.window, translation.operands[0]
        size, ones = source.size, mask(source.size)
        load, accumulator = translation.load(source, size), register(window, layout.RAX, size)
        _, put = _pair(translation, size)

        def multiply(memory: Memory) -> bool:
            first, second = load(memory), accumulator()
            if signed:
                product = _signed(first, size) * _signed(second, size)
                is_wide = product != _signed(product & ones, size)
            else:
                product = first * second
                is_wide = product > ones
            put(product & mask(2 * size))
            flags.set_lazy(window, flags.MUL, size, product & ones, int(is_wide))
            return False

        return multiply

    return translate


def _multiply_into_register(translation: Translation) -> Run:
    """IMUL with two operands, or three, the last of which is a number."""
    window, (target, *sources) = translation.window, translation.operands
    size, ones = target.size, mask(target.size)
    first, second = sources if len(sources) > 1 else (sources[0], target)
    load, other, put = translation.load(first, size), translation.value(second, size), translation.put(target)

    def multiply(memory: Memory) -> bool:
        product = _signed(load(memory), size) * _signed(other(), size)
        result = product & ones
        put(result)
        flags.set_lazy(window, flags.MUL, size, result, int(product != _signed(result, size)))
        return False

    return multiply


def _imul(translation: Translation) -> Run:
    if len(translation.operands) > 1:
        return _multiply_into_register(translation)
    return _multiply(signed=True)(translation)


def _divide(*, signed: bool) -> Translate:
    """DIV and IDIV: #DE for a divisor of zero, or a quotient that has no room. No flag changes."""

    def translate(translation: Translation) -> Run:
        source = translation.operands[0]
        size, ones, shift = source.size, mask(source.size), 8 * source.size
        load, (dividend, put) = translation.load(source, size), _pair(translation, size)
        least, most = (-(1 << shift - 1), (1 << shift - 1) - 1) if signed else (0, ones)

        def divide(memory: Memory) -> bool:
            divisor, number = load(memory), dividend()
            if signed:
                divisor, number = _signed(divisor, size), _signed(number, 2 * size)
            if not divisor:
                raise InstructionFault(exits.DE)
            quotient = abs(number) // abs(divisor)
            if (number < 0) != (divisor < 0):
                quotient = -quotient
            if not least <= quotient <= most:
                raise InstructionFault(exits.DE)
            remainder = number - quotient * divisor
            put(quotient & ones | (remainder & ones) << shift)
            return False

        return divide

    return translate


PRODUCTS: Final[dict[str, Translate]] = {
    "mul": _multiply(signed=False),
    "imul": _imul,
    "div": _divide(signed=False),
    "idiv": _divide(signed=True),
}
