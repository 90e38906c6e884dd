"""The encoding of a memory operand: ModRM, SIB, displacement and the prefixes that go with them."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from guestkit.x86.errors import EncodeError
from guestkit.x86.matching import exists_only_in_64_bit_code, signed
from guestkit.x86.operands import Memory, Register, Value

FieldKind: TypeAlias = Literal["absolute", "relative", "signed"]

_ADDRESS_SIZES = {"gpr16": 16, "gpr32": 32, "gpr64": 64}
_SIZES_OF_MODE = {32: (32, 16), 64: (64, 32)}
_SCALE_BITS = {1: 0, 2: 1, 4: 2, 8: 3}
# The eight 16-bit addresses (Intel manual, volume 2, table 2-1), by the names of their registers.
_RM_16 = {
    names: rm
    for rm, names in enumerate(
        frozenset(pair.split()) for pair in ("bx si", "bx di", "bp si", "bp di", "si", "di", "bp", "bx")
    )
}
_STACK_POINTER = 4  # as rm it announces a SIB byte, as an index it means none
_FRAME_POINTER = 5  # without displacement its codes mean a bare displacement
_ZERO = Value(0)


@dataclass(frozen=True, slots=True)
class Address:
    """A memory operand taken apart: ``displacement`` follows ``sib`` and has ``field_size`` bytes.

    ``index_high`` and ``base_high`` are the REX.X and REX.B bits.
    """

    size: int = 0
    mod: int = 0
    rm: int = 0
    sib: bytes = b""
    displacement: Value = _ZERO
    field_size: int = 0
    field_kind: FieldKind = "absolute"
    index_high: int = 0
    base_high: int = 0


def encode_address(memory: Memory, bits: int) -> Address:
    """The encoding of a memory operand in 32-bit or 64-bit code; raises EncodeError for an impossible one."""
    size = address_size(memory, bits)
    if size == 16:
        return _encode_16(memory)
    if memory.rip_relative:
        return _encode_rip_relative(memory, size, bits)
    return _encode_sib(memory, size, bits)


def address_size(memory: Memory, bits: int) -> int:
    """The bits of an address: those of its registers, else what the source says, else those of the code."""
    sizes = set()
    for register in (memory.base, memory.index):
        if register is not None:
            if register.kind not in _ADDRESS_SIZES:
                raise EncodeError(f"{register.name} cannot be part of an address; use a general register")
            if bits == 32 and exists_only_in_64_bit_code(register):
                raise EncodeError(f"{register.name} exists only in 64-bit code")
            sizes.add(_ADDRESS_SIZES[register.kind])
    if memory.address_size is not None:
        sizes.add(memory.address_size)
    if len(sizes) > 1:
        raise EncodeError("the parts of the address have different sizes; use registers of one size")
    size = sizes.pop() if sizes else bits
    if size not in _SIZES_OF_MODE[bits]:
        widths = " or ".join(str(width) for width in _SIZES_OF_MODE[bits])
        raise EncodeError(f"an address in {bits}-bit code has {widths} bits, not {size}")
    return size


def _encode_16(memory: Memory) -> Address:
    displacement = _normalized(memory.displacement, 16)
    registers = [register for register in (memory.base, memory.index) if register is not None]
    if not registers:
        return Address(16, 0, 6, b"", displacement, 2, "absolute")
    rm = _RM_16.get(frozenset(register.name for register in registers))
    if rm is None or memory.scale != 1:
        raise EncodeError("a 16-bit address is bx or bp, si or di, or one of each, without a scale")
    mod, field_size = _displacement_field(displacement, wide=2, needs_one=rm == 6)
    return Address(16, mod, rm, b"", displacement, field_size, "absolute")


def _encode_rip_relative(memory: Memory, size: int, bits: int) -> Address:
    if bits == 32:
        raise EncodeError("addresses relative to rip exist only in 64-bit code")
    if memory.base is not None or memory.index is not None:
        raise EncodeError("an address relative to rip takes no other register")
    return Address(size, 0, _FRAME_POINTER, b"", memory.displacement, 4, "relative")


def _encode_sib(memory: Memory, size: int, bits: int) -> Address:
    base, index = _base_and_index(memory)
    displacement = _normalized(memory.displacement, size)
    kind: FieldKind = "signed" if size == 64 else "absolute"
    if base is None and index is None:
        # 64-bit code reads the short form, rm = 5 alone, as relative to rip.
        rm, sib = (_STACK_POINTER, bytes([0x25])) if bits == 64 else (_FRAME_POINTER, b"")
        return Address(size, 0, rm, sib, displacement, 4, kind)
    if base is None:
        mod, field_size, base_number = 0, 4, _FRAME_POINTER
    else:
        base_number = base.number
        needs_one = base_number & 7 == _FRAME_POINTER
        mod, field_size = _displacement_field(displacement, wide=4, needs_one=needs_one)
    rm, sib = base_number & 7, b""
    if index is not None or rm == _STACK_POINTER:
        index_number = _STACK_POINTER if index is None else index.number
        sib = bytes([_SCALE_BITS[memory.scale] << 6 | (index_number & 7) << 3 | rm])
        rm = _STACK_POINTER
    index_high = 0 if index is None else index.number >> 3
    return Address(size, mod, rm, sib, displacement, field_size, kind, index_high, base_number >> 3)


def _base_and_index(memory: Memory) -> tuple[Register | None, Register | None]:
    """The two registers, exchanged where that avoids the stack pointer as an index."""
    base, index = memory.base, memory.index
    if memory.scale not in _SCALE_BITS:
        raise EncodeError(f"an index is scaled by 1, 2, 4 or 8, not by {memory.scale}")
    if index is not None and index.number == _STACK_POINTER:
        if memory.scale != 1 or (base is not None and base.number == _STACK_POINTER):
            raise EncodeError(f"{index.name} cannot be an index")
        base, index = index, base
    return base, index


def _normalized(displacement: Value, size: int) -> Value:
    """A known displacement as a signed number, once it is clear that an address of so many bits holds it."""
    if not displacement.known:
        return displacement
    number = displacement.number
    if not -(1 << (size - 1)) <= number < 1 << size:
        raise EncodeError(f"{number:#x} does not fit into a {size}-bit address")
    offset = signed(number, size)
    if offset != signed(offset, 32):
        raise EncodeError(f"{number:#x} does not fit into the signed 32-bit displacement of an address")
    return Value(offset)


def _displacement_field(displacement: Value, *, wide: int, needs_one: bool) -> tuple[int, int]:
    """The mod field and the number of bytes of a displacement next to a base register."""
    if not displacement.known:
        return 2, wide
    if displacement.number == 0 and not needs_one:
        return 0, 0
    return (1, 1) if -128 <= displacement.number <= 127 else (2, wide)
