"""Building a domain from a plan: frames, contents, page tables, start_info, and the first registers.

The state in which a guest begins is described in public header xen.h ("start-of-day memory layout").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from pvemu.abi.features import XENFEAT_pae_pgdir_above_4gb
from pvemu.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE
from pvemu.abi.xen import (
    MAX_GUEST_CMDLINE,
    SIF_INITDOMAIN,
    SIF_MOD_START_PFN,
    SIF_PRIVILEGED,
    VMASST_TYPE_pae_extended_cr3,
    start_info,
)
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domctl import Domctl, StartState
from pvemu.hypervisor.pv.hypercall_page import hypercall_page
from pvemu.toolstack.errors import CommandLineTooLong
from pvemu.toolstack.kernel import load_kernel
from pvemu.toolstack.layout import DomainLayout, plan_domain

PAGE_SIZE: Final = 4096
_MAGIC: Final = b"xen-3.0-x86_32p"
_WORD: Final = 4

#: Frames that a domU may have beyond its memory, as xl gives it (1 MiB); domain 0 may have any number.
SLACK_PAGES: Final = 256
NO_LIMIT: Final = 0xFFFFFFFF


class Rings(NamedTuple):
    """The pages that a domU shares with domain 0: machine frames, and the ports that it offers."""

    store_frame: int
    store_port: int
    console_frame: int
    console_port: int


@dataclass(frozen=True)
class BuiltDomain:
    """A domain that is ready to run, and what its back ends need to know."""

    domain: Domain
    layout: DomainLayout
    rings: Rings | None


class _Memory:
    """A new domain's memory by pseudo-physical address."""

    def __init__(self, domctl: Domctl, domain: Domain, frames: list[int]) -> None:
        self._domctl, self._domid, self.frames = domctl, domain.domid, frames

    def page(self, pfn: int) -> memoryview:
        return self._domctl.map_foreign(self._domid, self.frames[pfn])

    def write(self, address: int, data: bytes | memoryview) -> None:
        done = 0
        while done < len(data):
            pfn, offset = divmod(address + done, PAGE_SIZE)
            piece = data[done : done + PAGE_SIZE - offset]
            self.page(pfn)[offset : offset + len(piece)] = piece
            done += len(piece)


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
) -> BuiltDomain:
    """Make a domain that boots a kernel.

    Args:
        image: the kernel's file, an ELF image or a gzip-compressed one.
        pages: memory in frames of 4 KiB.
        module: a boot module (an initrd).

    Raises:
        KernelRefused: with real Xen's reason.
        PvemuError: the machine has not enough memory, or the command line is too long.
    """
    line = command_line.encode()
    if len(line) >= MAX_GUEST_CMDLINE:
        raise CommandLineTooLong(len(line), MAX_GUEST_CMDLINE - 1)
    layout = plan_domain(load_kernel(image), memory_pages=pages, privileged=privileged, module=module)
    limit = NO_LIMIT if privileged else pages + SLACK_PAGES
    domain = domctl.create_domain(domid, privileged=privileged, pages=limit, vcpus=vcpus)
    if privileged and layout.kernel.features_supported & 1 << XENFEAT_pae_pgdir_above_4gb:
        domain.vm_assist |= 1 << VMASST_TYPE_pae_extended_cr3
    memory = _Memory(domctl, domain, domctl.populate_physmap(domain, pages))
    for address, data in layout.contents():
        memory.write(address, data)
    if layout.kernel.hypercall_page is not None:
        memory.write(layout.pseudo_physical(layout.kernel.hypercall_page), hypercall_page())
    p2m = b"".join(mfn.to_bytes(_WORD, "little") for mfn in memory.frames)
    memory.write(layout.p2m.pfn * PAGE_SIZE, p2m)
    for table, slot, target, flags in layout.page_table_entries():
        entry = memory.frames[target] * PAGE_SIZE | flags
        memory.page(table)[slot * 8 : slot * 8 + 8] = entry.to_bytes(8, "little")
    rings = None if privileged else _make_rings(domctl, domain, layout, memory.frames)
    info = dict(_start_info(layout, rings, domain.shared_info, line))
    memory.write(layout.start_info.pfn * PAGE_SIZE, start_info.pack(_WORD, **info))
    root = memory.frames[layout.page_tables.pfn]
    domctl.pin_root(domain, root)
    domctl.start(
        domain.vcpus[0],
        StartState(layout.kernel.entry, layout.stack_pointer, layout.start_info.virtual, root),
    )
    return BuiltDomain(domain, layout, rings)


def _make_rings(domctl: Domctl, domain: Domain, layout: DomainLayout, frames: list[int]) -> Rings | None:
    """Offer domain 0 the ports of xenstore and console, and grant it their pages."""
    if layout.xenstore is None or layout.console is None:
        return None
    store, console = frames[layout.xenstore.pfn], frames[layout.console.pfn]
    domctl.seed_grant(domain, GNTTAB_RESERVED_CONSOLE, console)
    domctl.seed_grant(domain, GNTTAB_RESERVED_XENSTORE, store)
    store_port = domctl.alloc_unbound(domain.domid)
    return Rings(store, store_port, console, domctl.alloc_unbound(domain.domid))


def _start_info(
    layout: DomainLayout, rings: Rings | None, shared_info: int, line: bytes
) -> Iterator[tuple[str, object]]:
    flags = SIF_PRIVILEGED | SIF_INITDOMAIN if layout.privileged else 0
    if layout.module is not None and layout.module.virtual is None:
        flags |= SIF_MOD_START_PFN
    yield "magic", _MAGIC
    yield "nr_pages", layout.memory_pages
    yield "shared_info", shared_info
    yield "flags", flags
    if rings is not None:
        yield "store_mfn", rings.store_frame
        yield "store_evtchn", rings.store_port
        yield "console", {"domU": {"mfn": rings.console_frame, "evtchn": rings.console_port}}
    yield "pt_base", layout.page_tables.virtual
    yield "nr_pt_frames", layout.page_tables.pages
    yield "mfn_list", layout.p2m.virtual
    yield "mod_start", layout.mod_start
    yield "mod_len", layout.mod_len
    yield "cmd_line", line
    yield "first_p2m_pfn", layout.first_p2m_pfn
