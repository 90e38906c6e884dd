"""Programs that mean the same on every machine: what names a frame or a domain of one machine goes."""

from dataclasses import replace
from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.vocabulary import constants
from pvemu.abi.xen import MMUEXT_COPY_PAGE
from pvemu.testing.commands import commands_of
from pvemu.testing.program import WORD, Program, Record, Step
from pvemu.testing.values import Address, Entry, Frame, Number, Peer, Slot, Value

#: Frames that no machine's memory has, or that are below all of it, have the same numbers everywhere.
_ANYWHERE: Final = ("low", "beyond")
_BEYOND: Final = (0xFFFFF, 0xFEC00, (1 << 28) - 1, (1 << 40) - 1)
_MACHINES_OWN: Final = ("their page", "their table", "free", "hypervisor", "m2p")
#: Bytes that a value needs to be written by the guest itself.
_LEAST_BYTES: Final[dict[type, int]] = {Frame: 4, Address: 4, Entry: 8, Slot: 8}
#: A number that is nothing's, in fields that are too small for what was meant.
_NOTHING: Final = Number(0xFFFF)
#: Ports by which the guest tells what it has seen stay open.
_OWN_PORTS: Final = (Number(1), Number(2))
_OTHER_PORT: Final = Number(6)
#: Constants with the numbers of commands that are none.
_NO_COMMANDS: Final = ("XENMEM_resource", "XENMEM_access_op_")
#: Hypercalls that are given frames in a list at once, and not from within a structure.
_LISTS_OF_FRAMES: Final = ("set_gdt",)
#: The upper bits of a command of memory_op say where it goes on.
_MEMORY_COMMAND: Final = 0x3F
_REFERENCES: Final = ((1, "source.u.gmfn"), (2, "dest.u.gmfn"))
_COPY_PAGE: Final = Number(MMUEXT_COPY_PAGE, "MMUEXT_COPY_PAGE")

#: Commands that are never made, and why; the rest of a program is compared without them.
NOT_MADE: Final = {
    "EVTCHNOP_reset": "closes the port of the console by which the guest tells what it sees",
    "EVTCHNOP_init_control": "brings the console's events into a page of the program's, at any time",
    "SCHEDOP_remote_shutdown": "ends the guest of domain 0",
    "CONSOLEIO_write": "is what domain 0 prints by",
    "CONSOLEIO_read": "depends on what is typed",
    "VCPUOP_register_vcpu_info": "makes Xen write times into memory from then on",
    "VCPUOP_register_runstate_memory_area": "makes Xen write times into memory from then on",
    "VCPUOP_register_runstate_phys_area": "makes Xen write times into memory from then on",
    "VCPUOP_register_vcpu_time_memory_area": "makes Xen write times into memory from then on",
    "VCPUOP_register_vcpu_time_phys_area": "makes Xen write times into memory from then on",
}


class Elsewhere:
    """The surroundings of a guest on another machine: only what is the same everywhere is known."""

    domid = 1
    peer_domid = 0

    def address_of(self, symbol: str) -> int:
        """Addresses are left to the assembler."""
        raise LookupError(symbol)

    def frame_of(self, kind: str, number: int) -> int:
        """A number that is the same everywhere; raises LookupError."""
        if kind == "low":
            return number
        if kind == "beyond":
            return _BEYOND[number % len(_BEYOND)]
        raise LookupError(kind)


def portable(program: Program) -> Program:
    """A program of one domain with what means the same everywhere, without steps that can't be compared."""
    steps = (_titled(step) for step in program.steps if step.domain == 0 and step.message is None)
    return Program(1, tuple(_portable_step(step) for step in steps if step.title not in NOT_MADE))


def _titled(step: Step) -> Step:
    """With the name of its command, also where it was told by its number, or by another name of that."""
    if step.call is None or not step.arguments:
        return step
    row, command = BY_NAME[step.call], step.arguments[0]
    if row.signature(WORD)[0].name not in ("cmd", "op") or not isinstance(command, Number):
        return step
    number = command.number & _MEMORY_COMMAND if step.call == "memory_op" else command.number
    names = [
        name
        for name in commands_of(row)
        if constants(WORD)[name] == number and not name.startswith(_NO_COMMANDS)
    ]
    return replace(step, title=names[0]) if names and step.title not in names else step


def _portable_step(step: Step) -> Step:
    is_structure = any(isinstance(value, Address) and value.symbol == "list" for value in step.arguments)
    takes_frames = step.call in _LISTS_OF_FRAMES
    records = tuple(
        _numbered(record) if record.area == "list" and is_structure and not takes_frames else record
        for record in map(_portable_record, step.records)
    )
    if step.call is None:
        return replace(step, records=records)
    signature = BY_NAME[step.call].signature(WORD)
    arguments = tuple(
        _portable_value(value, 4 * argument.registers(WORD))
        for argument, value in zip(signature, step.arguments, strict=False)
    )
    return replace(step, arguments=arguments, records=records)


def _numbered(record: Record) -> Record:
    """Words that are taken for a structure, in which a frame's number would be a count, or a domain."""
    fields = (
        (path, Number(value.number) if isinstance(value, Frame) else value) for path, value in record.fields
    )
    return replace(record, fields=tuple(fields))


def _portable_record(record: Record) -> Record:
    fields = []
    for path, value in record.fields:
        made = _portable_value(value, record.place(path)[1])
        if path.endswith("port") and made in _OWN_PORTS:
            made = _OTHER_PORT
        if isinstance(made, Frame) and path in _copied_by_reference(record):
            made = Number(value.number) if isinstance(value, Frame) else made
        if path.startswith("arg2."):
            made = _second_argument(record, path, made)
        fields.append((path, made))
    return replace(record, fields=tuple(fields))


def _second_argument(record: Record, path: str, value: Value) -> Value:
    """Of an mmuext_op: a frame to be copied, of other commands a count; no number is a frame's by chance."""
    copies = ("cmd", _COPY_PAGE) in record.fields
    if path.endswith("src_mfn") == copies:
        return value
    if path.endswith("src_mfn"):
        return _NOTHING
    return Number(value.number & 0xFF) if isinstance(value, Number) else Number(0)


def _copied_by_reference(record: Record) -> tuple[str, ...]:
    """Fields of a gnttab_copy in which its flags make a grant reference of a frame's number."""
    flags = dict(record.fields).get("flags")
    if record.structure != "gnttab_copy" or not isinstance(flags, Number):
        return ()
    return tuple(path for bit, path in _REFERENCES if flags.number & bit)


def _portable_value(value: Value, size: int) -> Value:
    """The value, or one that is like it and the same everywhere."""
    if size < _LEAST_BYTES.get(type(value), 0):
        return _NOTHING
    match value:
        case Peer():
            return Number(0)
        case Frame(kind, number) if kind in _MACHINES_OWN:
            return Frame(_ANYWHERE[number % 2], number)
        case Entry(Frame(kind, number), low, high) if kind in _MACHINES_OWN:
            return Entry(Frame(_ANYWHERE[number % 2], number), low, high)
    return value
