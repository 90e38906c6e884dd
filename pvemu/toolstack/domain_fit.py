"""The reasons why a kernel that is sound in itself cannot be started in a certain domain."""

from collections.abc import Callable
from typing import NamedTuple

from pvemu.abi.arch_x86 import HYPERVISOR_VIRT_START_PAE
from pvemu.abi.features import XENFEAT_dom0, XENFEAT_supervisor_mode_kernel
from pvemu.memory.ram import PAGE_SIZE
from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.kernel import Kernel

PAGES_PER_MIB = (1 << 20) // PAGE_SIZE


class _Rule(NamedTuple):
    broken: Callable[[Kernel, bool], bool]
    reason: str
    remedy: str


_KIND_RULES = (
    _Rule(
        lambda kernel, privileged: kernel.bits == 64 and kernel.phys32_entry is not None,
        "64-bit PV guests are not supported yet",
        "this kernel has a PVH entry, too: start it with --type pvh (xl.cfg: type)",
    ),
    _Rule(
        lambda kernel, privileged: kernel.bits == 64,
        "64-bit PV guests are not supported yet",
        "use a 32-bit PAE kernel",
    ),
    _Rule(
        lambda kernel, privileged: (
            privileged
            and kernel.declares_supported_features
            and not kernel.features_supported >> XENFEAT_dom0 & 1
        ),
        "Kernel does not support Dom0 operation",
        "start it as an unprivileged domain, or add the feature 'dom0' to its note SUPPORTED_FEATURES",
    ),
    _Rule(
        lambda kernel, privileged: not privileged and bool(kernel.features_required >> XENFEAT_dom0 & 1),
        "Kernel does not support unprivileged (DomU) operation",
        "start it as domain 0, or make '!dom0' in its note FEATURES optional",
    ),
    _Rule(
        lambda kernel, privileged: bool(kernel.features_required >> XENFEAT_supervisor_mode_kernel & 1),
        "Dom0 requires supervisor-mode execution",
        "PV kernels run in ring 1: make '!supervisor_mode_kernel' in the note FEATURES optional",
    ),
    _Rule(
        lambda kernel, privileged: kernel.virt_base % PAGE_SIZE != 0,
        "VIRT_BASE is not page aligned",
        "give the kernel a VIRT_BASE that is a multiple of 4096",
    ),
)


def check_kind(kernel: Kernel, privileged: bool) -> None:
    """Raises KernelRefused if the kernel may not run in a domain of this kind."""
    for rule in _KIND_RULES:
        if rule.broken(kernel, privileged):
            raise KernelRefused(rule.reason, rule.remedy)


def check_image(kernel: Kernel, memory_pages: int, privileged: bool) -> None:
    """Raises KernelRefused if the image alone needs more than the domain's memory (pages)."""
    image_pages = -(-(kernel.virt_kend - kernel.virt_base) // PAGE_SIZE)
    if image_pages > memory_pages:
        raise _too_small(image_pages, memory_pages, privileged)


def check_fit(needed_pages: int, memory_pages: int, virt_end: int, privileged: bool) -> None:
    """Raises KernelRefused if the boot mapping, which ends at `virt_end`, outgrows memory or meets Xen."""
    if needed_pages > memory_pages:
        raise _too_small(needed_pages, memory_pages, privileged)
    if virt_end > HYPERVISOR_VIRT_START_PAE:
        raise KernelRefused(
            "DOM0 image overlaps with Xen private area.",
            f"the boot mapping ends at {virt_end:#x}, link the kernel lower so that it ends"
            f" at or below {HYPERVISOR_VIRT_START_PAE:#x}",
        )


def check_hypercall_page(kernel: Kernel, mapped: range, page_tables: range) -> None:
    """Raises KernelRefused if filling the hypercall page would reach outside the domain or a page table."""
    page = kernel.hypercall_page
    if page is None:
        return
    last = page + PAGE_SIZE - 1
    if page not in mapped or last not in mapped or page in page_tables or last in page_tables:
        raise KernelRefused(
            "Invalid HYPERCALL_PAGE field in ELF notes.",
            f"it is {page:#x}; it must be the virtual address of a page inside the kernel's image",
        )


def dom0_allocation(pages: int) -> int:
    """Pages in the contiguous block that domain 0 is built in, when `pages` are mapped: a power of two."""
    return 1 << (pages - 1).bit_length()


def _too_small(needed_pages: int, memory_pages: int, privileged: bool) -> KernelRefused:
    if privileged:
        reason = "Domain 0 allocation is too small for kernel image"
    else:
        reason = f"not enough memory for initial mapping ({needed_pages:#x} > {memory_pages:#x})"
    mebibytes = -(-needed_pages // PAGES_PER_MIB)
    return KernelRefused(reason, f"give the domain more than {memory_pages} pages, at least {mebibytes} MiB")
