"""Writes the bytes of one instruction, once its form is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from guestkit.x86.addressing import Address, FieldKind, address_size, encode_address
from guestkit.x86.errors import EncodeError
from guestkit.x86.matching import signed
from guestkit.x86.notation import FIELD_BYTES, Form, Place
from guestkit.x86.operands import Far, Immediate, Memory, Operand, Register, Relative, Value
from guestkit.x86.prefixes import ADDRESS_SIZE, ordered_prefixes, segment_prefix

# The immediates that the processor extends, and the width to which it does.
_EXTENDED = {"simm8:16": 16, "simm8:32": 32, "simm8:64": 64, "simm32": 64, "known32": 64}


@dataclass(frozen=True, slots=True)
class Fixup:
    """A field whose number was not known: ``size`` bytes, little endian, ``offset`` bytes into the code.

    ``absolute`` holds the number, signed or not; ``signed`` holds it where the processor extends its sign;
    ``relative`` holds the number minus the address of the end of the instruction. Of the two fields of a Far
    operand, the one of 4 bytes is the offset and the one of 2 the selector.
    """

    offset: int
    size: int
    kind: FieldKind
    operand_index: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of an instruction, and one fixup for each field whose number was not known.

    Those fields hold the numbers as they were given, modulo their size: who encodes again when the symbols
    have settled needs no fixup.
    """

    code: bytes
    fixups: tuple[Fixup, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """A number on its way into ``size`` bytes of the code."""

    value: Value
    size: int
    kind: FieldKind
    operand_index: int


@dataclass(frozen=True, slots=True)
class Layout:
    """An instruction of ``bits``-bit code without its place: the fixed bytes, and the fields after them."""

    bits: int
    head: bytes
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """Length of the instruction in bytes."""
        return len(self.head) + sum(field.size for field in self.fields)

    def reaches(self, address: int) -> bool:
        """Whether every known relative target can be reached from an instruction at ``address``."""
        return all(
            _holds(field, self._number(field, address))
            for field in self.fields
            if field.kind == "relative" and field.value.known
        )

    def encoded(self, address: int, *, final: bool) -> Encoded:
        """The bytes for an instruction at ``address``; raises EncodeError for a number that does not fit."""
        code = bytearray(self.head)
        fixups = []
        for field in self.fields:
            number = self._number(field, address)
            if (field.value.known or final) and not _holds(field, number):
                raise _overflow(field, number)
            if not field.value.known:
                fixups.append(Fixup(len(code), field.size, field.kind, field.operand_index))
            code += (number % (1 << 8 * field.size)).to_bytes(field.size, "little")
        return Encoded(bytes(code), tuple(fixups))

    def _number(self, field: Field, address: int) -> int:
        if field.kind == "relative":
            return signed(field.value.number - (address + self.size), self.bits)
        return field.value.number


_NOTHING = Address()


@dataclass(slots=True)
class _Parts:
    """An instruction while its operands are put into their places; the numbers have all their four bits."""

    prefixes: set[int]
    rex_w: bool
    reg: int = 0
    rm: Address = _NOTHING
    plus: int = 0
    displacement: tuple[Field, ...] = ()
    others: tuple[Field, ...] = ()

    @property
    def rex(self) -> int:
        """W, R, X and B; rm and plus, which no form has both, share B."""
        return (
            self.rex_w << 3
            | self.reg >> 3 << 2
            | self.rm.index_high << 1
            | self.rm.base_high
            | self.plus >> 3
        )


def lay_out(
    form: Form, operands: Sequence[Operand], bits: int, prefixes: set[int], leading: bytes = b""
) -> Layout:
    """Put the operands of an instruction into the places of its form.

    ``prefixes`` are prefix bytes that the source asks for, ``leading`` is written before all others.
    """
    parts = _Parts(prefixes | form.prefixes, form.rex_w, reg=form.digit or 0)
    for index, (operand, name, place) in enumerate(zip(operands, form.operands, form.places, strict=True)):
        match operand:
            case Register():
                _put_register(parts, operand.number, place)
            case Memory():
                try:
                    _put_memory(parts, operand, place, bits, index)
                except EncodeError as error:
                    raise EncodeError(str(error), index) from None
            case Immediate() if place == "immediate":
                parts.others += (_immediate_field(operand.value, name, index),)
            case Relative():
                parts.others += (Field(operand.value, FIELD_BYTES[name], "relative", index),)
            case Far():
                parts.others += (
                    Field(operand.offset, 4, "absolute", index),
                    Field(operand.selector, 2, "absolute", index),
                )
    head = leading + ordered_prefixes(parts.prefixes) + _rex_prefix(parts.rex, operands)
    head += form.opcode[:-1] + bytes([form.opcode[-1] + (parts.plus & 7)])
    if form.has_modrm:
        head += bytes([parts.rm.mod << 6 | (parts.reg & 7) << 3 | parts.rm.rm]) + parts.rm.sib
    return Layout(bits, head, parts.displacement + parts.others)


def _put_register(parts: _Parts, number: int, place: Place) -> None:
    if place in ("reg", "both"):
        parts.reg = number
    if place in ("rm", "both"):
        parts.rm = Address(mod=3, rm=number & 7, base_high=number >> 3)
    if place == "plus":
        parts.plus = number


def _put_memory(parts: _Parts, memory: Memory, place: Place, bits: int, index: int) -> None:
    if memory.segment is not None:
        parts.prefixes.add(segment_prefix(memory.segment))
    size = address_size(memory, bits)
    if size != bits:
        parts.prefixes.add(ADDRESS_SIZE)
    if place == "moffs":
        parts.others += (Field(memory.displacement, size // 8, "absolute", index),)
        return
    parts.rm = rm = encode_address(memory, bits)
    if rm.field_size:
        parts.displacement = (Field(rm.displacement, rm.field_size, rm.field_kind, index),)


def _immediate_field(value: Value, name: str, index: int) -> Field:
    if name not in _EXTENDED:
        return Field(value, FIELD_BYTES[name], "absolute", index)
    if value.known:
        value = Value(signed(value.number, _EXTENDED[name]))
    return Field(value, FIELD_BYTES[name], "signed", index)


def _rex_prefix(rex: int, operands: Sequence[Operand]) -> bytes:
    """The REX prefix with these bits, if anything asks for one; EncodeError if an operand excludes it."""
    registers = {index: operand for index, operand in enumerate(operands) if isinstance(operand, Register)}
    if not rex and not any(register.needs_rex for register in registers.values()):
        return b""
    for index, operand in registers.items():
        if operand.no_rex:
            raise EncodeError(
                f"{operand.name} cannot stand in an instruction with a REX prefix, which 64-bit operands, "
                "r8 to r15, spl, bpl, sil and dil need",
                index,
            )
    return bytes([0x40 | rex])


def _holds(field: Field, number: int) -> bool:
    """Whether a field can hold a number; a signed field may be given it as an unsigned number of 64 bits."""
    half = 1 << (8 * field.size - 1)
    if field.kind == "absolute":
        return -half <= number < 2 * half
    return -half <= number < half or (1 << 64) - half <= number < 1 << 64


def _overflow(field: Field, number: int) -> EncodeError:
    half = 1 << (8 * field.size - 1)
    if field.kind == "relative":
        message = f"the target is {number} bytes away; this form reaches from {-half} to {half - 1}"
    else:
        highest = 2 * half - 1 if field.kind == "absolute" else half - 1
        message = f"{number:#x} does not fit into {8 * field.size} bits: it must be from {-half} to {highest}"
    return EncodeError(message, field.operand_index)
