"""The life of a domain: made, paused, let go on, and destroyed with everything it had given back.

A destroyed domain stays in the machine's list as long as others hold frames of it (state letter `d` in xl);
when the last comes back it is gone, and its number can be used again. Answers to a toolstack: domctl_op.py.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pvemu.abi.arch_x86 import XEN_LEGACY_MAX_VCPUS
from pvemu.abi.xen import VIRQ_DOM_EXC
from pvemu.hypervisor.address_space import build_monitor, map_gdt
from pvemu.hypervisor.continuation import REQUEST_COST
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.event_channel import close_all
from pvemu.hypervisor.grant_map import release_mappings
from pvemu.hypervisor.guest_page import put_guest_page
from pvemu.hypervisor.hvm.hvm_domain import HvmPlan, make_hvm
from pvemu.hypervisor.paging_pool import usual_size
from pvemu.hypervisor.pv.descriptor_tables import install_gdt
from pvemu.hypervisor.pv.ldt import drop_ldt
from pvemu.hypervisor.runstate import settle_runstate
from pvemu.hypervisor.time import DEFAULT_PERIOD, write_wallclock
from pvemu.hypervisor.translated.paging import make_translated
from pvemu.hypervisor.upcall import stop_polling
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.vcpu_info import release_vcpu_info
from pvemu.hypervisor.virq import send_global_virq
from pvemu.memory.heap import OutOfFrames

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.memory.frames import Frames


def create_domain(
    hypervisor: "Hypervisor",
    domid: int,
    *,
    privileged: bool,
    pages: int,
    vcpus: int = 1,
    hvm: HvmPlan | None = None,
    translated: bool = False,
) -> Domain:
    """Make a domain with as many vCPUs, that may have up to `pages` frames; none of it runs yet.

    Args:
        hvm: makes it an HVM domain.
        translated: makes it an auto-translated PV domain.

    Raises:
        OutOfFrames: the hypervisor has no memory left for its own part of it.
    """
    for dead in [domain for domain in hypervisor.domains.values() if domain.is_torn_down]:
        bury(dead)
    domain = Domain(hypervisor, domid, privileged=privileged, max_pages=pages, vcpus=vcpus)
    try:
        if hvm is not None or translated:
            domain.paging_pool.resize(usual_size(vcpus, pages))
        if hvm is not None:
            make_hvm(domain, hvm)
        else:
            for vcpu in domain.vcpus:
                build_monitor(hypervisor, vcpu)
                map_gdt(hypervisor, vcpu)
                vcpu.periodic_period = DEFAULT_PERIOD
            domain.exits, domain.hypercalls = hypervisor.pv_tables
            if translated:
                make_translated(domain)
    except OutOfFrames:
        _free_own_frames(domain)
        raise
    for vcpu_id in range(XEN_LEGACY_MAX_VCPUS):
        hypervisor.ram.u8[domain.vcpu_info_address(vcpu_id) + 1] = 1
    write_wallclock(domain, hypervisor.wallclock)
    hypervisor.add_domain(domain)
    return domain


def pause(domain: Domain) -> None:
    """Stop all vCPUs of a domain, until it has been unpaused as often."""
    domain.pause_count += 1
    for vcpu in domain.vcpus:
        settle_runstate(vcpu)
    domain.hypervisor.reschedule()


def unpause(domain: Domain) -> bool:
    """Take one pause back; False when there was none."""
    if not domain.pause_count:
        return False
    domain.pause_count -= 1
    for vcpu in domain.vcpus:
        domain.hypervisor.make_runnable(vcpu)
    return True


# --- the end --------------------------------------------------------------------------------------


def destroy(domain: Domain) -> bool:
    """End a domain and take back all it had; False when it was stopped, to be called again.

    A call from outside a guest's turn is never stopped: then time is not short.
    """
    hypervisor = domain.hypervisor
    if not domain.is_dying:
        domain.is_dying = True
        pause(domain)
        hypervisor.unload(domain)
        if domain.pv_shadow is not None:
            domain.pv_shadow.release()
            domain.pv_shadow = None
        domain.next_reset_port = 1
    if not _tear_down(domain):
        return False
    if not domain.is_torn_down:
        domain.is_torn_down = True
        send_global_virq(hypervisor, VIRQ_DOM_EXC)
        bury(domain)
    return True


def bury(domain: Domain) -> None:
    """Take a domain that has been torn down off the list, if nobody holds a frame of it."""
    hypervisor = domain.hypervisor
    if domain.is_torn_down and not domain.pages and not _shared_frames_are_held(domain):
        _free_own_frames(domain)
        del hypervisor.domains[domain.domid]
        send_global_virq(hypervisor, VIRQ_DOM_EXC)


def _shared_frames_are_held(domain: Domain) -> bool:
    table, count = domain.grant_table, domain.hypervisor.frames.count
    return any(count[mfn] > 1 for mfn in (domain.shared_info_frame, *table.frames, *table.status_frames))


def _tear_down(domain: Domain) -> bool:
    hypervisor = domain.hypervisor
    if not close_all(domain):
        return False
    domain.events.destroy()
    domain.watchdogs.stop()
    hypervisor.scheduler.forget(domain)
    release_mappings(domain)
    for vcpu in domain.vcpus:
        _release_vcpu(vcpu)
    if domain.is_translated:
        domain.p2m.drop()
    while domain.foreign_mapped:
        put_guest_page(domain, domain.foreign_mapped.pop())
    if domain.pirq_eoi_frame is not None:
        put_guest_page(domain, domain.pirq_eoi_frame)
        domain.pirq_eoi_frame = None
    for virq in [virq for virq, handler in hypervisor.virq_handlers.items() if handler == domain.domid]:
        del hypervisor.virq_handlers[virq]
    return _relinquish_memory(domain)


def reset_vcpu(vcpu: Vcpu) -> None:
    """Make a vCPU of another domain what it was before it had registers: down, and without page tables."""
    vcpu.domain.hypervisor.unload(vcpu.domain)
    if vcpu.polls_for is not None:
        stop_polling(vcpu)
    if not vcpu.domain.is_hvm:
        drop_ldt(vcpu)
        install_gdt(vcpu, [], 0)
    if vcpu.domain.is_translated and not vcpu.domain.is_hvm:
        vcpu.domain.translation.drop_vcpu(vcpu)
    if vcpu.cr3:
        root, vcpu.cr3 = vcpu.cr3, 0
        vcpu.domain.hypervisor.ram.u64[vcpu.monitor << 9] = 0
        vcpu.domain.hypervisor.page_types.put_page_and_type(root)
    vcpu.online = vcpu.is_initialised = vcpu.blocked = vcpu.nmi_pending = vcpu.nmi_masked = False
    vcpu.saved = vcpu.entry_context = None
    settle_runstate(vcpu)


def _release_vcpu(vcpu: Vcpu) -> None:
    """Let go of everything that a vCPU holds; of one that holds nothing, nothing."""
    for timer in (vcpu.singleshot_timer, vcpu.periodic_timer, vcpu.poll_timer):
        timer.cancel()
    reset_vcpu(vcpu)
    release_vcpu_info(vcpu)


def _relinquish_memory(domain: Domain) -> bool:
    """Unpin its tables and give up its own reference on each of its frames; False when time was up."""
    hypervisor = domain.hypervisor
    frames, types = hypervisor.frames, hypervisor.page_types
    if types.demoting and not types.finish():
        return False
    for mfn in _frames_from(frames, domain):
        if frames.pinned[mfn]:
            frames.pinned[mfn] = 0
            types.put_page_and_type(mfn)
        if frames.allocated[mfn]:
            frames.allocated[mfn] = 0
            types.put_page(mfn)
        domain.relinquished = mfn + 1
        hypervisor.charge(REQUEST_COST)
        if hypervisor.preempt_due() or (types.demoting and not types.finish()):
            return False
    return not types.demoting or types.finish()


def _frames_from(frames: "Frames", domain: Domain) -> Iterator[int]:
    """The frames of a domain, from where taking them back was stopped; its own ones may change meanwhile."""
    mfn = domain.relinquished
    with suppress(ValueError):  # there are no more
        while True:
            mfn = frames.owner.index(domain.domid, mfn)
            yield mfn
            mfn += 1


def _free_own_frames(domain: Domain) -> None:
    """Give back the hypervisor's own frames that were for this domain."""
    hypervisor = domain.hypervisor
    hypervisor.flush_tlb()
    if domain.is_hvm:
        domain.hvm.release()
    elif domain.is_translated:
        domain.translation.release()
    domain.paging_pool.release()
    domain.grant_table.drop_frames()
    for vcpu in domain.vcpus:
        for mfn in vcpu.own_frames:
            hypervisor.free_xen_page(mfn)
        vcpu.own_frames = []
    if domain.shared_info_frame:
        hypervisor.free_xen_page(domain.shared_info_frame)
        domain.shared_info_frame = 0
