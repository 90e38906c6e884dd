"""Events as bits: one for each port in shared_info, and a selector of their words in vcpu_info.

Public header event_channel.h, "2-level ABI"; answers: golden behav32, lines evt-*.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.event_channel import EVTCHN_2L_NR_CHANNELS
from pvemu.abi.xen import shared_info
from pvemu.hypervisor.upcall import mark_events_pending, wake_pollers

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_PENDING: Final = shared_info.offset("evtchn_pending", 4)
_MASK: Final = shared_info.offset("evtchn_mask", 4)
_SELECTOR: Final = 4  #: offset of vcpu_info.evtchn_pending_sel


class TwoLevel:
    """The bits of one domain. `set_pending` is a closure: every event goes through it."""

    def __init__(self, domain: "Domain") -> None:
        self._domain = domain
        self._u32 = domain.hypervisor.ram.u32
        #: Indexes of the first words.
        self._pending = domain.shared_info + _PENDING >> 2
        self._mask = domain.shared_info + _MASK >> 2
        self.limit = EVTCHN_2L_NR_CHANNELS.of(domain.word)
        self.set_pending = self._make_set_pending()

    def _make_set_pending(self) -> Callable[[int], None]:
        domain, u32, pending, mask = self._domain, self._u32, self._pending, self._mask
        channels, vcpus, polling = domain.channels, domain.vcpus, domain.polling
        u8, wake = domain.hypervisor.ram.u8, domain.hypervisor.wake

        def set_pending(port: int) -> None:
            index, bit = port >> 5, 1 << (port & 31)
            word = u32[pending + index]
            if word & bit:
                return
            u32[pending + index] = word | bit
            if not u32[mask + index] & bit:
                vcpu = vcpus[channels[port].vcpu]
                info = vcpu.info
                words, selector = u32[info + _SELECTOR >> 2], 1 << index
                if not words & selector:
                    u32[info + _SELECTOR >> 2] = words | selector
                    if not u8[info]:
                        u8[info] = 1
                        if vcpu.blocked:
                            wake(vcpu)
            if polling:
                wake_pollers(domain, port)

        return set_pending

    def unmask(self, port: int) -> None:
        """Clear a port's mask; its vCPU is told only if the bit was set and the port is pending."""
        u32, index, bit = self._u32, port >> 5, 1 << (port & 31)
        word = u32[self._mask + index]
        if not word & bit:
            return
        u32[self._mask + index] = word & ~bit
        if u32[self._pending + index] & bit:
            vcpu = self._domain.vcpus[self._domain.channels[port].vcpu]
            selector = vcpu.info + _SELECTOR >> 2
            if not u32[selector] & 1 << index:
                u32[selector] |= 1 << index
                mark_events_pending(vcpu)

    def clear_pending(self, port: int) -> None:
        """Clear a port's bit; its word stays selected."""
        self._u32[self._pending + (port >> 5)] &= ~(1 << (port & 31)) & 0xFFFFFFFF

    def is_pending(self, port: int) -> bool:
        """Whether a port's bit is set."""
        return bool(self._u32[self._pending + (port >> 5)] >> (port & 31) & 1)

    def is_busy(self, _port: int) -> bool:
        """Never: a bit that was cleared is gone."""
        return False

    def bind(self, _port: int) -> None:
        """Nothing to prepare: the mask bit stays as the guest left it."""

    def destroy(self) -> None:
        """Nothing to give back."""
