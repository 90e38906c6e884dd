"""Programs as text that people read and `read_program` reads back: for corpora, findings and saved failures.

A program of three steps:

    program of 2 domains
    d0 "XS_READ" xenstore(XS_READ, 0, "data\\u0000")
    d0 "EVTCHNOP_alloc_unbound" event_channel_op(EVTCHNOP_alloc_unbound, &request)
        evtchn_alloc_unbound at request: dom = DOMID_SELF, remote_dom = peer
    d1 "grant 8"
        grant_entry_v1 at grant_entries + 64: flags = 1, domid = peer, frame = <page 8>

A step is a line with its domain, its title and its hypercall, if there is one; lines that are indented are
its records. `or` before a record says that the rest of it stays. Empty lines and those that begin with `;`
say nothing. Values are numbers, the ABI's names, `NAME{5}` where a name stands for another number than the
ABI's, `peer`, `&label + offset`, `<frame>`, `<frame>:low` and `<frame>:low:high` for entries, and
`slot 3:command`. A message to xenstored has its type, its transaction (or `latest`), and its payload as a
JSON string.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.vocabulary import constants, structures
from pvemu.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from pvemu.testing.messages import LATEST, TYPES, Message, name_of
from pvemu.testing.program import WORD, Program, Record, Step
from pvemu.testing.values import FRAME_KINDS, Address, Entry, Frame, Number, Peer, Slot, Value

#: Labels of steps.gk that a program may speak of.
AREAS: Final = ("request", "list", "pages", "grant_entries", "shared_info_page")
MOST_DOMAINS: Final = 8
#: Pages and the like are counted up to here.
_MOST_FRAMES: Final = 16
_FIELD_SIZES: Final = frozenset((1, 2, 4, 8))
_INDENT: Final = "    "
_XENSTORE: Final = "xenstore"
MOST_TIMES: Final = 2000


class ProgramError(PvemuError):
    """A text that is no program; the message names the line."""


# --- writing ------------------------------------------------------------------------------------


def write_program(program: Program) -> str:
    """A program as text, which ends with a newline. Equal programs have equal texts."""
    return "".join(f"{line}\n" for line in _program_lines(program))


def _program_lines(program: Program) -> Iterator[str]:
    yield f"program of {program.domains} domain{'s' if program.domains > 1 else ''}"
    for step in program.steps:
        call = "" if step.call is None else f" {step.call}({', '.join(map(value_text, step.arguments))})"
        if step.message is not None:
            call = f" {_XENSTORE}({_message_text(step.message)})"
        yield f"d{step.domain} {json.dumps(step.title)}{call}"
        for record in step.records:
            fields = ", ".join(f"{path} = {value_text(value)}" for path, value in record.fields)
            place = f"{record.area} + {record.offset}" if record.offset else record.area
            kind = "or " if record.keeps else ""
            yield f"{_INDENT}{kind}{record.structure or 'words'} at {place}: {fields}".rstrip()


def _message_text(message: Message) -> str:
    transaction = "latest" if message.transaction == LATEST else str(message.transaction)
    length = "" if message.length is None else f", length = {message.length}"
    times = "" if message.times == 1 else f", times = {message.times}"
    return f"{name_of(message.type)}, {transaction}, {json.dumps(message.payload)}{length}{times}"


def value_text(value: Value) -> str:
    """A value as text. Raises TypeError: there is no form for values of its kind."""
    match value:
        case Number(number, None):
            return _digits(number)
        case Number(number, name):
            return str(name) if constants(WORD).get(str(name)) == number else f"{name}{{{_digits(number)}}}"
        case Peer():
            return "peer"
        case Address(symbol, offset):
            return f"&{symbol} + {_digits(offset)}" if offset else f"&{symbol}"
        case Frame():
            return _frame_text(value)
        case Entry(frame, low, high):
            text = f"{_frame_text(frame)}:{low:#x}"
            return f"{text}:{high:#x}" if high else text
        case Slot(page, command):
            return f"slot {page}:{command}" if command else f"slot {page}"
    raise TypeError(f"{value!r} has no form as text")


def _digits(number: int) -> str:
    return str(number) if -4096 <= number <= 4096 else hex(number)


def _frame_text(frame: Frame) -> str:
    return f"<{frame.kind} {frame.number}>" if frame.number else f"<{frame.kind}>"


# --- reading ------------------------------------------------------------------------------------

_INTEGER: Final = r"-?0x[0-9a-f]{1,20}|-?[0-9]{1,20}"
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
_FRAME: Final = r"<(?P<kind>[a-z0-9 ]+?)(?: (?P<which>[0-9]{1,3}))?>"
_HEAD: Final = re.compile(r"program of (?P<domains>[0-9]{1,3}) domains?")
_STEP: Final = re.compile(
    rf'd(?P<domain>[0-9]{{1,3}}) "(?P<title>[\w .:+-]{{0,64}})"(?: (?P<call>{_NAME})\((?P<arguments>.*)\))?',
    re.ASCII,
)
_RECORD: Final = re.compile(
    rf"(?P<keeps>or )?(?P<structure>{_NAME}) at (?P<area>{_NAME})(?: \+ (?P<offset>[0-9]{{1,6}}))?"
    r":(?P<fields>.*)"
)
_FIELD: Final = re.compile(r"(?P<path>[\w.\[\]]+) = (?P<value>.+)", re.ASCII)

_MESSAGE: Final = re.compile(
    r"(?P<type>XS_[A-Z_]{1,40}|[0-9]{1,9}), (?P<transaction>latest|[0-9]{1,10}), "
    r'(?P<payload>"(?:[^"\\]|\\.)*")'
    r"(?:, length = (?P<length>[0-9]{1,10}))?(?:, times = (?P<times>[0-9]{1,5}))?"
)

_Groups = dict[str, str | None]


def _number(groups: _Groups) -> Value:
    return Number(_integer(groups["number"]))


def _named(groups: _Groups) -> Value:
    name, number = str(groups["name"]), groups["is"]
    if number is not None:
        return Number(_integer(number), name)
    if name == "peer":
        return Peer()
    if name not in constants(WORD):
        raise ProgramError(f"{name!r} is no name of the ABI")
    return Number(constants(WORD)[name], name)


def _address(groups: _Groups) -> Value:
    symbol = str(groups["symbol"])
    if symbol not in AREAS:
        raise ProgramError(f"there is no area {symbol!r}, only {', '.join(AREAS)}")
    return Address(symbol, _integer(groups["offset"]))


def _frame(groups: _Groups) -> Value:
    kind, number = str(groups["kind"]), _integer(groups["which"])
    if kind not in FRAME_KINDS or number >= _MOST_FRAMES:
        raise ProgramError(f"there is no frame <{kind} {number}>")
    frame = Frame(kind, number)
    return frame if groups["low"] is None else Entry(frame, _integer(groups["low"]), _integer(groups["high"]))


def _slot(groups: _Groups) -> Value:
    page = _integer(groups["page"])
    if page >= _MOST_FRAMES:
        raise ProgramError(f"there is no page {page}")
    return Slot(page, _integer(groups["command"]))


def _integer(text: str | None) -> int:
    return int(text or "0", 0)


#: The forms of values, each tried on the whole text.
_FORMS: Final[tuple[tuple[re.Pattern[str], Callable[[_Groups], Value]], ...]] = (
    (re.compile(rf"(?P<number>{_INTEGER})"), _number),
    (re.compile(rf"slot (?P<page>[0-9]{{1,3}})(?::(?P<command>{_INTEGER}))?"), _slot),
    (re.compile(rf"(?P<name>{_NAME})(?:\{{(?P<is>{_INTEGER})\}})?"), _named),
    (re.compile(rf"&(?P<symbol>{_NAME})(?: \+ (?P<offset>{_INTEGER}))?"), _address),
    (re.compile(rf"{_FRAME}(?::(?P<low>{_INTEGER})(?::(?P<high>{_INTEGER}))?)?"), _frame),
)


def read_value(text: str) -> Value:
    """The value that a text means. Raises ProgramError."""
    for pattern, make in _FORMS:
        found = pattern.fullmatch(text)
        if found is not None:
            try:
                return make(found.groupdict())
            except ValueError as error:
                raise ProgramError(f"{text!r} is no value") from error
    raise ProgramError(f"{text!r} is no value")


def read_program(text: str) -> Program:
    """The program that a text means.

    Raises:
        ProgramError: it means none; the message names the line.
    """
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith(";")
    ]
    if not lines:
        raise ProgramError("there is no program: it begins with `program of 2 domains`")
    reader = _Reader()
    for number, line in lines:
        try:
            reader.read(line)
        except ProgramError as error:
            raise ProgramError(f"line {number}: {error}") from error
    return reader.program()


class _Reader:
    def __init__(self) -> None:
        self._domains = 0
        self._steps: list[Step] = []

    def program(self) -> Program:
        return Program(self._domains, tuple(self._steps))

    def read(self, line: str) -> None:
        if not self._domains:
            self._domains = _read_head(line)
        elif line[0].isspace():
            self._add(_read_record(line.strip()))
        else:
            self._steps.append(_read_step(line.rstrip(), self._domains))

    def _add(self, record: Record) -> None:
        if not self._steps:
            raise ProgramError("a record stands before all steps")
        step = self._steps[-1]
        self._steps[-1] = Step(step.domain, step.call, step.arguments, (*step.records, record), step.title)


def _read_head(line: str) -> int:
    found = _HEAD.fullmatch(line.strip())
    if found is None:
        raise ProgramError("it begins with `program of 2 domains`")
    if not 1 <= int(found["domains"]) <= MOST_DOMAINS:
        raise ProgramError(f"a program is of 1 to {MOST_DOMAINS} domains")
    return int(found["domains"])


def _read_step(line: str, domains: int) -> Step:
    found = _STEP.fullmatch(line)
    if found is None:
        raise ProgramError('a step reads d0 "title" hypercall(argument, argument)')
    domain, call = int(found["domain"]), found["call"]
    if domain >= domains:
        raise ProgramError(f"there is no d{domain} among {domains} domains")
    if call == _XENSTORE:
        return Step(domain, None, (), (), found["title"], _read_message(found["arguments"]))
    if call is None:
        return Step(domain, None, (), (), found["title"])
    if call not in BY_NAME:
        raise ProgramError(f"there is no hypercall {call!r}")
    arguments = tuple(map(read_value, _split(found["arguments"])))
    most = len(BY_NAME[call].signature(WORD))
    if len(arguments) > most:
        raise ProgramError(f"{call} takes {most} arguments")
    return Step(domain, call, arguments, (), found["title"])


def _read_message(text: str) -> Message:
    found = _MESSAGE.fullmatch(text)
    if found is None:
        raise ProgramError('a message reads XS_READ, 0, "path\\u0000"')
    name = found["type"]
    if not name.isdigit() and name not in TYPES:
        raise ProgramError(f"there is no message {name!r}")
    try:
        payload = json.loads(found["payload"])
    except json.JSONDecodeError as error:
        raise ProgramError(f"{found['payload']} is no text") from error
    times, length = int(found["times"] or 1), found["length"]
    if len(payload) > XENSTORE_PAYLOAD_MAX or any(ord(character) > 255 for character in payload):
        raise ProgramError(f"a payload is of {XENSTORE_PAYLOAD_MAX} bytes at most")
    if not 1 <= times <= MOST_TIMES:
        raise ProgramError(f"a message is sent 1 to {MOST_TIMES} times")
    return Message(
        int(name) if name.isdigit() else TYPES[name],
        LATEST if found["transaction"] == "latest" else int(found["transaction"]) & 0xFFFFFFFF,
        payload,
        None if length is None else int(length) & 0xFFFFFFFF,
        times,
    )


def _read_record(line: str) -> Record:
    found = _RECORD.fullmatch(line)
    if found is None:
        raise ProgramError("a record reads structure at area + offset: field = value, field = value")
    structure: str | None = found["structure"]
    if structure == "words":
        structure = None
    elif structure not in structures():
        raise ProgramError(f"there is no structure {structure!r}")
    if found["area"] not in AREAS:
        raise ProgramError(f"there is no area {found['area']!r}, only {', '.join(AREAS)}")
    fields = tuple(map(_read_field, _split(found["fields"])))
    record = Record(found["area"], _integer(found["offset"]), structure, fields, found["keeps"] is not None)
    for number, (path, _) in enumerate(fields):
        if structure is None and path != str(number):
            raise ProgramError("words are numbered from 0")
        _look_up(record, path)
    return record


def _look_up(record: Record, path: str) -> None:
    try:
        _, size = record.place(path)
    except LookupError as error:
        raise ProgramError(f"{record.structure} has no field {path!r}") from error
    if size not in _FIELD_SIZES:
        raise ProgramError(f"{path} of {record.structure} is no single number")


def _read_field(text: str) -> tuple[str, Value]:
    found = _FIELD.fullmatch(text)
    if found is None:
        raise ProgramError(f"{text!r} is no field: it reads name = value")
    return found["path"], read_value(found["value"])


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []
