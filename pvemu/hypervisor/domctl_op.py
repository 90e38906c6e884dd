"""The domctl hypercall: what a privileged domain asks about one domain, by the structure of its command.

Answers: golden pv32-*, family domctl; recorded: domctl. What needs hardware that the machine has not, and
guests with hardware virtualisation, is -ENOSYS.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pvemu.abi.domctl import (
    XEN_DOMCTL_INTERFACE_VERSION,
    XEN_DOMCTL_PFINFO_L1TAB,
    XEN_DOMCTL_PFINFO_L2TAB,
    XEN_DOMCTL_PFINFO_L3TAB,
    XEN_DOMCTL_PFINFO_LPINTAB,
    XEN_DOMCTL_PFINFO_NOTAB,
    XEN_DOMCTL_PFINFO_XTAB,
    XEN_INVALID_MAX_VCPU_ID,
    XEN_DOMCTL_CDF_hvm,
    XEN_DOMCTL_createdomain,
    XEN_DOMCTL_destroydomain,
    XEN_DOMCTL_get_address_size,
    XEN_DOMCTL_getdomaininfo,
    XEN_DOMCTL_getpageframeinfo3,
    XEN_DOMCTL_getvcpuaffinity,
    XEN_DOMCTL_getvcpucontext,
    XEN_DOMCTL_getvcpuinfo,
    XEN_DOMCTL_hypercall_init,
    XEN_DOMCTL_max_mem,
    XEN_DOMCTL_max_vcpus,
    XEN_DOMCTL_pausedomain,
    XEN_DOMCTL_resumedomain,
    XEN_DOMCTL_scheduler_op,
    XEN_DOMCTL_set_address_size,
    XEN_DOMCTL_set_virq_handler,
    XEN_DOMCTL_setdomainhandle,
    XEN_DOMCTL_setvcpuaffinity,
    XEN_DOMCTL_setvcpucontext,
    XEN_DOMCTL_shadow_op,
    XEN_DOMCTL_unpausedomain,
    XEN_DOMINF_blocked,
    XEN_DOMINF_dying,
    XEN_DOMINF_hvm_guest,
    XEN_DOMINF_paused,
    XEN_DOMINF_running,
    XEN_DOMINF_shutdown,
    XEN_DOMINF_shutdownmask,
    XEN_DOMINF_shutdownshift,
    xen_domctl,
    xen_domctl_address_size,
    xen_domctl_createdomain,
    xen_domctl_getdomaininfo,
    xen_domctl_getpageframeinfo3,
    xen_domctl_getvcpuinfo,
    xen_domctl_hypercall_init,
    xen_domctl_max_mem,
    xen_domctl_max_vcpus,
    xen_domctl_scheduler_op,
    xen_domctl_set_virq_handler,
    xen_domctl_setdomainhandle,
    xen_domctl_shadow_op,
    xen_domctl_vcpuaffinity,
    xen_domctl_vcpucontext,
)
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.structure import Structure
from pvemu.abi.vcpu import RUNSTATE_running
from pvemu.abi.xen import DOMID_FIRST_RESERVED, NR_VIRQS
from pvemu.hypervisor import domctl_shadow, domctl_vcpu
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.domain_lifecycle import create_domain, destroy, pause, unpause
from pvemu.hypervisor.guest_page import get_guest_page, put_guest_page
from pvemu.hypervisor.guest_structure import copy_back
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.pv.hypercall_page import hypercall_page
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.hypervisor.virq import is_global
from pvemu.memory.frames import PGT_L1, PGT_L2, PGT_L3
from pvemu.memory.heap import OutOfFrames
from pvemu.memory.ram import PAGE_SHIFT

_MOST_VCPUS: Final = 128
_MOST_PAUSES: Final = 255
_MOST_PAGES: Final = 0xFFFFFFFF
_KIB_SHIFT: Final = 10
_MOST_FRAMES_ASKED: Final = 1024
_ADDRESS_BITS: Final = 32
_NO_SHUTDOWN: Final = 0xFFFF
#: Address bits of what a guest calls physical.
_PHYSICAL_BITS: Final = 40
_HEADER: Final = 16
_DOMAIN_OFFSET: Final = xen_domctl.offset("domain", 4)
_TABLES: Final = {
    PGT_L1: XEN_DOMCTL_PFINFO_L1TAB,
    PGT_L2: XEN_DOMCTL_PFINFO_L2TAB,
    PGT_L3: XEN_DOMCTL_PFINFO_L3TAB,
}


def _check_other(vcpu: Vcpu, domain: Domain) -> None:
    """Some things no domain can do to itself; raises HypercallError(EINVAL)."""
    if domain is vcpu.domain:
        raise HypercallError(Errno.EINVAL)


# --- life -----------------------------------------------------------------------------------------


def _create(vcpu: Vcpu, op: Any, domid: int) -> int:
    """Make a paused PV domain; its number, which is chosen when a reserved one or 0 is asked for.

    Raises:
        HypercallError: EEXIST; EOPNOTSUPP, an HVM guest; EINVAL, options that only other kinds of domain
            have; ENOMEM.
    """
    hypervisor = vcpu.domain.hypervisor
    if not 0 < domid < DOMID_FIRST_RESERVED:
        taken = hypervisor.domains
        domid = next(number for number in range(1, DOMID_FIRST_RESERVED) if number not in taken)
    elif domid in hypervisor.domains:
        raise HypercallError(Errno.EEXIST)
    if op.flags & XEN_DOMCTL_CDF_hvm:
        raise HypercallError(Errno.EOPNOTSUPP)
    if (
        op.flags
        or op.iommu_opts
        or op.vmtrace_size
        or op.cpupool_id
        or op.arch.emulation_flags
        or op.arch.misc_flags & ~1
        or not 0 < op.max_vcpus <= _MOST_VCPUS
    ):
        raise HypercallError(Errno.EINVAL)
    try:
        domain = create_domain(hypervisor, domid, privileged=False, pages=0, vcpus=op.max_vcpus)
    except OutOfFrames:
        raise HypercallError(Errno.ENOMEM) from None
    domain.has_vcpus, domain.handle = False, bytes(op.handle)
    domain.max_event_port = min(op.max_evtchn_port, domain.max_event_port)
    pause(domain)
    return domid


def _destroy(vcpu: Vcpu, domain: Domain, _op: Any, argument: int) -> None:
    _check_other(vcpu, domain)
    if not destroy(domain):
        raise Continuation(argument)


def _pause(vcpu: Vcpu, domain: Domain, _op: Any, _argument: int) -> None:
    _check_other(vcpu, domain)
    if domain.pause_count >= _MOST_PAUSES:
        raise HypercallError(Errno.EOVERFLOW)
    pause(domain)


def _unpause(_vcpu: Vcpu, domain: Domain, _op: Any, _argument: int) -> None:
    if not unpause(domain):
        raise HypercallError(Errno.EINVAL)


def _resume(vcpu: Vcpu, domain: Domain, _op: Any, _argument: int) -> None:
    _check_other(vcpu, domain)
    domain.resume()


def _max_vcpus(vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """The number was settled when the domain was made; asking for another one is a mistake."""
    _check_other(vcpu, domain)
    if op.max != len(domain.vcpus):
        raise HypercallError(Errno.EINVAL)
    domain.has_vcpus = True


def _max_mem(_vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    domain.max_pages = min(op.max_memkb >> PAGE_SHIFT - _KIB_SHIFT, _MOST_PAGES)


def _set_handle(_vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    domain.handle = bytes(op.handle)


def _set_address_size(_vcpu: Vcpu, _domain: Domain, op: Any, _argument: int) -> None:
    """32-bit guests only, so far."""
    if op.size != _ADDRESS_BITS:
        raise HypercallError(Errno.EINVAL)


def _get_address_size(_vcpu: Vcpu, _domain: Domain, op: Any, _argument: int) -> None:
    op.size = _ADDRESS_BITS


def _set_virq_handler(_vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """Let a domain have a global virtual interrupt that is domain 0's otherwise."""
    if op.virq >= NR_VIRQS or not is_global(op.virq):
        raise HypercallError(Errno.EINVAL)
    domain.hypervisor.virq_handlers[op.virq] = domain.domid


# --- memory ---------------------------------------------------------------------------------------


def _hypercall_init(_vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """Fill a page of the domain with the code of hypercalls."""
    frame = get_guest_page(domain, op.gmfn)
    domain.hypervisor.ram.frame(frame)[:] = hypercall_page()
    put_guest_page(domain, frame)


def _frame_info(vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """Replace each machine frame number of a list by what the frame is to the domain."""
    if op.num > _MOST_FRAMES_ASKED:
        raise HypercallError(Errno.E2BIG)
    memory, frames = vcpu.domain.memory, domain.hypervisor.frames
    for index in range(op.num):
        at = op.array + index * 4
        mfn = memory.read_u32(at)
        kind = XEN_DOMCTL_PFINFO_XTAB
        if mfn < frames.number and frames.owner[mfn] == domain.domid and frames.count[mfn]:
            kind = _TABLES.get(frames.type[mfn], XEN_DOMCTL_PFINFO_NOTAB)
            if frames.pinned[mfn]:
                kind |= XEN_DOMCTL_PFINFO_LPINTAB
        memory.write_u32(at, kind)


# --- what there is to know ------------------------------------------------------------------------


def domain_info(domain: Domain) -> dict[str, Any]:
    """The fields of xen_domctl_getdomaininfo.

    A domain is blocked when all its vCPUs that are up are, and running when one of them is.
    """
    now = domain.hypervisor.system_time()
    online = [vcpu for vcpu in domain.vcpus if vcpu.online]
    flags = 0
    if online and all(vcpu.blocked for vcpu in online):
        flags |= XEN_DOMINF_blocked
    if any(vcpu.runstate.state == RUNSTATE_running for vcpu in online):
        flags |= XEN_DOMINF_running
    reason = domain.shutdown_reason if domain.has_shut_down else domain.announced_reason
    shown = _NO_SHUTDOWN if reason is None else reason & XEN_DOMINF_shutdownmask
    for flag, is_set in (
        (XEN_DOMINF_dying, domain.is_torn_down),
        (XEN_DOMINF_hvm_guest, domain.is_hvm),
        (XEN_DOMINF_shutdown, domain.has_shut_down),
        (XEN_DOMINF_paused, domain.pause_count),
    ):
        flags |= flag if is_set else 0
    return {
        "domain": domain.domid,
        "flags": flags | shown << XEN_DOMINF_shutdownshift,
        "tot_pages": domain.pages,
        "max_pages": domain.max_pages,
        "shared_info_frame": domain.shared_info_frame,
        "cpu_time": sum(vcpu.runstate.until(now)[RUNSTATE_running] for vcpu in domain.vcpus),
        "nr_online_vcpus": len(online),
        "max_vcpu_id": len(domain.vcpus) - 1 if domain.has_vcpus else XEN_INVALID_MAX_VCPU_ID,
        "handle": list(domain.handle),
        "gpaddr_bits": _PHYSICAL_BITS,
    }


def next_domain(vcpu: Vcpu, domid: int) -> Domain:
    """The domain of that number, or the next higher one; raises HypercallError: ESRCH; EINVAL, reserved."""
    if domid >= DOMID_FIRST_RESERVED:
        raise HypercallError(Errno.EINVAL)
    domains = vcpu.domain.hypervisor.domains
    found = min((number for number in domains if number >= domid), default=None)
    if found is None:
        raise HypercallError(Errno.ESRCH)
    return domains[found]


# --- the hypercall --------------------------------------------------------------------------------


class _Command(NamedTuple):
    """How to carry out a command: its structure, the function, whether the structure is written back."""

    structure: Structure | None
    carry_out: Callable[[Vcpu, Domain, Any, int], None]
    writes_back: bool = False


_COMMANDS: Final[dict[int, _Command]] = {
    XEN_DOMCTL_destroydomain: _Command(None, _destroy),
    XEN_DOMCTL_pausedomain: _Command(None, _pause),
    XEN_DOMCTL_unpausedomain: _Command(None, _unpause),
    XEN_DOMCTL_resumedomain: _Command(None, _resume),
    XEN_DOMCTL_max_vcpus: _Command(xen_domctl_max_vcpus, _max_vcpus),
    XEN_DOMCTL_max_mem: _Command(xen_domctl_max_mem, _max_mem),
    XEN_DOMCTL_setdomainhandle: _Command(xen_domctl_setdomainhandle, _set_handle),
    XEN_DOMCTL_set_address_size: _Command(xen_domctl_address_size, _set_address_size),
    XEN_DOMCTL_get_address_size: _Command(xen_domctl_address_size, _get_address_size, True),
    XEN_DOMCTL_set_virq_handler: _Command(xen_domctl_set_virq_handler, _set_virq_handler),
    XEN_DOMCTL_hypercall_init: _Command(xen_domctl_hypercall_init, _hypercall_init),
    XEN_DOMCTL_getpageframeinfo3: _Command(xen_domctl_getpageframeinfo3, _frame_info),
    XEN_DOMCTL_setvcpucontext: _Command(xen_domctl_vcpucontext, domctl_vcpu.set_context),
    XEN_DOMCTL_getvcpucontext: _Command(xen_domctl_vcpucontext, domctl_vcpu.get_context),
    XEN_DOMCTL_getvcpuinfo: _Command(xen_domctl_getvcpuinfo, domctl_vcpu.get_info, True),
    XEN_DOMCTL_setvcpuaffinity: _Command(xen_domctl_vcpuaffinity, domctl_vcpu.set_affinity),
    XEN_DOMCTL_getvcpuaffinity: _Command(xen_domctl_vcpuaffinity, domctl_vcpu.get_affinity),
    XEN_DOMCTL_scheduler_op: _Command(xen_domctl_scheduler_op, domctl_vcpu.scheduler_op, True),
    XEN_DOMCTL_shadow_op: _Command(xen_domctl_shadow_op, domctl_shadow.shadow_op, True),
}


@hypercall("domctl")
def domctl(vcpu: Vcpu, argument: int) -> int:
    """Carry out one XEN_DOMCTL_* command.

    What is looked at first: the structure (-EFAULT), its version (-EACCES), the domain (-ESRCH), the
    caller's privilege (-EPERM), and only then whether there is such a command (-ENOSYS).
    """
    caller = vcpu.domain
    raw = caller.memory.copy_from_guest(argument, xen_domctl.size(caller.word))
    command, version, domid = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, _DOMAIN_OFFSET))
    domid &= 0xFFFF
    if version != XEN_DOMCTL_INTERFACE_VERSION:
        raise HypercallError(Errno.EACCES)
    target = caller.hypervisor.domains.get(domid)
    if target is None and command not in (XEN_DOMCTL_createdomain, XEN_DOMCTL_getdomaininfo):
        raise HypercallError(Errno.ESRCH)
    if not caller.privileged:
        raise HypercallError(Errno.EPERM)
    if command == XEN_DOMCTL_createdomain:
        op = xen_domctl_createdomain.unpack(caller.word, raw[_HEADER:])
        _write_domid(vcpu, argument, _create(vcpu, op, domid))
        return 0
    if command == XEN_DOMCTL_getdomaininfo:
        info = domain_info(next_domain(vcpu, domid))
        packed = xen_domctl_getdomaininfo.pack(caller.word, **info)
        _write_domid(vcpu, argument, info["domain"])
        caller.memory.copy_to_guest(argument + _HEADER, packed)
        return 0
    if command not in _COMMANDS:
        raise HypercallError(Errno.ENOSYS)
    assert target is not None
    structure, carry_out, writes_back = _COMMANDS[command]
    op = structure.unpack(caller.word, raw[_HEADER:]) if structure else None
    carry_out(vcpu, target, op, argument)
    if writes_back and structure:
        copy_back(caller, structure, argument + _HEADER, op)
    return 0


def _write_domid(vcpu: Vcpu, argument: int, domid: int) -> None:
    vcpu.domain.memory.copy_to_guest(argument + _DOMAIN_OFFSET, domid.to_bytes(2, "little"))
