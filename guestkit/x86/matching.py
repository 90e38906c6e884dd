"""Which operand names of the table an operand satisfies: EBX is an r32 and an r/m32, 5 is an imm8."""

from functools import lru_cache

from guestkit.x86.operands import Distance, Far, Immediate, Memory, Operand, Register, RegisterKind, Relative

_REGISTER_NAMES: dict[RegisterKind, str] = {
    "gpr8": "r8 r/m8",
    "gpr16": "r16 r/m16",
    "gpr32": "r32 r/m32 r32/m16",
    "gpr64": "r64 r/m64",
    "seg": "Sreg",
    "cr": "CRn",
    "dr": "DRn",
    "st": "STi",
    "mm": "mm mm/m64",
    "xmm": "xmm xmm/m32 xmm/m64 xmm/m128",
}
_FIXED_NAMES = {"st0": "ST"}  # every other register is spelled in the table as here, in capitals

# Names by the size in bits that a memory operand has in the source. 48 and 80 are whole far pointers.
_MEMORY_NAMES: dict[int, str] = {
    8: "m8 r/m8",
    16: "m16 r/m16 r32/m16",
    32: "m32 r/m32 xmm/m32",
    48: "m16:32",
    64: "m64 r/m64 mm/m64 xmm/m64",
    80: "m80 m16:64",
    128: "m128 xmm/m128",
}
_UNSIZED_NAMES = " ".join(_MEMORY_NAMES.values()) + " m16:16"
_ABSOLUTE_NAMES = {8: "moffs8", 16: "moffs16", 32: "moffs32", 64: "moffs64"}
_FAR_NAMES = {None: "m16:32", 16: "m16:16", 32: "m16:32", 64: "m16:64"}

MEMORY_SIZES = {name: size for size, names in _MEMORY_NAMES.items() for name in names.split()}

# (name, bits of the operand, bits of the field when the processor extends its sign)
_IMMEDIATE_NAMES: tuple[tuple[str, int, int | None], ...] = (
    ("imm8", 8, None),
    ("imm16", 16, None),
    ("imm32", 32, None),
    ("imm64", 64, None),
    ("simm8:16", 16, 8),
    ("simm8:32", 32, 8),
    ("simm8:64", 64, 8),
    ("simm32", 64, 32),
    ("known32", 64, 32),
)
_DIGITS = (1, 3)  # the numbers that have opcodes of their own: SHL by 1 and INT 3
# A number that may still move takes the widest field, but for the 64-bit operations that have 32 bits only.
_WIDE_NAMES = frozenset({"imm8", "imm16", "imm32", "imm64", "simm32"})
_DISTANCE_NAMES: dict[Distance | None, frozenset[str]] = {
    "short": frozenset({"rel8"}),
    "near": frozenset({"rel32"}),
    None: frozenset({"rel8", "rel32"}),
}


def signed(number: int, bits: int) -> int:
    """The number modulo 2**bits, read as a signed one."""
    half = 1 << (bits - 1)
    return (number + half) % (1 << bits) - half


def satisfied_names(operand: Operand, bits: int, distance: Distance | None = None) -> frozenset[str]:
    """The table's names for an operand in 32-bit or 64-bit code; none for a register that it has not."""
    match operand:
        case Register():
            return _names_of_register(operand, bits)
        case Immediate():
            return _names_of_immediate(operand)
        case Memory():
            return _names_of_memory(operand, bits)
        case Relative():
            return _DISTANCE_NAMES[operand.distance or distance]
        case Far():
            return frozenset({"ptr16:32"})


def exists_only_in_64_bit_code(register: Register) -> bool:
    """Whether naming the register takes a REX prefix."""
    return register.number >= 8 or register.kind == "gpr64" or register.needs_rex


@lru_cache(maxsize=512)
def _names_of_register(register: Register, bits: int) -> frozenset[str]:
    if bits == 32 and exists_only_in_64_bit_code(register):
        return frozenset()
    fixed = _FIXED_NAMES.get(register.name, register.name.upper())
    return frozenset({*_REGISTER_NAMES[register.kind].split(), fixed})


@lru_cache(maxsize=4096)
def _names_of_immediate(immediate: Immediate) -> frozenset[str]:
    number, size = immediate.value.number, immediate.size
    if not immediate.value.known:
        if size is None:
            return _WIDE_NAMES
        names = {name for name, wide, field in _IMMEDIATE_NAMES if size == (field or wide)}
        return frozenset(names | {"simm32"} if size == 64 else names)
    names = {name for name, wide, field in _IMMEDIATE_NAMES if _fits(number, wide, field)}
    if size is not None:
        names &= {name for name, wide, field in _IMMEDIATE_NAMES if size in (wide, field)}
    if number in _DIGITS:
        names.add(str(number))
    return frozenset(names)


def _fits(number: int, wide: int, field: int | None) -> bool:
    """Whether a number, signed or not, has ``wide`` bits, and is the extension of ``field`` bits."""
    if not -(1 << (wide - 1)) <= number < 1 << wide:
        return False
    return field is None or signed(signed(number, wide), field) == signed(number, wide)


def _names_of_memory(memory: Memory, bits: int) -> frozenset[str]:
    if memory.far:
        return frozenset({_FAR_NAMES[memory.size]}) if memory.size in _FAR_NAMES else frozenset()
    absolute = memory.base is None and memory.index is None and not memory.rip_relative
    wide = absolute and not _reaches(memory, bits)
    return _names_of_memory_size(memory.size, absolute, wide)


def _reaches(memory: Memory, bits: int) -> bool:
    """Whether an absolute address fits into the 32 bits of ModRM, which 64-bit code extends with the sign."""
    if bits == 32 or memory.address_size == 32 or not memory.displacement.known:
        return True
    return _fits(memory.displacement.number, 64, 32)


@lru_cache(maxsize=64)
def _names_of_memory_size(size: int | None, absolute: bool, wide: bool) -> frozenset[str]:
    names = (
        set() if wide else {"m", *(_UNSIZED_NAMES if size is None else _MEMORY_NAMES.get(size, "")).split()}
    )
    if absolute:
        names |= {name for width, name in _ABSOLUTE_NAMES.items() if size in (None, width)}
    return frozenset(names)
