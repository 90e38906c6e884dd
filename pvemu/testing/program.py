"""Programs of hypercalls: steps that domains take one after the other, as data to be run and printed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.vocabulary import structures
from pvemu.testing.messages import Message
from pvemu.testing.values import Entry, Frame, Number, Surroundings, Value

#: Bytes of a guest's word: programs are for 32-bit guests.
WORD: Final = 4
#: Fields in which Xen tells more than a result does.
_TELLING: Final = ("status", "local_port", "port", "handle")


@dataclass(frozen=True)
class Record:
    """Words or a structure that a step writes into its domain's memory.

    Attributes:
        area: a label of steps.gk, and `offset` bytes behind it.
        structure: the C name; None: the record is an array of dwords, and its paths are their numbers.
        fields: what is written, by path; the rest is zero.
        keeps: the rest stays as it is, and what is written is added with OR.
    """

    area: str
    offset: int
    structure: str | None
    fields: tuple[tuple[str, Value], ...]
    keeps: bool = False

    def __repr__(self) -> str:
        inside = ", ".join(f"{path}={value!r}" for path, value in self.fields)
        return f"{self.structure or 'words'}@{self.area}+{self.offset:#x}({inside})"

    @property
    def size(self) -> int:
        """Its bytes."""
        return 4 * len(self.fields) if self.structure is None else structures()[self.structure].size(WORD)

    def place(self, path: str) -> tuple[int, int]:
        """Offset and size in bytes of a field."""
        if self.structure is None:
            return 4 * int(path), 4
        structure = structures()[self.structure]
        return structure.offset(path, WORD), structure.field_size(path, WORD)

    def pack(self, place: Surroundings) -> bytearray:
        """The bytes of a record that does not keep what was there."""
        raw = bytearray(self.size)
        for path, value in self.fields:
            at, size = self.place(path)
            raw[at : at + size] = (value.of(place) & (1 << 8 * size) - 1).to_bytes(size, "little")
        return raw

    def lines(self, place: Surroundings) -> list[str]:
        """It as source."""
        base = f"{self.area} + {self.offset}" if self.offset else self.area
        if self.keeps:
            return [
                f"or dword [{base} + {self._spelt(path)}], {value.operand()}" for path, value in self.fields
            ]
        lines = [f"clear {base}, {self.size}"] if self._is_sparse() else []
        for path, value in self.fields:
            lines += value.store(f"{base} + {self._spelt(path)}", self.place(path)[1], place)
        return lines

    def _spelt(self, path: str) -> str:
        return str(4 * int(path)) if self.structure is None else f"{self.structure}.{path}"

    def _is_sparse(self) -> bool:
        """Whether there are bytes that no field fills."""
        return sum(self.place(path)[1] for path, _ in self.fields) < self.size


@dataclass(frozen=True)
class Step:
    """What one domain does: it writes records, then makes a hypercall, if there is one.

    Attributes:
        domain: which domain, counted from 0.
        call: the hypercall's name in the table, None for none.
        arguments: one for each argument of the table's row that is not left out.
        title: what the report calls it.
        message: instead of a hypercall, what is said to xenstored.
    """

    domain: int
    call: str | None
    arguments: tuple[Value, ...] = ()
    records: tuple[Record, ...] = ()
    title: str = ""
    message: Message | None = None

    def __repr__(self) -> str:
        if self.message is not None:
            return f"d{self.domain} xenstore({self.message!r})"
        what = self.title or self.call or "store"
        parts = [repr(argument) for argument in self.arguments] if self.call else []
        return f"d{self.domain} {what}({', '.join([*parts, *map(repr, self.records)])})"

    def names_frame(self, kind: str) -> bool:
        """Whether it says anything of a frame of one of `values.FRAME_KINDS`."""
        said = (*self.arguments, *(value for record in self.records for _, value in record.fields))
        frames = (value.frame if isinstance(value, Entry) else value for value in said)
        return any(isinstance(frame, Frame) and frame.kind == kind for frame in frames)

    def words(self, place: Surroundings) -> list[int]:
        """The words in the argument registers, five of them."""
        words: list[int] = []
        if self.call is not None:
            for argument, value in zip(BY_NAME[self.call].signature(WORD), self.arguments, strict=False):
                number = value.of(place)
                words += [number >> 32 * each & 0xFFFFFFFF for each in range(argument.registers(WORD))]
        return (words + [0] * 5)[:5]

    def telling(self) -> tuple[str, int] | None:
        """Area and offset of a dword in which more is told than the result, if there is one."""
        for record in self.records:
            if record.structure is not None and record.area == "request":
                paths = {leaf.path for leaf in structures()[record.structure].paths(WORD)}
                for name in _TELLING:
                    if name in paths:
                        return record.area, record.offset + record.place(name)[0]
        return None

    def writing(self, place: Surroundings) -> list[str]:
        """Its records, and arguments that have to be worked out, as source."""
        lines = [line for record in self.records for line in record.lines(place)]
        return lines + self._calling(place)[0]

    def calling(self, place: Surroundings) -> str:
        """The hypercall as source."""
        return f"hypercall {', '.join(self._calling(place)[1])}"

    def lines(self, place: Surroundings) -> list[str]:
        """It as source, with a line that keeps the result for the report."""
        if self.message is not None:
            return [*self.message.lines(place), f'did "{self.title}"']
        lines = self.writing(place)
        if self.call is None:
            return lines
        lines.append(self.calling(place))
        telling = self.telling()
        what = f'"{self.title or self.call}"'
        lines.append(f"did {what}" if telling is None else f"did_and {what}, {telling[0]} + {telling[1]}")
        return lines

    def _calling(self, place: Surroundings) -> tuple[list[str], list[str]]:
        """What is to be worked out before the hypercall, and its operands after its name."""
        if self.call is None:
            return [], []
        lines, spelt = list[str](), [self.call]
        for number, (argument, value) in enumerate(
            zip(BY_NAME[self.call].signature(WORD), self.arguments, strict=False)
        ):
            wide = argument.registers(WORD) == 2
            operand = value.operand()
            if operand is None or (wide and not isinstance(value, Number)):
                cell = f"argument + {8 * number}" if number else "argument"
                lines += value.store(cell, 8 if wide else 4, place)
                operand = f"[{cell}]"
            spelt.append(operand)
        return lines, spelt


@dataclass(frozen=True)
class Program:
    """Steps of so many domains."""

    domains: int
    steps: tuple[Step, ...]

    def of_domain(self, domain: int) -> Sequence[tuple[int, Step]]:
        """The steps that one domain takes, with their numbers in the program."""
        return [(number, step) for number, step in enumerate(self.steps) if step.domain == domain]


@dataclass
class Outcome:
    """What came of a step: the signed result, None without a hypercall, and what a telling field held."""

    step: Step
    result: int | None
    told: int = field(default=0)

    def __str__(self) -> str:
        return f"{self.step!r} = {self.result}"
