"""Dispatch of hypercalls: binds a handler to each row of the table of the ABI, and calls it.

The table itself (number, name, arguments, who may call) is `pvemu.abi.hypercalls`. A handler is bound
to its row by `@hypercall("name")` in the module named after its family; what has no handler is -ENOSYS.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from pvemu.abi.errno import Errno
from pvemu.abi.hypercalls import BY_NAME, PV32, Argument
from pvemu.cpu import layout
from pvemu.hypervisor.vcpu import Vcpu

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor

#: A handler takes the calling vCPU and the arguments, and returns the guest's result.
Handler = Callable[..., int]
Maker = Callable[["Hypervisor"], Handler]


class Words(Protocol):
    """Words by index: the register file's view, or `PackedWords`."""

    def __getitem__(self, index: int, /) -> int:
        """One word."""


#: Makes a hypercall for a vCPU, with words indexed by ARGUMENT_INDEXES.
Entry = Callable[[Vcpu, Words], int]
EntryMaker = Callable[["Hypervisor"], Entry]

ENOSYS: Final = -int(Errno.ENOSYS)

#: By name, what makes the handler for a machine; and what makes an entry, which needs no handler.
_MAKERS: dict[str, Maker] = {}
_ENTRY_MAKERS: dict[str, EntryMaker] = {}

# Argument registers of a 32-bit guest as 32-bit indexes of the state window.
_EBX, _ECX, _EDX, _ESI, _EDI = (
    2 * register for register in (layout.RBX, layout.RCX, layout.RDX, layout.RSI, layout.RDI)
)

#: Calls a handler with arguments taken from words, by the number of words that each argument takes. Written
#: out, because a call with a tuple of arguments takes a tenth of a microsecond longer.
_SHAPES: Final[Mapping[tuple[int, ...], Callable[[Handler], Entry]]] = {
    (): lambda h: lambda v, r: h(v),
    (1,): lambda h: lambda v, r: h(v, r[_EBX]),
    (1, 1): lambda h: lambda v, r: h(v, r[_EBX], r[_ECX]),
    (1, 1, 1): lambda h: lambda v, r: h(v, r[_EBX], r[_ECX], r[_EDX]),
    (1, 1, 1, 1): lambda h: lambda v, r: h(v, r[_EBX], r[_ECX], r[_EDX], r[_ESI]),
    (1, 1, 1, 1, 1): lambda h: lambda v, r: h(v, r[_EBX], r[_ECX], r[_EDX], r[_ESI], r[_EDI]),
    (2,): lambda h: lambda v, r: h(v, r[_EBX] | r[_ECX] << 32),
    (2, 2): lambda h: lambda v, r: h(v, r[_EBX] | r[_ECX] << 32, r[_EDX] | r[_ESI] << 32),
    (1, 2, 1): lambda h: lambda v, r: h(v, r[_EBX], r[_ECX] | r[_EDX] << 32, r[_ESI]),
    (1, 2, 1, 1): lambda h: lambda v, r: h(v, r[_EBX], r[_ECX] | r[_EDX] << 32, r[_ESI], r[_EDI]),
}
#: Where each of the five words lies in the sequence that those functions index.
ARGUMENT_INDEXES: Final = (_EBX, _ECX, _EDX, _ESI, _EDI)
#: The same for a 64-bit guest, among 64-bit words: each argument takes one register, the last two R10 and R8.
LONG_ARGUMENT_INDEXES: Final = (layout.RDI, layout.RSI, layout.RDX, 10, 8)
#: What counts of a register for an argument of 32 bits, and for any other.
_ARGUMENT_MASKS: Final = {"u32": 0xFFFFFFFF}
_WHOLE: Final = (1 << 64) - 1


def hypercall(name: str) -> Callable[[Handler], Handler]:
    """Bind the decorated handler to the table's row of that name."""

    def bind(handler: Handler) -> Handler:
        made_hypercall(name)(lambda hypervisor: handler)
        return handler

    return bind


def made_hypercall(name: str) -> Callable[[Maker], Maker]:
    """Bind what the decorated function makes for each machine: a closure, for a path that has to be short."""
    assert name in BY_NAME, name

    def bind(maker: Maker) -> Maker:
        _MAKERS[name] = maker
        return maker

    return bind


def made_entry(name: str) -> Callable[[EntryMaker], EntryMaker]:
    """Bind what the decorated function makes for each machine: an entry, which finds its arguments by itself.

    That saves a call on the paths that guests take most. It is for 32-bit words only.
    """
    assert name in BY_NAME, name

    def bind(maker: EntryMaker) -> EntryMaker:
        _ENTRY_MAKERS[name] = maker
        return maker

    return bind


def table(
    hypervisor: "Hypervisor",
    guest: str = PV32,
    word: int = 4,
    *,
    instead: Mapping[str, Handler] | None = None,
) -> dict[int, Entry]:
    """The entries that guests of a kind can call on a machine, by number.

    Args:
        guest: the kind, as the table of hypercalls names it.
        word: bytes of a long where the call is made. Arguments are then found at ARGUMENT_INDEXES of 32-bit
            words, or at LONG_ARGUMENT_INDEXES of 64-bit ones.
        instead: by name, handlers that take the place of others.
    """
    entries: dict[int, Entry] = {}
    for name in supported():
        row, other = BY_NAME[name], (instead or {}).get(name)
        if guest in row.guests:
            if other is None and name in _ENTRY_MAKERS:
                assert word == 4, name
                entries[row.number] = _ENTRY_MAKERS[name](hypervisor)
                continue
            handler = other or _MAKERS[name](hypervisor)
            signature = row.signature(word)
            if word == 8:
                entries[row.number] = _long_entry(handler, signature)
            else:
                shape = tuple(argument.registers(word) for argument in signature)
                entries[row.number] = _SHAPES[shape](handler)
    return entries


def _long_entry(handler: Handler, signature: Sequence[Argument]) -> Entry:
    masks = (_ARGUMENT_MASKS.get(argument.type, _WHOLE) for argument in signature)
    places = tuple(zip(LONG_ARGUMENT_INDEXES, masks, strict=False))
    return lambda vcpu, words: handler(vcpu, *[words[index] & mask for index, mask in places])


def supported() -> list[str]:
    """Names of the hypercalls that have a handler, in the order of their numbers."""
    return sorted((*_MAKERS, *_ENTRY_MAKERS), key=lambda name: BY_NAME[name].number)


class PackedWords(dict[int, int]):
    """Argument words that no register holds, indexed as the registers are."""

    def __init__(self, words: Sequence[int], indexes: Sequence[int] = ARGUMENT_INDEXES) -> None:
        super().__init__(zip(indexes, words, strict=False))


def signed(word: int) -> int:
    """A 32-bit word as a signed number."""
    return word - (1 << 32) if word & 1 << 31 else word
