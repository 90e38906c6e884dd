"""Building a domain from a kernel: what its file says, or a person asks for, chooses the builder."""

from collections.abc import Callable, Mapping
from typing import Final

from pvemu.abi.errors import PvemuError
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.paging_pool import usual_size
from pvemu.toolstack.built_domain import BuiltDomain, DomainPlan, Rings
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind, KernelFile, Paging, kind_of, paging_of, read_kernel
from pvemu.toolstack.hvm_builder import build_hvm_domain
from pvemu.toolstack.pv_builder import build_pv_domain

__all__ = ["BuiltDomain", "Rings", "build_domain", "most_paging_memory", "paging_memory"]

_FRAMES_A_MIB: Final = 256

_BUILDERS: Final[Mapping[GuestKind, Callable[[Domctl, KernelFile, DomainPlan], BuiltDomain]]] = {
    GuestKind.PV: build_pv_domain,
    GuestKind.PVH: build_hvm_domain,
    GuestKind.HVM: build_hvm_domain,
}


def build_domain(
    domctl: Domctl,
    domid: int,
    image: bytes,
    *,
    pages: int,
    privileged: bool,
    vcpus: int = 1,
    command_line: str = "",
    module: bytes | None = None,
    kind: GuestKind | None = None,
    paging: Paging | None = None,
) -> BuiltDomain:
    """Make a domain that boots a kernel.

    Args:
        image: the kernel's file, an ELF image or a compressed one.
        pages: memory in frames of 4 KiB.
        module: a boot module (an initrd).
        kind, paging: None: what fits the kernel, and what is usual for that.

    Raises:
        KernelRefused: with real Xen's reason, where Xen has one.
        PvemuError: the machine has not enough memory, the command line is too long, or what is asked for
            makes no sense together.
    """
    file = read_kernel(image)
    chosen = kind_of(file, kind)
    if privileged and chosen is not GuestKind.PV:
        raise PvemuError(f"domain 0 can't be a {chosen.value} guest here: give a PV kernel, or no --dom0")
    plan = DomainPlan(
        domid,
        chosen,
        paging_of(chosen, paging),
        pages,
        privileged,
        vcpus,
        command_line.encode(),
        module,
    )
    return _BUILDERS[chosen](domctl, file, plan)


def most_paging_memory(config: GuestConfig) -> int:
    """MiB of the paging pool that a guest gets, if it is of a kind that gets one."""
    return -(-usual_size(config.vcpus, config.memory * _FRAMES_A_MIB) // _FRAMES_A_MIB)


def paging_memory(config: GuestConfig) -> int:
    """MiB of the paging pool that a guest gets.

    Raises:
        KernelRefused: its kernel is damaged, or can't be what is asked for.
        PvemuError: its paging can't.
    """
    kind = kind_of(read_kernel(config.image), config.kind)
    return 0 if paging_of(kind, config.paging) is Paging.DIRECT else most_paging_memory(config)
