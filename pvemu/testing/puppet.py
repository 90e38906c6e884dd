"""A domain whose hypercalls a test makes: it has booted, and none of its code runs any more."""

import struct
from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.cpu.clock import EXIT_COST
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.hypercall import PackedWords, signed
from pvemu.hypervisor.scheduler import TIME_SLICE
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE
from pvemu.testing.program import Outcome, Record, Step
from pvemu.testing.store_end import StoreEnd

#: More continuations than any hypercall needs.
MOST_CONTINUATIONS: Final = 20_000
_BEYOND: Final = (0xFFFFF, 0xFEC00, (1 << 28) - 1, (1 << 40) - 1)
_U32: Final = struct.Struct("<I")


class NeverDone(AssertionError):
    """A hypercall that was continued again and again does not come to an end."""


def make_hypercall(
    domain: Domain,
    name: str,
    *words: int,
    slice_cycles: int = TIME_SLICE,
    patience: int = MOST_CONTINUATIONS,
) -> int | None:
    """Make a hypercall as a domain's first vCPU would, again and again while Xen says that it goes on.

    Args:
        words: what is in the argument registers.
        slice_cycles: how long it may take at a time; with few, it stops wherever it can.
        patience: how often the guest goes on with it; None is returned when it then gives up.

    Returns:
        The result as a signed number.

    Raises:
        NeverDone: it goes on for ever.
    """
    hypervisor, vcpu, number = domain.hypervisor, domain.vcpus[0], BY_NAME[name].number
    hypervisor.switch_to(vcpu)
    for _ in range(patience):
        hypervisor.clock.deadline = hypervisor.clock.now + slice_cycles
        hypervisor.charge(EXIT_COST)
        try:
            return signed(hypervisor.call(vcpu, number, PackedWords([*words, *[0] * 5][:5])) & 0xFFFFFFFF)
        except Continuation as stopped:
            words = (*stopped.words, *words[len(stopped.words) :])
    if patience == MOST_CONTINUATIONS:
        raise NeverDone(f"{name}{words} goes on for ever")
    return None


class Puppet:
    """A domain on a stage. Its memory is that of steps.gk.

    Attributes:
        number: its place in its company, which is all puppets of a stage, counted from 0.
        domain: the domain; its domid is `domid`.
        store: its end of the xenstore ring.
        has_lost_its_memory: its tables no longer show it the pages from which it asks.
        may_forge_events: it has told Xen to do something with the frame where Xen tells it of events.
    """

    def __init__(self, company: list["Puppet"], number: int, domain: Domain, symbols: dict[str, int]) -> None:
        self._company = company
        self.number, self.domain = number, domain
        self.has_lost_its_memory = self.may_forge_events = False
        self._symbols = symbols
        hypervisor = domain.hypervisor
        own = (mfn for mfn, owner in enumerate(hypervisor.frames.owner) if owner == domain.domid)
        self._frames = {hypervisor.m2p.get(mfn): mfn for mfn in own}
        tables = {
            f"{level} table": self._frame_at(self.read(f"{level}_table")) for level in ("l1", "l2", "l3")
        }
        self._known = tables | {
            "request": self._frame_at(symbols["request"]),
            "list": self._frame_at(symbols["list"]),
            "shared info": self.read("shared_info_frame"),
            "grant table": self.read("grant_frame"),
            "xenstore ring": self.read("store_frame_number"),
        }
        vcpu = domain.vcpus[0]
        self.store = StoreEnd(self)
        self._hypervisors = (hypervisor.gdt_frame, hypervisor.zero_frame, vcpu.monitor, vcpu.descriptor_l1)

    def __repr__(self) -> str:
        return repr(self.domain)

    @property
    def domid(self) -> int:
        """The domain's number in the hypervisor."""
        return self.domain.domid

    @property
    def is_alive(self) -> bool:
        """Whether it can make hypercalls."""
        present = self.domain.hypervisor.domains.get(self.domid) is self.domain
        return present and not self.domain.has_stopped and not self.has_lost_its_memory

    @property
    def upcalls_begun(self) -> int:
        """How often its own code was called up, if it has code that counts (fuzzing/agent.py)."""
        return self._count("upcalls_begun")

    @property
    def is_taking_events(self) -> bool:
        """Whether its own code is in the middle of that: then what it was told is half forgotten."""
        return self.upcalls_begun != self._count("upcalls_ended")

    def _count(self, symbol: str) -> int:
        try:
            return self.read(symbol) if symbol in self._symbols else 0
        except GuestFault:
            self.has_lost_its_memory = True
            return 0

    def notice(self, step: Step) -> None:
        """It is about to take a step."""
        self.may_forge_events |= step.names_frame("shared info")

    # --- its surroundings ------------------------------------------------------------------------

    def address_of(self, symbol: str) -> int:
        """The virtual address of a label."""
        return self._symbols[symbol]

    @property
    def peer(self) -> "Puppet":
        """The next one, after the last the first."""
        return self._company[(self.number + 1) % len(self._company)]

    @property
    def peer_domid(self) -> int:
        """The domid of the next one."""
        return self.peer.domid

    def frame_of(self, kind: str, number: int = 0) -> int:
        """The machine frame that a kind of `values.FRAME_KINDS` and a number mean; raises LookupError."""
        if kind in self._known:
            return self._known[kind]
        hypervisor, other = self.domain.hypervisor, self.peer
        match kind:
            case "page":
                return self._frame_at(self._symbols["pages"] + number * PAGE_SIZE)
            case "their page":
                return other.frame_of("page", number)
            case "their table":
                return other.frame_of(("l1 table", "l2 table", "l3 table")[number % 3])
            case "free":
                return hypervisor.heap.end - 1 - number
            case "hypervisor":
                return self._hypervisors[number % len(self._hypervisors)]
            case "m2p":
                return hypervisor.m2p.first + number
            case "low":
                return number
            case "beyond":
                return _BEYOND[number % len(_BEYOND)]
        raise LookupError(f"there are no frames of the kind {kind!r}")

    def _frame_at(self, address: int) -> int:
        """The frame that the domain was given for one of its addresses."""
        return self._frames[address - self._symbols["VIRT_BASE"] >> PAGE_SHIFT]

    # --- memory ----------------------------------------------------------------------------------

    def read(self, symbol: str, size: int = 4, offset: int = 0) -> int:
        """A number in its memory; raises GuestFault."""
        self.domain.hypervisor.switch_to(self.domain.vcpus[0])
        return self.domain.memory.read_word(self._symbols[symbol] + offset, size)

    def put(self, area: str, data: bytes, offset: int = 0) -> int:
        """Write at a label; the address. Raises GuestFault."""
        self.domain.hypervisor.switch_to(self.domain.vcpus[0])
        self.domain.memory.copy_to_guest(self._symbols[area] + offset, data)
        return self._symbols[area] + offset

    def write(self, record: Record) -> None:
        """Write a record; raises GuestFault."""
        if not record.keeps:
            self.put(record.area, bytes(record.pack(self)), record.offset)
            return
        for path, value in record.fields:
            at, size = record.place(path)
            before = self.read(record.area, size, record.offset + at)
            self.put(record.area, (before | value.of(self)).to_bytes(size, "little"), record.offset + at)

    # --- doing something -------------------------------------------------------------------------

    def call(self, name: str, *words: int) -> int:
        """Make a hypercall with these words in the argument registers; its signed result."""
        result = make_hypercall(self.domain, name, *words)
        assert result is not None
        return result

    def take(self, step: Step) -> Outcome:
        """Take a step. A domain that is no more, or can't reach its memory any more, takes none."""
        if not self.is_alive:
            return Outcome(step, None)
        self.notice(step)
        try:
            if step.message is not None:
                return Outcome(step, self.store.say(step.message))
            for record in step.records:
                self.write(record)
            if step.call is None:
                return Outcome(step, None)
            result = self.call(step.call, *step.words(self))
            telling = step.telling()
            told = 0 if telling is None or not self.is_alive else self.read(telling[0], 4, telling[1])
            return Outcome(step, result, told)
        except GuestFault:
            self.has_lost_its_memory = True
            return Outcome(step, None)
