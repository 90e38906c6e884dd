"""The search for leaks: when all domains of a stage have been destroyed, nothing of them is left."""

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from pvemu.abi.xen import DOMID_XEN
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.event_ports import State
from pvemu.memory.frames import NO_OWNER

if TYPE_CHECKING:
    from pvemu.testing.stage import Stage

#: What is called "somebody's" in a count, by owner: the rest are domains.
_OWNERS: Final = {NO_OWNER: "free", DOMID_XEN: "the hypervisor's"}


class LeakError(AssertionError):
    """Something is left of domains that were destroyed."""


@dataclass(frozen=True)
class _Remains:
    """What is left of a machine. Each is compared with what is left when nothing was done before."""

    domains: tuple[int, ...]
    free_frames: int
    frames_of_the_hypervisors_own: int
    owners_of_frames: dict[str, int]
    references: int
    type_references: int
    pinned_frames: int
    half_validated_frames: int
    ports_of_domain_0: dict[str, int]
    grant_mappings_of_domain_0: int
    virq_handlers: dict[int, int]
    unfinished_invalidations: int


class LeakCheck:
    """Destroys all domains of a stage and looks what is left; the stage has to be reset afterwards.

    The stage is reset when this is made, too.
    """

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage
        stage.reset()
        self._end_all()
        self._wanted = self._remains()
        stage.reset()

    def check(self) -> None:
        """Destroy all domains. Raises LeakError: something is left of one."""
        self._end_all()
        found = self._remains()
        wrong = [
            f"{field.name.replace('_', ' ')}: {getattr(found, field.name)}, "
            f"without these steps {getattr(self._wanted, field.name)}"
            for field in fields(_Remains)
            if getattr(found, field.name) != getattr(self._wanted, field.name)
        ]
        if wrong:
            raise LeakError(f"after all domains were destroyed, {'; '.join(wrong)}")

    def _end_all(self) -> None:
        """Destroy what the toolstack made, then what domains made themselves."""
        machine, hypervisor = self._stage.machine, self._stage.hypervisor
        domctl = Domctl(hypervisor)
        for guest in machine.guests:
            if hypervisor.domains.get(guest.domain.domid) is not guest.domain:
                continue
            if machine.services is not None:
                machine.services.remove(guest.domain.domid, guest.config)
            domctl.destroy(guest.domain)
        for domain in list(hypervisor.domains.values()):
            if not _is_service(domain) and hypervisor.domains.get(domain.domid) is domain:
                domctl.destroy(domain)
        self._stage.settle()

    def _remains(self) -> _Remains:
        hypervisor = self._stage.hypervisor
        frames, domain0 = hypervisor.frames, hypervisor.domains.get(0)
        owners = Counter(_OWNERS.get(owner, "a domain's") for owner in frames.owner)
        ports = Counter[str]()
        if domain0 is not None:
            ports.update(
                channel.state.name for channel in domain0.channels if channel.state is not State.FREE
            )
        return _Remains(
            domains=tuple(sorted(hypervisor.domains)),
            free_frames=hypervisor.heap.free_frames,
            frames_of_the_hypervisors_own=hypervisor.free_xen_frames,
            owners_of_frames=dict(sorted(owners.items())),
            references=sum(frames.count),
            type_references=sum(frames.type_count),
            pinned_frames=sum(frames.pinned),
            half_validated_frames=sum(1 for each in frames.partial if each),
            ports_of_domain_0=dict(sorted(ports.items())),
            grant_mappings_of_domain_0=(
                0 if domain0 is None else len(list(domain0.grant_table.maptrack.in_use()))
            ),
            virq_handlers=dict(sorted(hypervisor.virq_handlers.items())),
            unfinished_invalidations=len(hypervisor.page_types.demoting),
        )


def _is_service(domain: Domain) -> bool:
    """Domain 0, where Python is it."""
    return not domain.vcpus
