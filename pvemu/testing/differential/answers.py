"""What came of a step, in words: results and changes by name, and frames by what they are on each machine."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pvemu.abi.errno import Errno
from pvemu.abi.grant_table import grant_entry_v1
from pvemu.abi.vocabulary import structures
from pvemu.abi.xen import vcpu_info
from pvemu.memory.page_tables import ACCESSED, DIRTY
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE
from pvemu.testing.differential.transcript import Reply
from pvemu.testing.program import WORD, Record, Step
from pvemu.testing.values import Frame

RESULT: Final = "result"
"""The name of what a hypercall returns."""
_FIRST_ERROR: Final = 4095
#: Frames below this number are no sign that an address is meant.
_LEAST_FRAME: Final = 0x100
#: A processor sets these whenever it uses an entry, whoever used it.
_PROCESSORS_BITS: Final = ACCESSED | DIRTY
#: By their letters: the structure that each is an array of.
_ARRAYS: Final = {"v": ("vcpu_info", vcpu_info), "g": ("grant", grant_entry_v1)}
_WORDS: Final = {"l": "list", "e": "evtchn_pending", "m": "evtchn_mask"}


class Said(NamedTuple):
    """One thing that a reply says: as text, and where in memory that is, by region and offset."""

    text: str
    place: tuple[str, int] | None = None


def answer(step: Step, reply: Reply, frames: Mapping[int, Frame]) -> dict[str, Said]:
    """What a reply says, by name. `frames` are those of the machine that has given it."""
    said = {RESULT: Said(result_text(reply.result, frames))}
    for place, value in sorted(reply.changes.items()):
        for name, text in _change(step, *place, value, frames).items():
            said[name] = Said(text, place)
    if reply.unsaid:
        said["more changes"] = Said(str(reply.unsaid))
    return said


def result_text(result: int, frames: Mapping[int, Frame]) -> str:
    """The word in EAX: an error's number and name, or what it is."""
    signed = result - (1 << 32) if result >> 31 else result
    if -_FIRST_ERROR <= signed < 0:
        return f"{signed} ({error_name(-signed)})"
    return _value_text(result, frames)


def error_name(number: int) -> str:
    """EINVAL for 22."""
    return Errno(number).name if number in set(map(int, Errno)) else "no error that there is"


def _change(step: Step, letter: str, offset: int, value: int, frames: Mapping[int, Frame]) -> dict[str, str]:
    if letter == "r":
        record = _record_at(step, offset)
        if record is not None:
            return _in_structure(record, offset - record.offset, value, frames)
        return {f"request + {offset:#x}": _value_text(value, frames)}
    if letter == "g" and value in frames:
        return {f"grant table + {offset:#x}": repr(frames[value])}
    if letter in _ARRAYS:
        name, structure = _ARRAYS[letter]
        index, inside = divmod(offset, structure.size(WORD))
        return _fields(f"{name}[{index}]", structure.name, inside, value, frames)
    if letter == "t":
        return _entry(offset, value, frames)
    if letter == "p":
        page, inside = divmod(offset, PAGE_SIZE)
        return {f"page {page} + {inside:#x}": _value_text(value, frames)}
    return {f"{_WORDS.get(letter, letter)}[{offset // 4}]": _value_text(value, frames)}


def _entry(offset: int, value: int, frames: Mapping[int, Frame]) -> dict[str, str]:
    page, is_high = offset >> 3, offset & 4
    if is_high:
        return {f"entry of page {page}, upper half": f"{value:#x}"}
    flags = value & (PAGE_SIZE - 1) & ~_PROCESSORS_BITS
    frame = frames.get(value >> PAGE_SHIFT)
    shown = f"{value >> PAGE_SHIFT:#x}" if frame is None else repr(frame)
    return {f"entry of page {page}": f"{shown}:{flags:#x}" if value else "0"}


def _record_at(step: Step, offset: int) -> Record | None:
    for record in step.records:
        is_structure = record.area == "request" and record.structure is not None
        if is_structure and record.offset <= offset < record.offset + record.size:
            return record
    return None


def _in_structure(record: Record, offset: int, value: int, frames: Mapping[int, Frame]) -> dict[str, str]:
    assert record.structure is not None
    return _fields(record.structure, record.structure, offset, value, frames)


def _fields(
    shown: str, structure_name: str, offset: int, value: int, frames: Mapping[int, Frame]
) -> dict[str, str]:
    """The fields of a structure that lie in one dword, or the part of a longer one."""
    structure = structures()[structure_name]
    found: dict[str, str] = {}
    for path, at, size in structure.paths(WORD):
        if offset <= at and at + size <= offset + 4:
            part = value >> 8 * (at - offset) & (1 << 8 * size) - 1
            is_signed = path.endswith(("status", "err")) and part >> 8 * size - 1
            found[f"{shown}.{path}"] = (
                str(part - (1 << 8 * size)) if is_signed else _value_text(part, frames if size == 4 else {})
            )
            if structure.overlaid:
                break
        elif at <= offset and offset + 4 <= at + size:
            found[f"{shown}.{path} + {offset - at}"] = _value_text(value, frames)
            break
    return found or {f"{shown} + {offset:#x}": _value_text(value, frames)}


def _value_text(value: int, frames: Mapping[int, Frame]) -> str:
    if value in frames:
        return repr(frames[value])
    frame = value >> PAGE_SHIFT
    if frame >= _LEAST_FRAME and frame in frames:
        return f"{frames[frame]!r}:{value & PAGE_SIZE - 1:#x}"
    return str(value) if value < 4096 else f"{value:#x}"
