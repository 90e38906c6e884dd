"""Structures that a program defines with struct, laid out as a C compiler would or packed."""

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, cast, get_args

from pvemu.abi.structure import Field, ScalarName, Structure

_STEP = re.compile(r"([A-Za-z_]\w*)(?:\[(\d+)\])?")
SCALARS = frozenset(get_args(ScalarName))
"""The names of the scalar types, those of Xen's ABI: u8 to u64, s8 to s64, ulong, long, char, u64a."""


class Layout(Protocol):
    """What structures of the program and of the ABI share; ``word`` is 4 or 8, the bytes of a guest long."""

    def size(self, word: int) -> int:
        """Return the size in bytes."""
        ...

    def alignment(self, word: int) -> int:
        """Return the alignment in bytes."""
        ...

    def offset(self, path: str, word: int) -> int:
        """Return the offset in bytes of a field; LookupError when there is none."""
        ...

    def field_size(self, path: str, word: int) -> int:
        """Return the size in bytes of a field; LookupError when there is none."""
        ...


@cache
def scalar(kind: str) -> Structure:
    """Return a structure of one scalar: the ABI's layout engine knows each type's size and alignment."""
    return Structure(kind, Field("value", cast(ScalarName, kind)))


@dataclass(frozen=True)
class _Member:
    offset: int
    stride: int
    count: int | None
    layout: Layout | None

    @property
    def size(self) -> int:
        return self.stride * (1 if self.count is None else self.count)


@dataclass
class UserStructure:
    """A structure of the program, built field by field; its word is that of the code around it."""

    name: str
    packed: bool
    word: int
    members: dict[str, _Member] = field(default_factory=dict)
    _end: int = 0
    _alignment: int = 1

    def add_scalar(self, name: str, kind: str, count: int | None) -> None:
        """Append a field of a scalar type (one of ``SCALARS``), an array when ``count`` is given."""
        model = scalar(kind)
        self._add(name, model.size(self.word), model.alignment(self.word), count, None)

    def add_structure(self, name: str, layout: Layout, count: int | None) -> None:
        """Append a field that is a structure itself, an array of them when ``count`` is given."""
        self._add(name, layout.size(self.word), layout.alignment(self.word), count, layout)

    def add_bytes(self, name: str, size: int) -> None:
        """Append ``size`` bytes."""
        self._add(name, 1, 1, size, None)

    def _add(self, name: str, stride: int, alignment: int, count: int | None, layout: Layout | None) -> None:
        if self.packed:
            alignment = 1
        offset = -(-self._end // alignment) * alignment
        member = _Member(offset, stride, count, layout)
        self.members[name] = member
        self._end = offset + member.size
        self._alignment = max(self._alignment, alignment)

    def size(self, word: int = 0) -> int:
        """Return the size in bytes, padding at the end included."""
        return -(-self._end // self._alignment) * self._alignment

    def alignment(self, word: int = 0) -> int:
        """Return the alignment in bytes, that of the strictest field."""
        return self._alignment

    def offset(self, path: str, word: int = 0) -> int:
        """Return the offset in bytes of a field, an element or a nested field; LookupError for others."""
        return self._find(path)[0]

    def field_size(self, path: str, word: int = 0) -> int:
        """Return the size in bytes of a field, of the whole array when no element is named."""
        return self._find(path)[1]

    def _find(self, path: str) -> tuple[int, int]:
        step, dot, rest = path.partition(".")
        match = _STEP.fullmatch(step)
        member = self.members.get(match[1]) if match else None
        if match is None or member is None:
            raise LookupError(
                f"{self.name} has no field {step!r}; it has: {', '.join(self.members) or 'none'}"
            )
        offset, size = member.offset, member.size
        if match[2] is not None:
            index = int(match[2])
            if member.count is None or index >= member.count:
                elements = "is not an array" if member.count is None else f"has {member.count} elements"
                raise LookupError(f"{self.name}.{match[1]} {elements}")
            offset, size = offset + index * member.stride, member.stride
        if not dot:
            return offset, size
        if member.layout is None:
            raise LookupError(f"{self.name}.{match[1]} is no structure: it has no field {rest!r}")
        if member.count is not None and match[2] is None:
            raise LookupError(f"{self.name}.{match[1]} is an array; write {match[1]}[0].{rest}")
        return offset + member.layout.offset(rest, self.word), member.layout.field_size(rest, self.word)
