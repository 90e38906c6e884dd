"""What a guest is to be told of through its IDT, and what becomes of two at once."""

from enum import Enum
from typing import Final, NamedTuple

from pvemu.cpu import exits
from pvemu.hypervisor.emulate.memory import InstructionFault
from pvemu.hypervisor.hvm.linear_memory import NoCode
from pvemu.hypervisor.hvm.segment_registers import Fault
from pvemu.memory.guest_walk import GuestPageFault


class Source(Enum):
    """Where an event comes from."""

    EXCEPTION = "the processor"
    EXTERNAL = "a device: an interrupt or an NMI"
    SOFTWARE = "INT n, INT3 or INTO"
    ICEBP = "the instruction F1: #DB without a look at the gate's DPL"


class Event(NamedTuple):
    """An interrupt or exception.

    Attributes:
        error_code: None where none is pushed.
        address: the linear address of a page fault, for CR2.
        length: bytes of the instruction that made a software interrupt; EIP stands behind it.
    """

    vector: int
    source: Source = Source.EXCEPTION
    error_code: int | None = None
    address: int = 0
    length: int = 0

    @property
    def is_external(self) -> bool:
        """Whether faults on its way have EXT set in their error codes: all but the program's own INT."""
        return self.source is not Source.SOFTWARE

    @property
    def is_fault(self) -> bool:
        """Whether the instruction at EIP runs again after the handler, so that RF is set for it."""
        return self.source is Source.EXCEPTION and self.vector not in _NO_FAULTS


#: What keeps an instruction, or a part of the processor's own work, from being done.
Refusal = GuestPageFault | InstructionFault | Fault | NoCode
REFUSALS: Final = (GuestPageFault, InstructionFault, Fault, NoCode)


def event_of(refusal: Refusal) -> Event:
    """The exception by which the guest is told."""
    if isinstance(refusal, GuestPageFault):
        return Event(exits.PF, error_code=refusal.error_code, address=refusal.address)
    if isinstance(refusal, NoCode):
        return Event(exits.GP, error_code=0)
    return Event(
        refusal.vector, error_code=refusal.error_code if refusal.vector in exits.WITH_ERROR_CODE else None
    )


#: Exceptions that are traps, or of which a guest can't tell; #DB counts as a trap here.
_NO_FAULTS: Final = frozenset({exits.DB, exits.NMI, exits.BP, exits.OF, exits.DF, exits.MC})
#: Exceptions of which two make a double fault (APM volume 2, table 8-5).
_CONTRIBUTORY: Final = frozenset({exits.DE, exits.TS, exits.NP, exits.SS, exits.GP})

DOUBLE_FAULT: Final = Event(exits.DF, error_code=0)


def combine(first: Event, second: Event) -> Event | None:
    """What is delivered when the delivery of `first` raised `second`; None: the processor shuts down."""
    if first.source in (Source.EXTERNAL, Source.SOFTWARE):
        return second
    if first.vector == exits.DF:
        return None
    both = first.vector in _CONTRIBUTORY and second.vector in _CONTRIBUTORY
    paging = first.vector == exits.PF and (second.vector == exits.PF or second.vector in _CONTRIBUTORY)
    return DOUBLE_FAULT if both or paging else second
