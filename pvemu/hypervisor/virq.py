"""Virtual interrupts: which belong to each vCPU, and ringing those that a guest has bound."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.xen import VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

#: Virtual interrupts that each vCPU has for itself; the others are bound on vCPU 0 and may move.
_PER_VCPU: Final = frozenset({VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU})


def is_global(virq: int) -> bool:
    """Whether a domain has a virtual interrupt once, not once for each vCPU."""
    return virq not in _PER_VCPU


def send_virq(vcpu: "Vcpu", virq: int) -> None:
    """Ring a vCPU's own virtual interrupt, if the guest has bound it."""
    port = vcpu.domain.virq_ports.get((virq, vcpu.id))
    if port is not None:
        vcpu.domain.events.set_pending(port)


def send_domain_virq(domain: "Domain", virq: int) -> None:
    """Ring a global virtual interrupt of a domain, if it has bound it."""
    port = domain.virq_ports.get((virq, 0))
    if port is not None:
        domain.events.set_pending(port)


def send_global_virq(hypervisor: "Hypervisor", virq: int) -> None:
    """Ring a global virtual interrupt in the domain that handles it: domain 0, unless another was named."""
    domain = hypervisor.domains.get(hypervisor.virq_handlers.get(virq, 0))
    if domain is not None:
        send_domain_virq(domain, virq)
