"""A puppet's end of its xenstore ring: it says messages, and hears answers and watch events."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.event_channel import EVTCHNOP_send
from pvemu.abi.xen import start_info
from pvemu.abi.xs_wire import (
    XENSTORE_PAYLOAD_MAX,
    XENSTORE_RING_SIZE,
    XS_ERROR,
    XS_RESET_WATCHES,
    XS_TRANSACTION_START,
    XS_UNWATCH,
    XS_WATCH,
    XS_WATCH_EVENT,
    xenstore_domain_interface,
    xsd_errors,
    xsd_sockmsg,
)
from pvemu.memory.guest import GuestMemory
from pvemu.memory.ram import PAGE_SHIFT
from pvemu.testing.messages import Message

if TYPE_CHECKING:
    from pvemu.testing.puppet import Puppet

#: What comes of a message that is not answered, here and in store_steps.gk.
NO_ANSWER: Final = -int(Errno.ETIMEDOUT)
_HEADER: Final = xsd_sockmsg.size(4)
_REQ, _RSP = (xenstore_domain_interface.offset(name, 4) for name in ("req", "rsp"))
_REQ_CONS, _REQ_PROD, _RSP_CONS, _RSP_PROD = (
    xenstore_domain_interface.offset(name, 4) for name in ("req_cons", "req_prod", "rsp_cons", "rsp_prod")
)
_ERROR: Final = xenstore_domain_interface.offset("error", 4)
_ERRORS: Final = {error.name.encode(): -int(error) for error in xsd_errors}
_INDEX: Final = 0xFFFFFFFF


class StoreEnd:
    """The ring as a guest has it in its memory.

    Attributes:
        latest: the transaction that was begun last.
        watches: path and token of each watch that it knows to have.
        heard: path and token of watch events since they were last looked at.
    """

    def __init__(self, puppet: "Puppet") -> None:
        self._puppet = puppet
        self._page, self._bell = _find(puppet)
        self.latest = 0
        self.watches: set[tuple[bytes, bytes]] = set()
        self.heard: list[tuple[bytes, bytes]] = []

    @property
    def is_open(self) -> bool:
        """Whether xenstored still serves the ring; raises GuestFault."""
        return bool(self._page) and not self._word(_ERROR)

    def say(self, message: Message) -> int:
        """Send it; bytes of the answer, a negative errno, or NO_ANSWER. Raises GuestFault."""
        result = NO_ANSWER
        for count in range(message.times):
            raw = message.pack(self._puppet, self.latest, count)
            result = self._exchange(raw) if self._page else NO_ANSWER
            self._note(message, raw[_HEADER:], result)
        return result

    def hear_events(self) -> None:
        """Take watch events that have come, while nothing is asked; raises GuestFault."""
        while self._page and self._pending() >= _HEADER:
            if self._take_message() is None:
                return

    # --- one message ------------------------------------------------------------------------------

    def _exchange(self, raw: bytes) -> int:
        # As store_steps.gk: the header first, then what is behind it, and nothing more is said if that fails.
        if not self._put(raw[:_HEADER]) or not self._put(raw[_HEADER:]):
            return NO_ANSWER
        self._ring()
        while True:
            answer = self._take_message()
            if answer is None:
                return NO_ANSWER
            kind, payload = answer
            if kind == XS_WATCH_EVENT:
                continue
            if kind == XS_ERROR:
                return _ERRORS.get(payload.rstrip(b"\0"), -int(Errno.EIO))
            if int.from_bytes(raw[:4], "little") == XS_TRANSACTION_START:
                self.latest = int(payload.rstrip(b"\0") or b"0")
            return len(payload)

    def _note(self, message: Message, payload: bytes, result: int) -> None:
        parts = payload.split(b"\0")
        if result < 0 or message.length is not None:
            return
        if message.type == XS_WATCH and len(parts) > 2:
            self.watches.add((parts[0], parts[1]))
        elif message.type == XS_UNWATCH and len(parts) > 2:
            self.watches.discard((parts[0], parts[1]))
        elif message.type == XS_RESET_WATCHES:
            self.watches.clear()

    def _take_message(self) -> tuple[int, bytes] | None:
        header = self._take(_HEADER)
        if header is None:
            return None
        found = xsd_sockmsg.unpack(4, header)
        if found.len > XENSTORE_PAYLOAD_MAX:
            return None
        payload = self._take(found.len)
        if payload is None:
            return None
        self._ring()
        if found.type == XS_WATCH_EVENT:
            path, token, *_ = (*payload.split(b"\0"), b"", b"")
            self.heard.append((path, token))
        return found.type, payload

    # --- bytes ------------------------------------------------------------------------------------

    def _put(self, data: bytes) -> bool:
        while data:
            produced = self._word(_REQ_PROD)
            used = produced - self._word(_REQ_CONS) & _INDEX
            if used >= XENSTORE_RING_SIZE:
                self._ring()
                if self._word(_REQ_PROD) - self._word(_REQ_CONS) & _INDEX >= XENSTORE_RING_SIZE:
                    return False
                continue
            at = produced % XENSTORE_RING_SIZE
            part = data[: min(XENSTORE_RING_SIZE - used, XENSTORE_RING_SIZE - at)]
            self._memory.copy_to_guest(self._page + _REQ + at, part)
            self._memory.write_u32(self._page + _REQ_PROD, produced + len(part) & _INDEX)
            data = data[len(part) :]
        return True

    def _take(self, size: int) -> bytes | None:
        found = b""
        while len(found) < size:
            if not self._pending():
                self._ring()
                if not self._pending():
                    return None
            consumed = self._word(_RSP_CONS)
            at = consumed % XENSTORE_RING_SIZE
            length = min(size - len(found), self._pending(), XENSTORE_RING_SIZE - at)
            found += self._memory.copy_from_guest(self._page + _RSP + at, length)
            self._memory.write_u32(self._page + _RSP_CONS, consumed + length & _INDEX)
        return found

    def _pending(self) -> int:
        return min(self._word(_RSP_PROD) - self._word(_RSP_CONS) & _INDEX, XENSTORE_RING_SIZE)

    def _ring(self) -> None:
        """Tell xenstored, and let it work."""
        puppet = self._puppet
        puppet.call("event_channel_op", EVTCHNOP_send, self._bell)
        hypervisor = puppet.domain.hypervisor
        hypervisor.run(hypervisor.tsc())
        hypervisor.switch_to(puppet.domain.vcpus[0])

    @property
    def _memory(self) -> GuestMemory:
        return self._puppet.domain.memory

    def _word(self, offset: int) -> int:
        return self._memory.read_u32(self._page + offset)


def _find(puppet: "Puppet") -> tuple[int, int]:
    """Addresses of the ring's page, 0 where there is none, and of a dword with the port of its bell."""
    information = puppet.read("start_info_address")
    memory, m2p = puppet.domain.memory, puppet.domain.hypervisor.m2p
    mfn = memory.read_u32(information + start_info.offset("store_mfn", 4))
    bell = information + start_info.offset("store_evtchn", 4)
    page = (m2p.get(mfn) << PAGE_SHIFT) + puppet.address_of("VIRT_BASE") if mfn else 0
    return page, bell
