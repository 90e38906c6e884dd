"""Building a PV domain: frames, contents, page tables, start_info, and the first registers.

The state in which a guest begins is described in public header xen.h ("start-of-day memory layout").
"""

from collections.abc import Iterator
from typing import Final

from pvemu.abi.features import XENFEAT_auto_translated_physmap
from pvemu.abi.memory import XENMAPSPACE_grant_table, XENMAPSPACE_shared_info
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
from pvemu.hypervisor.grant_table import MAX_FRAMES
from pvemu.hypervisor.pv.hypercall_page import hypercall_page
from pvemu.memory.ram import PAGE_SIZE
from pvemu.toolstack.built_domain import BuiltDomain, DomainPlan, NewMemory, Rings, make_rings
from pvemu.toolstack.errors import CommandLineTooLong, KernelRefused
from pvemu.toolstack.guest_kind import KernelFile, Paging
from pvemu.toolstack.kernel import Kernel, load_pv_kernel
from pvemu.toolstack.layout import DomainLayout, plan_domain
from pvemu.toolstack.xen_notes import PaeMode

_MAGIC: Final = b"xen-3.0-x86_32p"
_WORD: Final = 4

#: Frames that a domU may have beyond its memory, as xl gives it (1 MiB); domain 0 may have any number.
SLACK_PAGES: Final = 256
NO_LIMIT: Final = 0xFFFFFFFF


def build_pv_domain(domctl: Domctl, file: KernelFile, plan: DomainPlan) -> BuiltDomain:
    """Make a domain that boots a PV kernel.

    Raises:
        KernelRefused: with real Xen's reason.
        PvemuError: the machine has not enough memory, or the command line is too long.
    """
    if len(plan.command_line) >= MAX_GUEST_CMDLINE:
        raise CommandLineTooLong(len(plan.command_line), MAX_GUEST_CMDLINE - 1)
    privileged, pages, translated = plan.privileged, plan.pages, plan.paging is Paging.SHADOW
    kernel = load_pv_kernel(file)
    _check_paging(kernel, privileged, translated)
    layout = plan_domain(
        kernel, memory_pages=pages, privileged=privileged, module=plan.module, translated=translated
    )
    limit = NO_LIMIT if privileged else pages + SLACK_PAGES
    domain = domctl.create_domain(
        plan.domid, privileged=privileged, pages=limit, vcpus=plan.vcpus, translated=translated
    )
    if privileged and layout.kernel.pae_mode in (PaeMode.EXTENDED_CR3, PaeMode.BIMODAL):
        domain.vm_assist |= 1 << VMASST_TYPE_pae_extended_cr3
    frames = domctl.populate_physmap(domain, pages)
    #: The frames as the guest numbers them.
    own_frames = list(range(pages)) if translated else frames
    memory = NewMemory(domctl, domain, dict(enumerate(frames)))
    for address, data in layout.contents():
        memory.write(address, data)
    if layout.kernel.hypercall_page is not None:
        memory.write(layout.pseudo_physical(layout.kernel.hypercall_page), hypercall_page())
    p2m = b"".join(number.to_bytes(_WORD, "little") for number in own_frames)
    memory.write(layout.p2m.pfn * PAGE_SIZE, p2m)
    for table, slot, target, flags in layout.page_table_entries():
        entry = own_frames[target] * PAGE_SIZE | flags
        memory.page(table)[slot * 8 : slot * 8 + 8] = entry.to_bytes(8, "little")
    rings = None
    if layout.xenstore is not None and layout.console is not None:
        store, console = (
            (frames[area.pfn], own_frames[area.pfn]) for area in (layout.xenstore, layout.console)
        )
        rings = make_rings(domctl, domain, store=store, console=console)
    shared_info = domain.shared_info
    if layout.shared_info is not None:
        _map_shared_frames(domctl, domain, layout.shared_info.pfn, pages)
        shared_info = layout.shared_info.pfn * PAGE_SIZE
    info = dict(_start_info(layout, rings, shared_info, plan.command_line))
    memory.write(layout.start_info.pfn * PAGE_SIZE, start_info.pack(_WORD, **info))
    root = own_frames[layout.page_tables.pfn]
    if not translated:
        domctl.pin_root(domain, root)
    domctl.start(
        domain.vcpus[0],
        StartState(layout.kernel.entry, layout.stack_pointer, layout.start_info.virtual, root),
    )
    return BuiltDomain(domain, plan.kind, layout, rings)


def _check_paging(kernel: Kernel, privileged: bool, translated: bool) -> None:
    """Raises KernelRefused if a kernel can't be an auto-translated guest, or can't be any other."""
    feature = 1 << XENFEAT_auto_translated_physmap
    if not translated:
        # Xen starts such a kernel as domain 0, its tools (libxenguest: bootearly) do not as another one.
        if kernel.features_required & feature and not privileged:
            raise KernelRefused(
                "PV Autotranslate guests no longer supported",
                "the kernel requires the feature auto_translated_physmap: give --paging shadow",
            )
        return
    if privileged:
        raise KernelRefused(
            "domain 0 can't be auto-translated",
            "domain 0 has to name machine frames: leave --paging shadow out, or --dom0",
        )
    if not kernel.features_supported & feature:
        raise KernelRefused(
            "the kernel does not say that it can do with shadow paging (feature auto_translated_physmap)",
            "leave --paging shadow out; or, if it needs no machine frames, say so in its note FEATURES",
        )


def _map_shared_frames(domctl: Domctl, domain: Domain, shared_info: int, pages: int) -> None:
    """Let the guest find at frames of its own what it shares with the hypervisor.

    As Xen's tools did while there were such guests: shared_info in the place of a page of memory, all frames
    that the grant table can have behind the last one.
    """
    domctl.add_to_physmap(domain, XENMAPSPACE_shared_info, 0, shared_info)
    for index in range(MAX_FRAMES):
        domctl.add_to_physmap(domain, XENMAPSPACE_grant_table, index, pages + index)


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
        yield "store_mfn", rings.store.reference
        yield "store_evtchn", rings.store.port
        yield "console", {"domU": {"mfn": rings.console.reference, "evtchn": rings.console.port}}
    yield "pt_base", layout.page_tables.virtual
    yield "nr_pt_frames", layout.page_tables.pages
    yield "mfn_list", layout.p2m.virtual
    yield "mod_start", layout.mod_start
    yield "mod_len", layout.mod_len
    yield "cmd_line", line
    yield "first_p2m_pfn", layout.first_p2m_pfn
