"""What guests that run can do besides hypercalls: the deeds of guestkit's deeds.gk, as steps of a program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pvemu.testing import grammar
from pvemu.testing.program import Record, Step

_AREA: Final = "list"
_OFFSET: Final = 2048
_PREFIX: Final = "deed "


@dataclass(frozen=True)
class Deed:
    """A deed, and what its operands mean (testing/meanings.py)."""

    name: str
    operands: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The function in deeds.gk."""
        return f"deed_{self.name}"

    def step(self, chooser: grammar.Chooser, domain: int) -> Step:
        """It as a step."""
        values = tuple(
            (str(number), grammar.value(chooser, meaning, "mixed"))
            for number, meaning in enumerate(self.operands)
        )
        records = (Record(_AREA, _OFFSET, None, values),) if values else ()
        return Step(domain, None, (), records, f"{_PREFIX}{self.name}")


DEEDS: Final = (
    Deed("read", ("page",)),
    Deed("read", ("pointer",)),
    Deed("write", ("page", "number")),
    Deed("exchange", ("page", "number")),
    Deed("write_entry", ("number", "entry")),
    Deed("write_entry", ("number", "number")),
    Deed("take_upcalls"),
    Deed("program", ("page",)),
    Deed("program", ("number",)),
    Deed("single_step"),
    Deed("divide"),
    *(Deed(name) for name in ("cli", "sti", "rdtsc", "clts", "wbinvd", "hlt", "int3", "ud2")),
    *(Deed(name) for name in ("system_call", "other_interrupt", "read_dr7", "lgdt")),
    *(Deed(f"read_cr{number}") for number in (0, 2, 3, 4)),
    *(Deed(f"write_cr{number}", ("number",)) for number in (0, 2, 4)),
    Deed("write_cr3", ("machine address",)),
    *(Deed(name, ("number",)) for name in ("cpuid", "rdmsr", "write_dr0", "write_dr7")),
    *(Deed(name, ("number",)) for name in ("in", "in_dword")),
    *(Deed(name, ("number", "number")) for name in ("out", "out_dword", "wrmsr")),
    *(Deed(name, ("selector",)) for name in ("load_fs", "load_gs", "lldt", "ltr")),
    Deed("invlpg", ("page",)),
)
MAKERS: Final[Sequence[Callable[[grammar.Chooser, int], Step]]] = tuple(deed.step for deed in DEEDS)
_LABELS: Final = {f"{_PREFIX}{deed.name}": deed.label for deed in DEEDS}


def label_of(step: Step) -> str | None:
    """The function of a step that is a deed; None for other steps."""
    return None if step.call is not None else _LABELS.get(step.title)


def labels() -> tuple[str, ...]:
    """All functions, in an order that never varies."""
    return tuple(dict.fromkeys(_LABELS.values()))
