"""The layout engine: a C structure described once, with the offsets that both x86 ABIs give it."""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Literal, NamedTuple

from pvemu.abi.word import WORDS, PerWord, check_word

ScalarName = Literal["u8", "u16", "u32", "u64", "u64a", "s8", "s16", "s32", "s64", "ulong", "long", "char"]
"""The C types of the public headers.

``ulong`` and ``long`` are a guest word (as are xen_pfn_t, xen_ulong_t and guest handles on x86); ``u64a`` is
uint64_aligned_t, on 8 bytes even where i386 would align a u64 on 4; ``char`` arrays are read and written as
bytes.
"""
Buffer = bytes | bytearray | memoryview


class _Scalar(NamedTuple):
    code: str  # of the struct module
    size: int
    alignment: int


def _scalars(word: int) -> dict[str, _Scalar]:
    # i386 System V ABI: 8-byte integers are aligned on 4 bytes, which is also the word there.
    return {
        "u8": _Scalar("B", 1, 1),
        "u16": _Scalar("H", 2, 2),
        "u32": _Scalar("I", 4, 4),
        "u64": _Scalar("Q", 8, word),
        "u64a": _Scalar("Q", 8, 8),
        "s8": _Scalar("b", 1, 1),
        "s16": _Scalar("h", 2, 2),
        "s32": _Scalar("i", 4, 4),
        "s64": _Scalar("q", 8, word),
        "ulong": _Scalar("I" if word == 4 else "Q", word, word),
        "long": _Scalar("i" if word == 4 else "q", word, word),
        "char": _Scalar("s", 1, 1),
    }


_SCALARS: Final = {word: _scalars(word) for word in WORDS}
_STEP: Final = re.compile(r"([A-Za-z_]\w*)(?:\[(\d+)\])?")


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a structure: its name, its type, how many of them, and which guests have it."""

    name: str
    type: "ScalarName | Structure"
    count: int | PerWord | None = None
    """Elements of an array; None for a single value; 0 for an open array, which adds nothing to the size."""
    only: Literal[4, 8] | None = None
    """The word of the only guests that have this field, where the header puts it under an #ifdef."""


class Leaf(NamedTuple):
    """A field that holds no further fields, as the assembler sees it (offset and size in bytes)."""

    path: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    type: "str | Structure"
    count: int | None
    offset: int
    stride: int  # bytes of one element
    codec: struct.Struct | None  # of the whole array; None for nested structures

    @property
    def size(self) -> int:
        return self.stride * (1 if self.count is None else self.count)

    def elements(self) -> Iterator[tuple[str, int]]:
        """Give the path and offset of every element; a single value has no index in its path."""
        if self.count is None:
            yield self.name, self.offset
        else:
            for index in range(self.count):
                yield f"{self.name}[{index}]", self.offset + index * self.stride


class _Layout(NamedTuple):
    size: int
    alignment: int
    members: dict[str, _Member]


def _align_up(number: int, alignment: int) -> int:
    return -(-number // alignment) * alignment


class Structure:
    """A C structure of the public ABI; each method takes the guest's ``word`` (4 or 8) and caches its answer.

    Field paths are written as in C: ``vcpu_info[0].time.version``. A path that names no field raises
    LookupError, whose message lists the names there are; a ``word`` that is not 4 or 8 raises ValueError.
    """

    overlaid: bool = False
    """True when all fields begin at offset 0, which makes a union of it."""

    def __init__(self, name: str, *fields: Field) -> None:
        self.name = name
        self.fields = fields
        self._layouts: dict[int, _Layout] = {}
        self._places: dict[tuple[str, int], tuple[int, int]] = {}
        self._codecs: dict[int, tuple[struct.Struct, tuple[str, ...]]] = {}

    def __repr__(self) -> str:
        """Name the C type."""
        return f"<{'union' if self.overlaid else 'struct'} {self.name}>"

    def size(self, word: int) -> int:
        """Return sizeof the structure in bytes, padding at its end included."""
        return self._layout(word).size

    def alignment(self, word: int) -> int:
        """Return the alignment in bytes that the structure has inside another."""
        return self._layout(word).alignment

    def offset(self, path: str, word: int) -> int:
        """Return the offset in bytes of a field, an array element or a nested field."""
        return self._place(path, word)[0]

    def field_size(self, path: str, word: int) -> int:
        """Return the bytes of a field: of the whole array for ``args``, of one element for ``args[0]``."""
        return self._place(path, word)[1]

    def paths(self, word: int) -> Iterator[Leaf]:
        """Give every leaf field in order: of an array element [0] only, a char array as one leaf."""
        for member in self._layout(word).members.values():
            if isinstance(member.type, Structure):
                prefix = member.name if member.count is None else f"{member.name}[0]"
                for path, offset, size in member.type.paths(word):
                    yield Leaf(f"{prefix}.{path}", member.offset + offset, size)
            elif member.count is None or member.type == "char":
                yield Leaf(member.name, member.offset, member.size)
            else:
                yield Leaf(f"{member.name}[0]", member.offset, member.stride)

    def pack(self, word: int, **values: Any) -> bytes:
        """Return the structure as bytes: fields not given are 0, as is padding.

        A nested structure takes a mapping or what ``unpack`` returned, an array a sequence (its missing rest
        is 0), a char array bytes. The fields given of a union are laid over each other in the header's order.
        Raises ValueError when a value does not fit its field, LookupError when a name is no field.
        """
        buffer = bytearray(self.size(word))
        self._store(word, buffer, 0, values)
        return bytes(buffer)

    def pack_over(self, raw: bytes, word: int, **values: Any) -> bytes:
        """Return ``raw``, a structure's bytes, with the fields given in it; all else, padding too, stays.

        Raises ValueError and LookupError as ``pack`` does.
        """
        buffer = bytearray(raw)
        self._store(word, buffer, 0, values)
        return bytes(buffer)

    def unpack(self, word: int, buffer: Buffer, at: int = 0) -> Any:
        """Return an object with one attribute for each field, read from ``buffer`` at byte ``at``.

        Nested structures are such objects too, arrays are lists, char arrays bytes of their full length; a
        union has all its fields. Raises ValueError when the buffer ends before the structure.
        """
        if at < 0 or at + self.size(word) > len(buffer):
            raise ValueError(
                f"{self.name} has {self.size(word)} bytes, the buffer only {len(buffer)} ({at=})"
            )
        return self._load(word, buffer, at)

    def codec(self, word: int) -> struct.Struct:
        """Return a flat little-endian codec for hot paths; its values are those of ``codec_paths`` in order.

        Padding is skipped, and written as 0. A union is one value, its widest field (the first of equals): a
        narrower one is in the low bits of it.
        """
        return self._flat(word)[0]

    def codec_paths(self, word: int) -> tuple[str, ...]:
        """Return the field path of each value of ``codec``; arrays are there element by element."""
        return self._flat(word)[1]

    def _layout(self, word: int) -> _Layout:
        layout = self._layouts.get(word)
        if layout is None:
            layout = self._layouts[word] = self._lay_out(check_word(word))
        return layout

    def _lay_out(self, word: int) -> _Layout:
        members: dict[str, _Member] = {}
        end, strictest = 0, 1
        for field in self.fields:
            if field.only not in (None, word):
                continue
            count = field.count.of(word) if isinstance(field.count, PerWord) else field.count
            codec = None
            if isinstance(field.type, Structure):
                stride, alignment = field.type.size(word), field.type.alignment(word)
            else:
                code, stride, alignment = _SCALARS[word][field.type]
                codec = struct.Struct(f"<{1 if count is None else count}{code}")
            offset = 0 if self.overlaid else _align_up(end, alignment)
            member = _Member(field.name, field.type, count, offset, stride, codec)
            members[field.name] = member
            end = max(end, offset + member.size)
            strictest = max(strictest, alignment)
        return _Layout(_align_up(end, strictest), strictest, members)

    def _member(self, name: str, word: int) -> _Member:
        members = self._layout(word).members
        if name not in members:
            raise LookupError(f"{self.name} has no field {name!r}; it has: {', '.join(members)}")
        return members[name]

    def _place(self, path: str, word: int) -> tuple[int, int]:
        place = self._places.get((path, word))
        if place is None:
            place = self._places[path, word] = self._find(path, word)
        return place

    def _find(self, path: str, word: int) -> tuple[int, int]:
        step, dot, rest = path.partition(".")
        match = _STEP.fullmatch(step)
        if match is None:
            raise LookupError(f"{path!r} is not a field path; write one as in C: name, name[0] or name.name")
        member = self._member(match[1], word)
        offset, size = member.offset, member.size
        if match[2] is not None:
            index = int(match[2])
            if member.count is None or 0 < member.count <= index:
                elements = "is not an array" if member.count is None else f"has {member.count} elements"
                raise LookupError(f"{self.name}.{step}: {member.name} {elements}")
            offset, size = offset + index * member.stride, member.stride
        if not dot:
            return offset, size
        if not isinstance(member.type, Structure):
            raise LookupError(f"{self.name}.{member.name} is a {member.type}: it has no field {rest!r}")
        if member.count is not None and match[2] is None:
            raise LookupError(f"{self.name}.{member.name} is an array; write {member.name}[0].{rest}")
        inner, size = member.type._place(rest, word)
        return offset + inner, size

    def _store(self, word: int, buffer: bytearray, at: int, values: Mapping[str, Any]) -> None:
        for name in values:
            self._member(name, word)
        for member in self._layout(word).members.values():
            if member.name not in values:
                continue
            value = values[member.name]
            if not isinstance(member.type, Structure):
                self._store_scalar(member, buffer, at + member.offset, value)
                continue
            elements = [value] if member.count is None else value
            self._check_count(member, elements)
            for index, element in enumerate(elements):
                inner = vars(element) if isinstance(element, SimpleNamespace) else element
                member.type._store(word, buffer, at + member.offset + index * member.stride, inner)

    def _store_scalar(self, member: _Member, buffer: bytearray, at: int, value: Any) -> None:
        assert member.codec is not None
        if member.type == "char":
            self._check_count(member, value)
            elements: list[Any] = [bytes(value)]
        elif member.count is None:
            elements = [value]
        else:
            self._check_count(member, value)
            elements = [*value, *[0] * (member.count - len(value))]
        try:
            member.codec.pack_into(buffer, at, *elements)
        except struct.error as error:
            raise ValueError(f"{self.name}.{member.name} is {member.type}: {value!r} does not fit") from error

    def _check_count(self, member: _Member, elements: Sequence[Any]) -> None:
        count = 1 if member.count is None else member.count
        if len(elements) > count:
            raise ValueError(f"{self.name}.{member.name} has {count} elements, not {len(elements)}")

    def _load(self, word: int, buffer: Buffer, at: int) -> Any:
        result = SimpleNamespace()
        for member in self._layout(word).members.values():
            start = at + member.offset
            value: Any
            if member.codec is not None:
                items = member.codec.unpack_from(buffer, start)
                value = items[0] if member.count is None or member.type == "char" else list(items)
            else:
                assert isinstance(member.type, Structure)
                loaded = [member.type._load(word, buffer, at + offset) for _, offset in member.elements()]
                value = loaded[0] if member.count is None else loaded
            setattr(result, member.name, value)
        return result

    def _flat(self, word: int) -> tuple[struct.Struct, tuple[str, ...]]:
        flat = self._codecs.get(word)
        if flat is None:
            codes, paths, end = ["<"], [], 0
            for path, offset, code, size in self._values(word):
                codes.append(f"{offset - end}x{code}")
                paths.append(path)
                end = offset + size
            codes.append(f"{self.size(word) - end}x")
            flat = self._codecs[word] = struct.Struct("".join(codes)), tuple(paths)
        return flat

    def _values(self, word: int) -> Iterator[tuple[str, int, str, int]]:
        """Give path, offset, struct code and size of each value of the flat codec."""
        members = list(self._layout(word).members.values())
        if self.overlaid:
            members = [max(members, key=lambda member: member.size)]
        for member in members:
            if isinstance(member.type, Structure):
                for prefix, start in member.elements():
                    for path, offset, code, size in member.type._values(word):
                        yield f"{prefix}.{path}", start + offset, code, size
            elif member.type == "char":
                yield member.name, member.offset, f"{member.size}s", member.size
            else:
                for path, offset in member.elements():
                    yield path, offset, _SCALARS[word][member.type].code, member.stride


class Union(Structure):
    """A C union: every field begins at offset 0."""

    overlaid = True
