"""How messages find local APICs: destinations, shorthands, and the delivery modes of IPIs and I/O APIC pins.

Source: Intel SDM volume 3, chapter 11 ("Advanced Programmable Interrupt Controller").
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

#: A physical destination that means everybody.
BROADCAST: Final = 0xFF


class DeliveryMode(IntEnum):
    """What a message does where it arrives; bits 8 to 10 of every register that sends one."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    REMOTE_READ = 3
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTERNAL = 7


class Shorthand(IntEnum):
    """Whom an IPI is for when it is not for a destination; bits 18 and 19 of the command."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


class Message(NamedTuple):
    """What travels on the bus.

    Attributes:
        mode: what it does; vector: which interrupt, or for STARTUP which page.
        is_level: it was sent by a level-triggered pin, which wants to hear of the end of interrupt.
        destination, is_logical: whom it is for, by APIC id, or by what the logical destination register says.
        asserts: for INIT, that it is more than the end of one.
    """

    mode: DeliveryMode
    vector: int
    destination: int
    is_logical: bool
    is_level: bool = False
    asserts: bool = True


class Receiver(Protocol):
    """A local APIC as the bus sees it."""

    @property
    def is_enabled(self) -> bool:
        """Whether it takes interrupts: switched on by the MSR and by software."""
        ...

    @property
    def priority(self) -> int:
        """Its processor priority register."""
        ...

    def matches(self, destination: int, *, is_logical: bool) -> bool:
        """Whether a message to this destination is for it."""
        ...

    def take(self, message: Message) -> None:
        """Receive a message."""
        ...


class Processor(Protocol):
    """The vCPU that a local APIC belongs to."""

    def kick(self) -> None:
        """An interrupt may be pending."""

    def nmi(self) -> None:
        """A non-maskable interrupt has come."""

    def init(self) -> None:
        """Reset, and wait for a start-up message."""

    def start_up(self, page: int) -> None:
        """If it waits for one: begin in real mode, at the beginning of a page below 1 MiB."""


class ApicBus:
    """The local APICs of a domain.

    Attributes:
        end_of_interrupt: told the vector when a level-triggered interrupt ends at some local APIC.
    """

    def __init__(self) -> None:
        self._receivers: list[Receiver] = []
        self._last_chosen = -1
        self.end_of_interrupt: Callable[[int], None] = lambda vector: None

    def attach(self, receiver: Receiver) -> None:
        """Add a local APIC."""
        self._receivers.append(receiver)

    def send(
        self, message: Message, shorthand: Shorthand = Shorthand.NONE, sender: Receiver | None = None
    ) -> None:
        """Deliver a message to all that it is for; one of lowest priority to one of them."""
        receivers = self._for_whom(message, shorthand, sender)
        if message.mode == DeliveryMode.LOWEST_PRIORITY:
            receivers = self._least_busy(receivers)
        for receiver in receivers:
            receiver.take(message)

    def _for_whom(self, message: Message, shorthand: Shorthand, sender: Receiver | None) -> list[Receiver]:
        if shorthand == Shorthand.NONE:
            return [
                receiver
                for receiver in self._receivers
                if receiver.matches(message.destination, is_logical=message.is_logical)
            ]
        if shorthand == Shorthand.SELF:
            return [] if sender is None else [sender]
        return [each for each in self._receivers if shorthand == Shorthand.ALL or each is not sender]

    def _least_busy(self, receivers: list[Receiver]) -> list[Receiver]:
        """The enabled one of the lowest priority; among equals the next after the one chosen last time."""
        count = len(self._receivers)
        turns = [(self._last_chosen + 1 + turn) % count for turn in range(count)]
        able = [turn for turn in turns if self._receivers[turn].is_enabled]
        able = [turn for turn in able if any(self._receivers[turn] is each for each in receivers)]
        if not able:
            return []
        self._last_chosen = min(able, key=lambda turn: self._receivers[turn].priority & 0xF0)
        return [self._receivers[self._last_chosen]]
