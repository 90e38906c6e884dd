"""Strategies of Hypothesis for hypercalls, made from the table of hypercalls and the structures of the ABI.

Three qualities of what a guest may say: `good` is well-formed and may succeed, `near` is a good call in which
little is wrong, `hostile` is anything. `mixed` has most of the first.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, Literal, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pvemu.abi.hypercalls import BY_NAME, HYPERCALLS, PV32, Argument, Hypercall
from pvemu.abi.structure import Structure
from pvemu.abi.vocabulary import constants
from pvemu.testing.commands import ENDINGS, array_structure, command_structure, commands_of
from pvemu.testing.meanings import Choices, choices_for, meaning_of
from pvemu.testing.program import WORD, Record, Step
from pvemu.testing.values import Address, Number, Value

Quality = Literal["good", "near", "hostile", "mixed"]
#: How often a value of each of the three kinds is taken, in a call of a quality.
_WEIGHTS: Final[dict[Quality, tuple[int, int, int]]] = {
    "good": (1, 0, 0),
    "near": (6, 1, 0),
    "hostile": (1, 1, 2),
    "mixed": (16, 3, 1),
}
#: Where a step's structures begin, in `request`; the second crosses into the hole behind it.
_PLACES: Final = (0, 0, 0, 4088)
_MOST_RECORDS: Final = 3
#: Elements of an array in a structure that are filled in.
_MOST_ELEMENTS: Final = 2
#: Calls that no program makes by itself: iret needs a frame on the stack.
_NEVER: Final = frozenset({"iret"})
FAMILIES: Final = tuple(row.name for row in HYPERCALLS if PV32 in row.guests and row.name not in _NEVER)
"""Names of the hypercalls that there are strategies for: all that a 32-bit guest can make."""


def values(meaning: str, quality: Quality = "mixed") -> SearchStrategy[Value]:
    """Values of one meaning ("port", "frame", "pointer" ...; `meanings.meanings` lists them)."""
    return _weighted(choices_for(meaning), quality)


@cache
def _weighted(choices: Choices, quality: Quality) -> SearchStrategy[Value]:
    kinds = [
        st.sampled_from(kind)
        for kind, weight in zip(choices, _WEIGHTS[quality], strict=True)
        for _ in range(weight)
        if kind
    ]
    return st.one_of(kinds) if len(kinds) > 1 else kinds[0]


# --- structures ---------------------------------------------------------------------------------


@cache
def fields(
    structure: Structure, quality: Quality, prefix: str = "", owner: str = ""
) -> SearchStrategy[tuple[tuple[str, Value], ...]]:
    """Values for the fields of a structure; of a union for one member."""
    owner = owner or structure.name
    parts: list[SearchStrategy[tuple[tuple[str, Value], ...]]] = []
    for field in structure.fields:
        if field.only not in (None, WORD) or field.name.startswith(("_", "pad")):
            continue
        number = field.count if isinstance(field.count, int) else 1 if field.count is None else _MOST_ELEMENTS
        paths = [
            prefix + (field.name if field.count is None else f"{field.name}[{index}]")
            for index in range(min(number, _MOST_ELEMENTS))
        ]
        for path in paths:
            if isinstance(field.type, Structure):
                parts.append(fields(field.type, quality, f"{path}.", owner))
            elif field.type != "char":
                parts.append(_one_field(path, owner, quality))
    if not parts:
        return st.just(())
    if structure.overlaid:
        return st.one_of(parts)
    return st.tuples(*parts).map(lambda found: tuple(each for part in found for each in part))


def _one_field(path: str, owner: str, quality: Quality) -> SearchStrategy[tuple[tuple[str, Value], ...]]:
    return values(meaning_of(owner, path), quality).map(lambda value: ((path, value),))


def _records(
    structure: Structure, quality: Quality, most: int, fixed: tuple[tuple[str, Value], ...] = ()
) -> SearchStrategy[tuple[Record, ...]]:
    """One structure, or an array of several, in the page for requests."""
    size, names = structure.size(WORD), {path for path, _ in fixed}

    def place(bodies: list[tuple[tuple[str, Value], ...]], at: int) -> tuple[Record, ...]:
        return tuple(
            Record(
                "request",
                at + number * size,
                structure.name,
                fixed + tuple(each for each in body if each[0] not in names),
            )
            for number, body in enumerate(bodies)
            if at + (number + 1) * size <= 4096
        )

    at = st.sampled_from(_PLACES) if quality in ("hostile",) else st.just(0)
    return st.builds(place, st.lists(fields(structure, quality), min_size=1, max_size=most), at)


def _words(quality: Quality) -> SearchStrategy[tuple[Record, ...]]:
    """Frame numbers and other words, for calls that take a list or something unknown."""
    word = st.one_of(values("frame", quality), values("frame", quality), values("number", quality))
    return st.lists(word, min_size=1, max_size=_MOST_RECORDS).map(
        lambda found: (
            Record("list", 0, None, tuple((str(number), each) for number, each in enumerate(found))),
        )
    )


# --- hypercalls ---------------------------------------------------------------------------------


@cache
def steps(
    name: str, *, domain: int = 0, quality: Quality = "mixed", endings: bool = False
) -> SearchStrategy[Step]:
    """Steps that make one hypercall of the table.

    Args:
        name: the hypercall's.
        domain: who makes it, counted from 0.
        endings: also those commands after which the guest does not go on by itself (block, shutdown).
    """
    row = BY_NAME[name]
    if row.subcommands is None or not commands_of(row):
        return _calls(row, domain, quality, None)
    left_out = frozenset() if endings else ENDINGS.get(name, frozenset())
    commands = [command for command in commands_of(row) if command not in left_out]
    each = [_calls(row, domain, quality, command) for command in commands]
    if quality in ("hostile", "mixed"):
        each.append(_calls(row, domain, "hostile", None))
    return st.one_of(each)


def _calls(row: Hypercall, domain: int, quality: Quality, command: str | None) -> SearchStrategy[Step]:
    """Steps with one command, or with none that is known."""
    signature = row.signature(WORD)
    array = array_structure(row.name)
    structure = command_structure(row, command)
    fixed: tuple[tuple[str, Value], ...] = ()
    chosen = None if command is None else Number(constants(WORD)[command], command)
    takes_command = any(argument.name in ("cmd", "op") and argument.type == "u32" for argument in signature)
    if chosen is not None and structure is not None and not takes_command:
        fixed = (("cmd", chosen),)
        version = constants(WORD).get(f"{row.subcommands}INTERFACE_VERSION")
        if version is not None and any(field.name == "interface_version" for field in structure.fields):
            fixed += (("interface_version", Number(version)),)
    if array is not None:
        if chosen is not None and any(field.name == "cmd" for field in array.fields):
            fixed = (("cmd", chosen),)
        records = _records(array, quality, _MOST_RECORDS, fixed)
    elif structure is not None:
        records = _records(structure, quality, 1, fixed)
    else:
        records = st.just(())
    if any(argument.type == "handle" for argument in signature):
        records = st.tuples(records, st.one_of(st.just(()), _words(quality))).map(
            lambda both: both[0] + both[1]
        )
    arguments = [
        _argument(row, argument, quality, chosen, is_list=array is None and structure is None)
        for argument in signature
        if not argument.optional
    ]

    def make(made: tuple[Record, ...], given: Sequence[Value]) -> Step:
        in_request = [record for record in made if record.area == "request"]
        counted = tuple(
            Number(len(in_request) or 1) if isinstance(value, _HowMany) else value for value in given
        )
        if in_request:
            first = Address("request", in_request[0].offset)
            counted = tuple(first if value == Address("request") else value for value in counted)
        return Step(domain, row.name, counted, made, command or row.name)

    return st.builds(make, records, st.tuples(*arguments))


class _HowMany(Number):
    """Stands for how many structures there are."""


def _argument(
    row: Hypercall, argument: Argument, quality: Quality, command: Number | None, *, is_list: bool
) -> SearchStrategy[Value]:
    """Values for an argument of a call."""
    if argument.name in ("cmd", "op") and argument.type == "u32":
        return st.just(command) if command is not None else values("number", "hostile")
    meaning = meaning_of(row.name, argument.name, argument.type)
    if argument.type == "handle":
        good: Value = Address("list" if is_list else "request")
        if argument.name in ("pdone",):
            return _weighted(
                choices_for("pointer")._replace(good=(Number(0), Address("list", 2048))), quality
            )
        return _weighted(choices_for("pointer")._replace(good=(good,)), quality)
    if meaning == "count" and not is_list:
        return _weighted(choices_for("count")._replace(good=(_HowMany(1),)), quality)
    return values(meaning, quality)


assert set(_WEIGHTS) == set(get_args(Quality))
