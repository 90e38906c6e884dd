"""Events as bits: one for each port in shared_info, and a selector of their words in vcpu_info.

Public header event_channel.h, "2-level ABI"; answers: golden behav32, lines evt-*.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pvemu.abi.event_channel import EVTCHN_2L_NR_CHANNELS
from pvemu.abi.xen import shared_info, vcpu_info
from pvemu.hypervisor.upcall import mark_events_pending, wake_pollers

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain


class TwoLevel:
    """The bits of one domain. `set_pending` is a closure: every event goes through it."""

    def __init__(self, domain: "Domain") -> None:
        word = domain.shared_info_word
        self._domain = domain
        ram = domain.hypervisor.ram
        self._words = ram.u32 if word == 4 else ram.u64
        #: A port, shifted so, is the number of its word; an address, shifted so, is an index of words.
        self._port_shift, self._address_shift = (5, 2) if word == 4 else (6, 3)
        self._selector = vcpu_info.offset("evtchn_pending_sel", word)
        #: Indexes of the first words.
        self._pending = domain.shared_info + shared_info.offset("evtchn_pending", word) >> self._address_shift
        self._mask = domain.shared_info + shared_info.offset("evtchn_mask", word) >> self._address_shift
        self.limit = EVTCHN_2L_NR_CHANNELS.of(word)
        self.set_pending = self._make_set_pending()

    def _make_set_pending(self) -> Callable[[int], None]:
        domain, words, pending, mask = self._domain, self._words, self._pending, self._mask
        port_shift, address_shift, at_selector = self._port_shift, self._address_shift, self._selector
        inside = (1 << port_shift) - 1
        channels, vcpus, polling = domain.channels, domain.vcpus, domain.polling
        u8, wake, is_hvm = domain.hypervisor.ram.u8, domain.hypervisor.wake, domain.is_hvm

        def set_pending(port: int) -> None:
            index, bit = port >> port_shift, 1 << (port & inside)
            word = words[pending + index]
            if word & bit:
                return
            words[pending + index] = word | bit
            if not words[mask + index] & bit:
                vcpu = vcpus[channels[port].vcpu]
                info = vcpu.info
                place = info + at_selector >> address_shift
                selected, selector = words[place], 1 << index
                if not selected & selector:
                    words[place] = selected | selector
                    if is_hvm:
                        mark_events_pending(vcpu)
                    elif not u8[info]:
                        u8[info] = 1
                        if vcpu.blocked:
                            wake(vcpu)
            if polling:
                wake_pollers(domain, port)

        return set_pending

    def _place(self, first: int, port: int) -> tuple[int, int]:
        """Where a port's bit is: the index of its word, and the bit."""
        return first + (port >> self._port_shift), 1 << (port & (1 << self._port_shift) - 1)

    def unmask(self, port: int) -> None:
        """Clear a port's mask; its vCPU is told only if the bit was set and the port is pending."""
        words = self._words
        masked, bit = self._place(self._mask, port)
        if not words[masked] & bit:
            return
        words[masked] &= ~bit
        if words[self._place(self._pending, port)[0]] & bit:
            vcpu = self._domain.vcpus[self._domain.channels[port].vcpu]
            place = vcpu.info + self._selector >> self._address_shift
            selector = 1 << (port >> self._port_shift)
            if not words[place] & selector:
                words[place] |= selector
                mark_events_pending(vcpu)

    def clear_pending(self, port: int) -> None:
        """Clear a port's bit; its word stays selected."""
        at, bit = self._place(self._pending, port)
        self._words[at] &= ~bit

    def is_pending(self, port: int) -> bool:
        """Whether a port's bit is set."""
        at, bit = self._place(self._pending, port)
        return bool(self._words[at] & bit)

    def is_busy(self, _port: int) -> bool:
        """Never: a bit that was cleared is gone."""
        return False

    def bind(self, _port: int) -> None:
        """Nothing to prepare: the mask bit stays as the guest left it."""

    def destroy(self) -> None:
        """Nothing to give back."""
