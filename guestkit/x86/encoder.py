"""Encodes one instruction: chooses its form from the table, and says in a useful way why there is none."""

from collections.abc import Sequence
from functools import cache
from typing import Literal

from guestkit.x86.emission import Encoded, Fixup, lay_out
from guestkit.x86.errors import EncodeError
from guestkit.x86.explain import no_form, no_size
from guestkit.x86.matching import MEMORY_SIZES, satisfied_names
from guestkit.x86.notation import Form
from guestkit.x86.operands import Distance, Immediate, Memory, Operand, Relative
from guestkit.x86.prefixes import FORCED_EMULATION, prefix_codes
from guestkit.x86.table import candidates, forms_by_mnemonic

__all__ = [
    "EncodeError",
    "Encoded",
    "Fixup",
    "encode",
    "has_near_form",
    "has_short_form",
    "mnemonics",
    "takes_target",
]


def encode(
    bits: Literal[32, 64],
    mnemonic: str,
    operands: Sequence[Operand],
    *,
    prefixes: Sequence[str] = (),
    address: int = 0,
    distance: Distance | None = None,
    final: bool = False,
) -> Encoded:
    """Encode one instruction of 32-bit or 64-bit code that stands at ``address``.

    ``prefixes`` are lock, rep, repe, repz, repne, repnz, fep (Xen's forced emulation prefix), a16, a32 and,
    before a string instruction, the name of a segment register. ``distance`` is short or near for a jump that
    does not say so itself; without it a known target takes the short form where that reaches, and an unknown
    one the near form. A number that is not known is not checked against its field, unless ``final`` says that
    this is where it has settled. Raises EncodeError.
    """
    mnemonic = mnemonic.lower()
    if mnemonic not in forms_by_mnemonic():
        raise EncodeError(f"there is no instruction {mnemonic!r}")
    written = prefix_codes(prefixes, mnemonic, operands, bits)
    names = [satisfied_names(operand, bits, distance) for operand in operands]
    forms = [
        form
        for form in candidates(mnemonic, bits, len(operands))
        if all(name in satisfied for name, satisfied in zip(form.operands, names, strict=True))
    ]
    if not forms:
        raise no_form(bits, mnemonic, operands, names)
    forms = _sized(mnemonic, operands, forms)
    if any(isinstance(operand, Relative) and not operand.value.known for operand in operands):
        forms = forms[-1:]
    leading = FORCED_EMULATION if "fep" in prefixes else b""
    layout = lay_out(forms[0], operands, bits, written, leading)
    for form in forms[1:]:
        if layout.reaches(address):
            break
        layout = lay_out(form, operands, bits, written, leading)
    return layout.encoded(address, final=final)


def _sized(mnemonic: str, operands: Sequence[Operand], forms: list[Form]) -> list[Form]:
    """The forms left once an operand without a size has the usual one; EncodeError if there is none."""
    unsized = [isinstance(operand, Immediate | Memory) and operand.size is None for operand in operands]
    if len(forms) == 1 or not any(unsized):
        return forms
    if usual := [form for form in forms if form.is_default]:
        return usual
    for index, operand in enumerate(operands):
        if unsized[index] and isinstance(operand, Memory):
            sizes = {
                MEMORY_SIZES[form.operands[index]] for form in forms if form.operands[index] in MEMORY_SIZES
            }
            if len(sizes) > 1:
                raise no_size(mnemonic, sizes, index)
    return forms


@cache
def mnemonics() -> frozenset[str]:
    """Every mnemonic of the table, in lower case."""
    return frozenset(forms_by_mnemonic())


def takes_target(mnemonic: str) -> bool:
    """Whether a plain number after this mnemonic is a jump target (Relative) and not an Immediate."""
    return _has_operand(mnemonic, "rel8") or _has_operand(mnemonic, "rel32")


def has_short_form(mnemonic: str) -> bool:
    """Whether a jump has a form with an 8-bit displacement: JMP, every Jcc, LOOP, JECXZ and the like."""
    return _has_operand(mnemonic, "rel8")


def has_near_form(mnemonic: str) -> bool:
    """Whether a jump has a form with a 32-bit displacement: JMP, CALL and every Jcc."""
    return _has_operand(mnemonic, "rel32")


@cache
def _has_operand(mnemonic: str, name: str) -> bool:
    return any(name in form.operands for form in forms_by_mnemonic().get(mnemonic.lower(), ()))
