"""What arguments of hypercalls and fields of structures are: each can be worked out, and written as source.

A frame's number is another one on every machine, so a program does not hold it: it says which frame is meant.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

_WORD: Final = (1 << 32) - 1
_LONG: Final = (1 << 64) - 1
#: Numbers up to here are easier to read with decimal digits.
_LARGEST_DECIMAL: Final = 4096
#: By size in bytes, how the assembler names it.
_SIZES: Final = {1: "byte", 2: "word", 4: "dword"}


class Surroundings(Protocol):
    """The domain for which values are worked out."""

    def address_of(self, symbol: str) -> int:
        """The virtual address of a label of steps.gk; raises LookupError."""

    @property
    def domid(self) -> int:
        """Its own domid."""

    @property
    def peer_domid(self) -> int:
        """The domid of the next domain."""

    def frame_of(self, kind: str, number: int) -> int:
        """A machine frame number; raises LookupError for a kind that there is not."""


class Value(Protocol):
    """A number that depends on where it is used."""

    def of(self, place: Surroundings) -> int:
        """The number."""

    def operand(self) -> str | None:
        """It as an operand of the assembler's, if it is known without running anything."""

    def store(self, where: str, size: int, place: Surroundings) -> list[str]:
        """Lines that write its lowest bytes at a place in the guest's memory."""


def _number(value: int) -> str:
    return str(value) if -_LARGEST_DECIMAL <= value <= _LARGEST_DECIMAL else hex(value)


def _store_constant(where: str, text: str, value: int | None, size: int) -> list[str]:
    if size in _SIZES:
        return [f"mov {_SIZES[size]} [{where}], {text}"]
    low, high = (text, "0") if value is None else (_number(value & _WORD), _number(value >> 32 & _WORD))
    return [f"mov dword [{where}], {low}", f"mov dword [{where} + 4], {high}"]


@dataclass(frozen=True)
class Number:
    """A constant; `name` is the ABI's name for it."""

    number: int
    name: str | None = None

    def __repr__(self) -> str:
        return self.name or _number(self.number)

    def of(self, place: Surroundings) -> int:
        """The constant."""
        return self.number

    def operand(self) -> str | None:
        """Its name, or its digits."""
        return repr(self)

    def store(self, where: str, size: int, place: Surroundings) -> list[str]:
        """Cut to the size."""
        value = self.number & (1 << 8 * size) - 1
        text = self.name if self.name is not None and value == self.number else _number(value)
        return _store_constant(where, text, value, size)


@dataclass(frozen=True)
class Peer:
    """The number of the next domain, after the last one that of the first."""

    def __repr__(self) -> str:
        return "peer"

    def of(self, place: Surroundings) -> int:
        """Its domid."""
        return place.peer_domid

    def operand(self) -> str | None:
        """Never, as it depends on the domain."""
        return None

    def store(self, where: str, size: int, place: Surroundings) -> list[str]:
        """As a constant."""
        return Number(self.of(place)).store(where, size, place)


@dataclass(frozen=True)
class Address:
    """An address in the guest: a label of steps.gk, and so many bytes further."""

    symbol: str
    offset: int = 0

    def __repr__(self) -> str:
        pages, rest = divmod(self.offset, PAGE_SIZE)
        paged = self.symbol == "pages" and pages
        parts = [self.symbol, f"{pages} * PAGE_SIZE" if paged else ""]
        return " + ".join(filter(None, [*parts, _number(rest if paged else self.offset)])).removesuffix(
            " + 0"
        )

    def of(self, place: Surroundings) -> int:
        """The label's address and the offset."""
        return place.address_of(self.symbol) + self.offset & _WORD

    def operand(self) -> str | None:
        """A sum that the assembler works out."""
        return repr(self)

    def store(self, where: str, size: int, place: Surroundings) -> list[str]:
        """At least four bytes: of smaller fields, a part."""
        if size < 4:
            return Number(self.of(place)).store(where, size, place)
        return _store_constant(where, repr(self), None, size)


#: Kinds of frames that the guest finds by itself: as a page of its memory ...
_PAGES: Final = {
    "page": "pages + {} * PAGE_SIZE",
    "l1 table": "[l1_table]",
    "l2 table": "[l2_table]",
    "l3 table": "[l3_table]",
    "request": "request",
    "list": "list",
}
#: ... or by its number in a cell.
_CELLS: Final = {
    "shared info": "shared_info_frame",
    "grant table": "grant_frame",
    "xenstore ring": "store_frame_number",
}
#: Others are numbers of one machine: of the next domain's pages, free, the hypervisor's, no memory at all.
OTHER_FRAMES: Final = ("their page", "their table", "free", "hypervisor", "m2p", "low", "beyond")
FRAME_KINDS: Final = (*_PAGES, *_CELLS, *OTHER_FRAMES)


@dataclass(frozen=True)
class Frame:
    """The number of a machine frame: one of FRAME_KINDS, and which of them."""

    kind: str
    number: int = 0

    def __repr__(self) -> str:
        return f"{self.kind} {self.number}" if self.kind in ("page", *OTHER_FRAMES) else self.kind

    def of(self, place: Surroundings) -> int:
        """As the domain sees it."""
        return place.frame_of(self.kind, self.number)

    def operand(self) -> str | None:
        """Never: it has to be looked up."""
        return None

    def store(self, where: str, size: int, place: Surroundings) -> list[str]:
        """Looked up by the guest, where it can be."""
        if size < 4 or self.kind in OTHER_FRAMES:
            comment = f"    ; {self!r}"
            lines = Number(self.of(place)).store(where, size, place)
            return [lines[0] + comment, *lines[1:]]
        more = [f"mov dword [{where} + 4], 0"] if size == 8 else []
        if self.kind in _CELLS:
            return [f"store_frame {where}, {_CELLS[self.kind]}", *more]
        return [f"frame_at {where}, {_PAGES[self.kind].format(self.number)}", *more]


@dataclass(frozen=True)
class Entry:
    """A frame's machine address with something added: an entry of a page table, or a place in the frame."""

    frame: Frame
    low: int
    high: int = 0
    """Bits 32 to 63 to be set besides."""

    def __repr__(self) -> str:
        return f"{self.frame!r}:{self.high << 32 | self.low:#x}"

    def of(self, place: Surroundings) -> int:
        """All 64 bits."""
        return (self.frame.of(place) << PAGE_SHIFT | self.low | self.high << 32) & _LONG

    def operand(self) -> str | None:
        """Never."""
        return None

    def store(self, where: str, size: int, place: Surroundings) -> list[str]:
        """Eight bytes; of smaller fields, a part."""
        if size < 8:
            return Number(self.of(place)).store(where, size, place)
        kind = self.frame.kind
        if kind in OTHER_FRAMES:
            lines = Number(self.of(place)).store(where, size, place)
            return [f"{lines[0]}    ; {self!r}", *lines[1:]]
        more = [f"or dword [{where} + 4], {_number(self.high)}"] if self.high else []
        if kind in _CELLS:
            return [f"entry_of_frame {where}, {_CELLS[kind]}, {_number(self.low)}", *more]
        page = _PAGES[kind].format(self.frame.number)
        return [f"entry_at {where}, {page}, {_number(self.low)}", *more]


@dataclass(frozen=True)
class Slot:
    """The machine address of the entry for one of `pages` in the L1 that maps them, with a command added."""

    page: int
    command: int = 0

    def __repr__(self) -> str:
        return f"entry of page {self.page}" + (f":{self.command}" if self.command else "")

    def of(self, place: Surroundings) -> int:
        """All 64 bits."""
        index = (place.address_of("pages") >> PAGE_SHIFT & 511) + self.page
        return place.frame_of("l1 table", 0) << PAGE_SHIFT | index << 3 | self.command

    def operand(self) -> str | None:
        """Never."""
        return None

    def store(self, where: str, size: int, place: Surroundings) -> list[str]:
        """Eight bytes; of smaller fields, a part."""
        if size < 8:
            return Number(self.of(place)).store(where, size, place)
        low = f"(pages >> PAGE_SHIFT & 511) * 8 + {_number(self.page * 8 + self.command)}"
        return [f"entry_at {where}, [l1_table], {low}"]
