"""The instruction table as a whole: every form, indexed by mnemonic; ``notation`` says how a row is read."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from guestkit.x86.notation import Form, parse
from guestkit.x86.table_control import CONTROL
from guestkit.x86.table_fpu import FPU
from guestkit.x86.table_integer import INTEGER
from guestkit.x86.table_simd import SIMD
from guestkit.x86.table_system import SYSTEM


@cache
def forms_by_mnemonic() -> Mapping[str, tuple[Form, ...]]:
    """Every form of every mnemonic, in the table's order of preference; parsed at the first call."""
    index: dict[str, list[Form]] = {}
    for text in (INTEGER, CONTROL, SYSTEM, FPU, SIMD):
        for form in parse(text):
            index.setdefault(form.mnemonic, []).append(form)
    return MappingProxyType({mnemonic: tuple(forms) for mnemonic, forms in index.items()})


@cache
def candidates(mnemonic: str, bits: int, operand_count: int) -> tuple[Form, ...]:
    """The forms of a mnemonic that exist in 32-bit or 64-bit code and take so many operands."""
    return tuple(
        form
        for form in forms_by_mnemonic().get(mnemonic, ())
        if bits in form.modes and len(form.operands) == operand_count
    )
