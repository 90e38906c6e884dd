"""A machine on which domains boot from DSL source, any number of them, with any number of vCPUs."""

from types import TracebackType
from typing import Self

from guestkit import assemble
from pvemu.hypervisor.core import End, Hypervisor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl
from pvemu.toolstack.domain_builder import build_domain
from pvemu.toolstack.guest_kind import Paging

MILLISECOND = 1_000_000


class Booted:
    """The machine; what domain 0 writes to its console is in `console`, the hypervisor's log in `log`."""

    def __init__(self, memory: int = 128) -> None:
        self.hypervisor = Hypervisor(memory)
        self.console = bytearray()
        self.hypervisor.console_output = self.console.extend
        self.domctl = Domctl(self.hypervisor)
        self.symbols: dict[int, dict[str, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.hypervisor.cpu.close()

    def boot(
        self,
        domid: int,
        guest: str | bytes,
        *,
        vcpus: int = 1,
        memory: int = 8,
        paging: Paging | None = None,
    ) -> Domain:
        """Build a domain; number 0 is privileged."""
        if isinstance(guest, str):
            image = assemble(guest)
            self.symbols[domid] = dict(image.symbols)
            guest = image.elf
        if domid and 0 not in self.hypervisor.domains:
            self.domctl.adopt(0)
        built = build_domain(
            *(self.domctl, domid, guest),
            pages=memory * 256,
            privileged=domid == 0,
            vcpus=vcpus,
            paging=paging,
        )
        if domid == 0:
            self.domctl = Domctl(self.hypervisor, 0)
        return built.domain

    def run(self, milliseconds: float) -> End:
        """Run for so long, or until all domains have stopped."""
        return self.hypervisor.run(self.hypervisor.tsc() + int(milliseconds * MILLISECOND))

    def word(self, domain: Domain, symbol: str) -> int:
        """A dword of a guest's memory; the domain must be the one that ran last, or it is made so."""
        self.hypervisor.switch_to(domain.vcpus[0])
        return domain.memory.read_u32(self.symbols[domain.domid][symbol])
