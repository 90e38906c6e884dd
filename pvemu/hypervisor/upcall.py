"""Telling a vCPU that an event is pending, and the vCPUs that poll for ports instead of being told."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

#: A vCPU that polls for several ports, or for none.
ANY_PORT: Final = -1


def mark_events_pending(vcpu: "Vcpu") -> None:
    """Set the flag in the vCPU's vcpu_info; a vCPU that waits need not wait any longer.

    One of an HVM guest waits for an interrupt, as which the flag may or may not reach it.
    """
    domain = vcpu.domain
    u8 = domain.hypervisor.ram.u8
    if not u8[vcpu.info]:
        u8[vcpu.info] = 1
        if domain.is_hvm:
            domain.hvm.upcalls.tell(vcpu)
        else:
            domain.hypervisor.wake(vcpu)


def start_polling(vcpu: "Vcpu", port: int) -> None:
    """Block a vCPU until a port is rung (any, with ANY_PORT), an upcall is due, or its timer expires."""
    vcpu.polls_for = port
    vcpu.domain.polling.append(vcpu)
    vcpu.blocked = True
    vcpu.domain.hypervisor.reschedule()


def stop_polling(vcpu: "Vcpu") -> None:
    """The vCPU goes on."""
    vcpu.polls_for = None
    vcpu.domain.polling.remove(vcpu)
    vcpu.poll_timer.cancel()


def wake_pollers(domain: "Domain", port: int) -> None:
    """A port was rung: wake who polls for it."""
    for vcpu in tuple(domain.polling):
        if vcpu.polls_for in (port, ANY_PORT):
            domain.hypervisor.wake(vcpu)
