"""The grammar of steps: what a hypercall is given, and what a domain says in shared memory, choice by choice.

Whoever makes the choices is a `Chooser`: Hypothesis (strategies.py), or a seeded generator of random numbers
(fuzzing/mutation.py). Three qualities of what a guest may say: `good` is well-formed and may succeed, `near`
is a good call in which little is wrong, `hostile` is anything. `mixed` has most of the first.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, Literal, Protocol, TypeVar, get_args

from pvemu.abi.errors import PvemuError
from pvemu.abi.grant_table import GTF_permit_access
from pvemu.abi.hypercalls import HYPERCALLS, PV32, Argument, Hypercall
from pvemu.abi.structure import Structure
from pvemu.abi.vocabulary import constants, structures
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
#: Where a step's structures begin, in `request`; the last crosses into the hole behind it.
_PLACES: Final = (0, 0, 0, 4088)
_MOST_RECORDS: Final = 3
#: Elements of an array in a structure that are filled in.
_MOST_ELEMENTS: Final = 2
#: Calls that no program makes by itself: iret needs a frame on the stack.
_NEVER: Final = frozenset({"iret"})
FAMILIES: Final = tuple(row.name for row in HYPERCALLS if PV32 in row.guests and row.name not in _NEVER)
"""Names of the hypercalls that steps are made of: all that a 32-bit guest can make."""

_ENTRY_SIZE: Final = 8
_REFERENCES: Final = (8, 9, 10)
_PORTS: Final = 8

Fields = tuple[tuple[str, Value], ...]
Item = TypeVar("Item")


def named_families(names: str) -> tuple[str, ...]:
    """The hypercalls that a list with commas names, in the table's order; none when it is empty.

    Raises:
        PvemuError: one of them is none.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    for name in sorted(wanted - {*FAMILIES}):
        raise PvemuError(f"there is no hypercall {name!r}: `pvemu hypercalls` lists them")
    return tuple(name for name in FAMILIES if name in wanted)


class Chooser(Protocol):
    """Makes one choice after the other."""

    def index(self, size: int) -> int:
        """A number from 0 to below `size`; 0 is the plainest choice."""


def pick(chooser: Chooser, items: Sequence[Item]) -> Item:
    """One of several things."""
    return items[chooser.index(len(items))]


def value(chooser: Chooser, meaning: str, quality: Quality) -> Value:
    """A value of one meaning ("port", "frame", "pointer" ...; `meanings.meanings` lists them)."""
    return _one_of(chooser, choices_for(meaning), quality)


@cache
def _kinds(choices: Choices, quality: Quality) -> tuple[tuple[Value, ...], ...]:
    """The kinds of values, each as often as its weight says."""
    weighted = zip(choices, _WEIGHTS[quality], strict=True)
    return tuple(kind for kind, weight in weighted for _ in range(weight) if kind)


def _one_of(chooser: Chooser, choices: Choices, quality: Quality) -> Value:
    return pick(chooser, pick(chooser, _kinds(choices, quality)))


# --- structures ---------------------------------------------------------------------------------


def fields(
    chooser: Chooser, structure: Structure, quality: Quality, prefix: str = "", owner: str = ""
) -> Fields:
    """Values for the fields of a structure; of a union for one member."""
    owner = owner or structure.name
    members = _members(structure)
    if structure.overlaid and members:
        members = (pick(chooser, members),)
    found: list[tuple[str, Value]] = []
    for name, inner in members:
        if inner is not None:
            found += fields(chooser, inner, quality, f"{prefix}{name}.", owner)
        else:
            found.append((prefix + name, value(chooser, meaning_of(owner, prefix + name), quality)))
    return tuple(found)


@cache
def _members(structure: Structure) -> tuple[tuple[str, Structure | None], ...]:
    """What is filled in: the names of fields and of the first elements of arrays, with structures in them."""
    members: list[tuple[str, Structure | None]] = []
    for field in structure.fields:
        is_filler = field.only not in (None, WORD) or field.name.startswith(("_", "pad"))
        if is_filler or field.type == "char":
            continue
        number = field.count if isinstance(field.count, int) else 1 if field.count is None else _MOST_ELEMENTS
        for index in range(min(number, _MOST_ELEMENTS)):
            name = field.name if field.count is None else f"{field.name}[{index}]"
            if not isinstance(field.type, Structure):
                members.append((name, None))
            elif _members(field.type):
                members.append((name, field.type))
    return tuple(members)


def records(
    chooser: Chooser, structure: Structure, quality: Quality, most: int, fixed: Fields = ()
) -> tuple[Record, ...]:
    """One structure, or an array of several, in the page for requests."""
    size, names = structure.size(WORD), {path for path, _ in fixed}
    at = pick(chooser, _PLACES) if quality == "hostile" else 0
    return tuple(
        Record("request", at + number * size, structure.name, fixed + _without(body, names))
        for number, body in enumerate(
            fields(chooser, structure, quality) for _ in range(1 + chooser.index(most))
        )
        if at + (number + 1) * size <= 4096
    )


def _without(body: Fields, names: set[str]) -> Fields:
    return tuple(each for each in body if each[0] not in names)


def _words(chooser: Chooser, quality: Quality) -> Record:
    """Frame numbers and other words, for calls that take a list or something unknown."""
    found = tuple(
        (str(number), value(chooser, pick(chooser, ("frame", "frame", "number")), quality))
        for number in range(1 + chooser.index(_MOST_RECORDS))
    )
    return Record("list", 0, None, found)


# --- hypercalls ---------------------------------------------------------------------------------


def commands(row: Hypercall, quality: Quality, *, endings: bool = False) -> tuple[str | None, ...]:
    """What a call can be told to do; None stands for a call without a command, or with a wild one.

    Args:
        endings: also those commands after which the guest does not go on by itself (block, shutdown).
    """
    known = commands_of(row)
    if not known:
        return (None,)
    left_out = frozenset() if endings else ENDINGS.get(row.name, frozenset())
    each = tuple(command for command in known if command not in left_out)
    return (*each, None) if quality in ("hostile", "mixed") else each


def step(
    chooser: Chooser, row: Hypercall, domain: int = 0, quality: Quality = "mixed", *, endings: bool = False
) -> Step:
    """A step that makes one hypercall of the table.

    Args:
        domain: who makes it, counted from 0.
        endings: as for `commands`.
    """
    command = pick(chooser, commands(row, quality, endings=endings))
    return call(chooser, row, domain, "hostile" if command is None and row.subcommands else quality, command)


def call(chooser: Chooser, row: Hypercall, domain: int, quality: Quality, command: str | None) -> Step:
    """A step with one command, or with none that is known."""
    signature = [argument for argument in row.signature(WORD) if not argument.optional]
    array, structure = array_structure(row.name), command_structure(row, command)
    chosen = None if command is None else Number(constants(WORD)[command], command)
    made: tuple[Record, ...] = ()
    if array is not None:
        made = records(chooser, array, quality, _MOST_RECORDS, _fixed_in_array(array, chosen))
    elif structure is not None:
        made = records(chooser, structure, quality, 1, _fixed(row, structure, chosen))
    in_request = len(made)
    takes_handle = any(argument.type == "handle" for argument in row.signature(WORD))
    if takes_handle and chooser.index(2):
        made = (*made, _words(chooser, quality))
    is_list = array is None and structure is None
    arguments = [_argument(chooser, row, argument, quality, chosen, is_list) for argument in signature]
    return Step(domain, row.name, _settled(arguments, made[:in_request]), made, command or row.name)


def _settled(arguments: Sequence[Value], requests: Sequence[Record]) -> tuple[Value, ...]:
    """With the number of structures, and the place of the first one."""
    found: list[Value] = []
    for each in arguments:
        if isinstance(each, HowMany):
            each = Number(len(requests) or 1)
        elif each == Address("request") and requests:
            each = Address("request", requests[0].offset)
        found.append(each)
    return tuple(found)


def _fixed_in_array(array: Structure, command: Number | None) -> Fields:
    has_command = command is not None and any(field.name == "cmd" for field in array.fields)
    return (("cmd", command),) if command is not None and has_command else ()


def _fixed(row: Hypercall, structure: Structure, command: Number | None) -> Fields:
    """The command, where it is in the structure; and the version of the interface."""
    takes_command = any(_is_command(argument) for argument in row.signature(WORD))
    if command is None or takes_command:
        return ()
    version = constants(WORD).get(f"{row.subcommands}INTERFACE_VERSION")
    if version is None or all(field.name != "interface_version" for field in structure.fields):
        return (("cmd", command),)
    return (("cmd", command), ("interface_version", Number(version)))


class HowMany(Number):
    """Stands for how many structures there are."""


def _is_command(argument: Argument) -> bool:
    return argument.name in ("cmd", "op") and argument.type == "u32"


def argument_choices(row: Hypercall, argument: Argument, *, is_list: bool) -> Choices:
    """The values of an argument, which is not a command.

    Args:
        is_list: its handle is for a list of words, and not for a structure.
    """
    meaning = meaning_of(row.name, argument.name, argument.type)
    choices = choices_for("pointer" if argument.type == "handle" else meaning)
    if argument.type == "handle":
        if argument.name == "pdone":
            return choices._replace(good=(Number(0), Address("list", 2048)))
        return choices._replace(good=(Address("list" if is_list else "request"),))
    if meaning == "count" and not is_list:
        return choices._replace(good=(HowMany(1),))
    return choices


def _argument(
    chooser: Chooser,
    row: Hypercall,
    argument: Argument,
    quality: Quality,
    command: Number | None,
    is_list: bool,
) -> Value:
    if _is_command(argument):
        return command if command is not None else value(chooser, "number", "hostile")
    return _one_of(chooser, argument_choices(row, argument, is_list=is_list), quality)


# --- shared memory ------------------------------------------------------------------------------


def grant(
    chooser: Chooser, domain: int = 0, quality: Quality = "mixed", reference: int | None = None
) -> Step:
    """An entry of version 1 written into the domain's grant table; any, where no reference is given."""
    reference = pick(chooser, _REFERENCES) if reference is None else reference
    usual = Number(GTF_permit_access)
    found = (
        ("flags", usual if not chooser.index(2) else value(chooser, "grant flags", quality)),
        ("domid", value(chooser, "peer", quality)),
        ("frame", value(chooser, "frame", quality)),
    )
    record = Record("grant_entries", reference * _ENTRY_SIZE, "grant_entry_v1", found)
    return Step(domain, None, (), (record,), f"grant {reference}")


def mask(chooser: Chooser, domain: int = 0, port: int | None = None) -> Step:
    """A port masked, as a driver does that is busy; some of the first ones, where none is given."""
    ports = {port or 1 + chooser.index(_PORTS) for _ in range(1 + chooser.index(3))}
    bits = Number(sum(1 << port for port in ports))
    record = Record("shared_info_page", 0, "shared_info", (("evtchn_mask[0]", bits),), keeps=True)
    return Step(domain, None, (), (record,), "mask")


def take_events(domain: int = 0) -> Step:
    """All pending events of the first word noticed, as a kernel's upcall handler does."""
    pending = "vcpu_info[0].evtchn_pending_sel", "vcpu_info[0].evtchn_upcall_pending", "evtchn_pending[0]"
    cleared = tuple(_cleared(path) for path in (pending[1], pending[0], pending[2]))
    return Step(domain, None, (), cleared, "take events")


def _cleared(path: str) -> Record:
    shared_info = structures()["shared_info"]
    at, size = shared_info.offset(path, 4), shared_info.field_size(path, 4)
    assert size in (1, 4)
    # The byte behind evtchn_upcall_pending is the mask, which stays set.
    kept = 0 if size == 4 else 0x100
    return Record("shared_info_page", at, None, (("0", Number(kept)),))


assert set(_WEIGHTS) == set(get_args(Quality))
