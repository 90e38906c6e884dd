"""How an HVM guest is told of events: a vector, or an interrupt line, of its choice (header hvm/params.h).

A pending event is a flag in the vCPU's vcpu_info, as for every guest; evtchn_upcall_mask does not count here,
only the processor's own interrupt flag does. A vector of the whole domain is entered as long as the flag is
set; a vCPU's own vector is requested once, at its local APIC, when the flag becomes set; a line follows the
flag of the first vCPU.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.hvm_op import (
    HVM_PARAM_CALLBACK_IRQ_TYPE_MASK,
    HVM_PARAM_CALLBACK_TYPE_GSI,
    HVM_PARAM_CALLBACK_TYPE_PCI_INTX,
    HVM_PARAM_CALLBACK_TYPE_VECTOR,
)

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.hvm.platform import Platform
    from pvemu.hypervisor.vcpu import Vcpu

_TYPE_SHIFT: Final = (HVM_PARAM_CALLBACK_IRQ_TYPE_MASK & -HVM_PARAM_CALLBACK_IRQ_TYPE_MASK).bit_length() - 1
_TYPE_BITS: Final = 0xFF
#: The first of the 32 lines that PCI devices share.
_FIRST_PCI_GSI: Final = 16


def pci_gsi(device: int, intx: int) -> int:
    """The line of the I/O APIC that a PCI device's interrupt pin leads to, as Xen wires them."""
    return ((device << 2) + (device >> 3) + intx & 31) + _FIRST_PCI_GSI


class Upcalls:
    """How one domain is told.

    Attributes:
        vector: the domain's vector; None: it has chosen another way, or none.
        line_is_high: the line it has chosen is asserted.

    Args:
        has_lines: there are interrupt controllers with lines, as a PVH guest has none.
    """

    def __init__(self, domain: "Domain", platform: "Platform", *, has_lines: bool) -> None:
        self._domain = domain
        self._platform = platform
        self._has_lines = has_lines
        self._u8 = domain.hypervisor.ram.u8
        self._drive: Callable[[bool], None] | None = None
        self.vector: int | None = None
        self.line_is_high = False

    def set_callback_via(self, via: int) -> None:
        """Choose anew, by a value of HVM_PARAM_CALLBACK_IRQ; one that makes no sense chooses nothing.

        Without lines there is only a vector to choose, and it stays until another one is (Xen:
        hvm_set_callback_via).
        """
        kind, low = via >> _TYPE_SHIFT & _TYPE_BITS, via & 0xFF
        if kind != HVM_PARAM_CALLBACK_TYPE_VECTOR and not self._has_lines:
            return
        self._move_line(False)
        self.vector, self._drive = None, None
        if kind == HVM_PARAM_CALLBACK_TYPE_VECTOR:
            self.vector = low
        elif kind == HVM_PARAM_CALLBACK_TYPE_GSI and low:
            self._drive = self._platform.gsi(low)
        elif kind == HVM_PARAM_CALLBACK_TYPE_PCI_INTX:
            self._drive = self._platform.gsi(pci_gsi(via >> 11 & 31, via & 3))
        for vcpu in self._domain.vcpus:
            if vcpu.online:
                self.tell(vcpu)

    def tell(self, vcpu: "Vcpu") -> None:
        """A vCPU's flag may have become set (Xen: hvm_assert_evtchn_irq)."""
        own = vcpu.hvm.callback_vector
        if own:
            if vcpu.hvm.vlapic.is_enabled:
                vcpu.hvm.vlapic.set_irq(own)
        elif self.vector is not None:
            hypervisor = vcpu.domain.hypervisor
            vcpu.hvm.attention = True
            hypervisor.wake(vcpu)
            if hypervisor.loaded is vcpu:
                hypervisor.cpu.await_interrupt_window()
        elif vcpu.id == 0:
            self._move_line(bool(self._u8[vcpu.info]))

    def apic_enabled(self, vcpu: "Vcpu") -> None:
        """A vCPU's local APIC takes interrupts from now on: request its own vector if its flag is set.

        The request that was made with the flag is lost if the APIC was off then, or reset since by an INIT,
        and while the flag is set no event makes another (Xen: vlapic_reg_write, APIC_SPIV).
        """
        if vcpu.hvm.callback_vector and self._u8[vcpu.info]:
            self.tell(vcpu)

    def left_guest(self) -> None:
        """The guest has been left: it may have cleared the flag for which the line is high.

        That comes before whatever it was left for: the end of an interrupt must find the line low.
        """
        if self.line_is_high:
            self._move_line(bool(self._u8[self._domain.vcpus[0].info]))

    def due_vector(self, vcpu: "Vcpu") -> int | None:
        """The domain's vector, if a vCPU's flag is set."""
        return self.vector if self._u8[vcpu.info] else None

    def _move_line(self, high: bool) -> None:
        if self._drive is not None and high != self.line_is_high:
            self.line_is_high = high
            self._drive(high)
