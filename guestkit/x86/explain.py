"""Says why an instruction has no encoding, and what would have one."""

from collections.abc import Iterable, Sequence

from guestkit.x86.errors import EncodeError
from guestkit.x86.matching import exists_only_in_64_bit_code
from guestkit.x86.notation import Form
from guestkit.x86.operands import Far, Immediate, Memory, Operand, Register, Relative
from guestkit.x86.table import candidates, forms_by_mnemonic

_SIZE_WORDS = {8: "byte", 16: "word", 32: "dword", 48: "far dword", 64: "qword", 80: "tword", 128: "oword"}
_ORDINALS = ("first", "second", "third")
_EXTENDED_32 = "imm32 (from -0x80000000 to 0x7fffffff)"
# How the notation's names are shown; the others are shown as they are.
_SHOWN = {
    "imm8": "imm8 (from -128 to 255)",
    "imm16": "imm16 (from -0x8000 to 0xffff)",
    "imm32": "imm32 (from -0x80000000 to 0xffffffff)",
    "simm32": _EXTENDED_32,
    "known32": _EXTENDED_32,
    "rel8": "a short target",
    "rel32": "a near target",
    "m": "memory",
    "STi": "st0 to st7",
    "Sreg": "a segment register",
    "CRn": "a control register",
    "DRn": "a debug register",
    "mm": "mm0 to mm7",
    "xmm": "an xmm register",
}


def no_size(mnemonic: str, sizes: set[int], operand_index: int) -> EncodeError:
    """The error for a memory operand that needs a size keyword."""
    words = _listed(_SIZE_WORDS[size] for size in sorted(sizes))
    return EncodeError(
        f"{mnemonic.upper()} needs the size of this memory operand: write {words} before it", operand_index
    )


def no_form(
    bits: int, mnemonic: str, operands: Sequence[Operand], names: Sequence[frozenset[str]]
) -> EncodeError:
    """The error for an instruction that no form fits; ``names`` are what its operands satisfy."""
    shown = mnemonic.upper()
    forms = candidates(mnemonic, bits, len(operands))
    if not forms:
        return _no_candidates(bits, mnemonic, len(operands))
    for index, operand in enumerate(operands):
        if bits == 32 and isinstance(operand, Register) and exists_only_in_64_bit_code(operand):
            return EncodeError(f"{operand.name} exists only in 64-bit code", index)
    index, expected = _culprit(forms, names)
    before = operands[index - 1] if index else None
    reason = _plain_reason(operands[index], before, expected, names[index])
    if reason:
        return EncodeError(f"{shown} {reason}", index)
    after = f" after {_describe(before)}" if before else ""
    return EncodeError(
        f"{shown} does not take {_describe(operands[index])} as its {_ORDINALS[index]} operand{after}; "
        f"it takes {_one_of(expected)} there",
        index,
    )


def _no_candidates(bits: int, mnemonic: str, operand_count: int) -> EncodeError:
    shown = mnemonic.upper()
    forms = [form for form in forms_by_mnemonic()[mnemonic] if bits in form.modes]
    if not forms:
        return EncodeError(f"{shown} exists only in {64 if bits == 32 else 32}-bit code")
    counts = sorted({len(form.operands) for form in forms})
    words = _listed(str(count) if count else "no" for count in counts)
    return EncodeError(f"{shown} takes {words} operand{'' if counts[-1] == 1 else 's'}, not {operand_count}")


def _culprit(forms: Sequence[Form], names: Sequence[frozenset[str]]) -> tuple[int, list[str]]:
    """The first operand that leaves no form over, and the names that it might have had."""
    index = 0
    for index, satisfied in enumerate(names):
        fitting = [form for form in forms if form.operands[index] in satisfied]
        if not fitting:
            break
        forms = fitting
    return index, list(dict.fromkeys(form.operands[index] for form in forms))


def _plain_reason(
    operand: Operand, before: Operand | None, expected: Sequence[str], names: frozenset[str]
) -> str | None:
    """The mistakes that deserve better than a list of what is possible."""
    immediates = [name for name in expected if "imm" in name or name == "known32"]
    match operand:
        case Relative() if any(name.startswith("rel") for name in expected):
            other, asked = ("short", "near") if expected == ["rel8"] else ("near", "short")
            return f"has no {asked} form, only a {other} one"
        case Memory() if isinstance(before, Memory):
            return "cannot have two memory operands; load one of them into a register first"
        case Memory() if names and all(name.startswith("moffs") for name in names):
            address = f"{operand.displacement.number:#x}"
            return (
                f"cannot reach {address} with the signed 32 bits of its displacement; only MOV with rax can"
            )
        case Immediate(size=None) if immediates and operand.value.known:
            return f"cannot hold {operand.value.number}; it takes {_one_of(immediates)} there"
        case Register() | Memory() if isinstance(before, Register | Memory) and operand.size and before.size:
            if operand.size != before.size and any(name.endswith(f"r/m{before.size}") for name in expected):
                sizes = f"{_describe(before)} has {before.size} bits, {_describe(operand)} has {operand.size}"
                return f"takes operands of one size: {sizes}"
    return None


def _one_of(names: Iterable[str]) -> str:
    """The expected names in words, without those that another one covers."""
    names = ["imm8" if name.startswith("simm8") else name for name in names]
    memory = [name for name in names if "/m" in name]
    covered = {f"r{name.removeprefix('r/m')}" for name in memory}
    covered |= {name for name in names if name.startswith("moffs") and memory}
    if not all(name.isupper() for name in names):
        covered |= {name for name in names if name.isupper()}
    return _listed(dict.fromkeys(_SHOWN.get(name, name) for name in names if name not in covered))


def _listed(words: Iterable[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} or {last}" if head else last


def _describe(operand: Operand) -> str:
    match operand:
        case Register():
            return operand.name
        case Immediate():
            keyword = f"{_SIZE_WORDS[operand.size]} " if operand.size in _SIZE_WORDS else ""
            return keyword + (str(operand.value.number) if operand.value.known else "an address")
        case Memory():
            return f"{_SIZE_WORDS[operand.size]} memory" if operand.size in _SIZE_WORDS else "memory"
        case Relative():
            return "a jump target"
        case Far():
            return "a far address"
