"""The operands of an x86 instruction, as a front end hands them to the encoder."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Distance: TypeAlias = Literal["short", "near"]
RegisterKind: TypeAlias = Literal["gpr8", "gpr16", "gpr32", "gpr64", "seg", "cr", "dr", "st", "mm", "xmm"]


@dataclass(frozen=True, slots=True)
class Register:
    """One register: ``number`` is the 4-bit number that ModRM, SIB and REX carry.

    ``needs_rex`` marks spl, bpl, sil and dil, which are ah, ch, dh and bh in an instruction without a REX
    prefix; ``no_rex`` marks those four, which no instruction with a REX prefix can name.
    """

    name: str
    kind: RegisterKind
    number: int
    needs_rex: bool = False
    no_rex: bool = False

    @property
    def size(self) -> int:
        """Width of the register in bits; a control or debug register counts as 32 (64 in 64-bit code)."""
        return _SIZES[self.kind]


@dataclass(frozen=True, slots=True)
class Value:
    """A number; with ``known=False`` one that depends on a symbol and may still move.

    The encoder never looks at a number that is not known: it picks the encoding that holds any value of the
    field's natural width, and leaves a fixup.
    """

    number: int
    known: bool = True


@dataclass(frozen=True, slots=True)
class Immediate:
    """A constant operand; ``size`` is the number of bits of an explicit byte/word/dword/qword, else None."""

    value: Value
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory operand ``size segment:[base + index * scale + displacement]``.

    ``size`` is in bits: 8, 16, 32, 64, 80 or 128; None when the source did not say. For a far pointer
    (``far=True``, as in ``jmp far [x]``) it is the size of the offset part, and None means 32.
    ``address_size`` is 16, 32 or 64 where the source forces one, which an address without registers may need.
    With ``rip_relative`` the displacement's number is the absolute address of the target: the encoder
    subtracts the end of the instruction.
    """

    size: int | None = None
    base: Register | None = None
    index: Register | None = None
    scale: int = 1
    displacement: Value = Value(0)
    segment: Register | None = None
    address_size: int | None = None
    rip_relative: bool = False
    far: bool = False


@dataclass(frozen=True, slots=True)
class Relative:
    """The absolute target address of a jump, call or loop; ``distance`` is an explicit short or near."""

    value: Value
    distance: Distance | None = None


@dataclass(frozen=True, slots=True)
class Far:
    """A direct far target ``selector:offset``, 16 and 32 bits."""

    selector: Value
    offset: Value


Operand: TypeAlias = Register | Immediate | Memory | Relative | Far

_SIZES: dict[RegisterKind, int] = {
    "gpr8": 8, "gpr16": 16, "gpr32": 32, "gpr64": 64, "seg": 16, "cr": 32, "dr": 32, "st": 80, "mm": 64,
    "xmm": 128,
}  # fmt: skip

# Each row lists the names of one kind in the order of their numbers, from 0.
_NAMES: dict[RegisterKind, str] = {
    "gpr8": "al cl dl bl spl bpl sil dil r8b r9b r10b r11b r12b r13b r14b r15b",
    "gpr16": "ax cx dx bx sp bp si di r8w r9w r10w r11w r12w r13w r14w r15w",
    "gpr32": "eax ecx edx ebx esp ebp esi edi r8d r9d r10d r11d r12d r13d r14d r15d",
    "gpr64": "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15",
    "seg": "es cs ss ds fs gs",
    "cr": " ".join(f"cr{n}" for n in range(16)),
    "dr": " ".join(f"dr{n}" for n in range(16)),
    "st": " ".join(f"st{n}" for n in range(8)),
    "mm": " ".join(f"mm{n}" for n in range(8)),
    "xmm": " ".join(f"xmm{n}" for n in range(16)),
}
_NEED_REX = frozenset({"spl", "bpl", "sil", "dil"})
_HIGH_BYTES = "ah ch dh bh"  # numbers 4 to 7, without REX only

REGISTERS: dict[str, Register] = {
    name: Register(name, kind, number, needs_rex=name in _NEED_REX)
    for kind, names in _NAMES.items()
    for number, name in enumerate(names.split())
}
REGISTERS.update(
    {name: Register(name, "gpr8", number, no_rex=True) for number, name in enumerate(_HIGH_BYTES.split(), 4)}
)
REGISTERS["st"] = REGISTERS["st0"]
