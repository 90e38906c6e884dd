"""The command shadow_op of domctl: shadow tables of a domain, and the log of pages that it writes.

Answers: recorded, family log_dirty. A guest with nested paging has no shadows: -EOPNOTSUPP.
"""

from collections.abc import Callable
from typing import Any, Final

from pvemu.abi.domctl import (
    XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL,
    XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY,
    XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT,
    XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE,
    XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL,
    XEN_DOMCTL_SHADOW_OP_CLEAN,
    XEN_DOMCTL_SHADOW_OP_ENABLE,
    XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY,
    XEN_DOMCTL_SHADOW_OP_ENABLE_TEST,
    XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION,
    XEN_DOMCTL_SHADOW_OP_OFF,
    XEN_DOMCTL_SHADOW_OP_PEEK,
    XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION,
    xen_domctl_shadow_op,
)
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.hypervisor.continuation import REQUEST_COST, Continuation
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.guest_structure import copy_back
from pvemu.hypervisor.hvm.shadow_paging import ShadowPaging
from pvemu.hypervisor.paging_pool import FRAMES_A_MIB, LEAST_FRAMES_A_VCPU
from pvemu.hypervisor.shadow.dirty_log import bitmap_of
from pvemu.hypervisor.shadow.log_dirty import FRAMES_A_LEAF, DirtyLogging, ShadowLogging
from pvemu.hypervisor.shadow.pv_shadow import PvShadow
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.heap import OutOfFrames

_HEADER: Final = 16
#: Xen moves the mode's bits up by ten, and those that leave the 32 bits are lost.
_KNOWN_MODE_BITS: Final = (1 << 22) - 1
_ALL_OR_NONE: Final = (
    XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT | XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE | XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL
)
#: Frames for shadows for good, when nobody has said how many; for the log the least is enough.
_FRAMES_FOR_SHADOWS: Final = 4 * FRAMES_A_MIB
#: The least that shadows need besides what they need for each vCPU: one frame for each MiB of the guest's.
_GUEST_FRAMES_A_FRAME: Final = 256
_LEAST_FRAMES_HVM: Final = 6
#: More pages than any guest can have; a bitmap is not made for more.
_MOST_PAGES: Final = 1 << 24


def shadow_op(vcpu: Vcpu, domain: Domain, op: Any, argument: int) -> None:
    """Turn shadows or the log on or off, look at the log, or say how much memory shadows may take.

    Raises:
        HypercallError: EINVAL, itself, a domain without vCPUs, an unknown operation, or one that does not
            fit; EOPNOTSUPP, nested paging; ENOMEM; EFAULT.
        Continuation: time was up.
    """
    if domain is vcpu.domain:
        raise HypercallError(Errno.EINVAL)
    if domain.is_dying:
        return
    if not domain.has_vcpus or op.op not in _OPERATIONS:
        raise HypercallError(Errno.EINVAL)
    try:
        _OPERATIONS[op.op](vcpu, domain, op, argument)
    except HypercallError:
        # What was found out goes back even so.
        copy_back(vcpu.domain, xen_domctl_shadow_op, argument + _HEADER, op)
        raise


def log_of(domain: Domain) -> DirtyLogging | None:
    """What logs the writes of a domain; None for a PV guest that is not on shadows.

    Raises:
        HypercallError: EOPNOTSUPP.
    """
    if not domain.is_translated:
        return domain.pv_shadow
    if not domain.is_hvm:
        return ShadowLogging(domain.translation.shadow)
    paging = domain.hvm.paging
    if not isinstance(paging, ShadowPaging):
        raise HypercallError(Errno.EOPNOTSUPP)
    return ShadowLogging(paging.shadow)


# --- on and off -----------------------------------------------------------------------------------


def _make_shadows(domain: Domain, frames: int) -> DirtyLogging:
    """The shadows of a domain, which are made if it has none yet.

    Args:
        frames: for them, where a toolstack has not set aside enough before.

    Raises:
        HypercallError: ENOMEM.
    """
    log = log_of(domain)
    if log is not None:
        return log
    pool, least = domain.paging_pool, _least_frames(domain)
    if len(pool) < least:
        try:
            pool.resize(max(frames, least))
        except OutOfFrames:
            pool.release()
            raise HypercallError(Errno.ENOMEM) from None
    domain.pv_shadow = PvShadow(domain)
    return domain.pv_shadow


def _enable_test(_vcpu: Vcpu, domain: Domain, _op: Any, _argument: int) -> None:
    if log_of(domain) is not None:
        raise HypercallError(Errno.EINVAL)
    _make_shadows(domain, 0)


def _enable_log(_vcpu: Vcpu, domain: Domain, _op: Any, _argument: int) -> None:
    log = _make_shadows(domain, 0)
    if log.is_on:
        raise HypercallError(Errno.EINVAL)
    log.start()


def _enable(vcpu: Vcpu, domain: Domain, op: Any, argument: int) -> None:
    """Shadows for good; but with the flag for it only the log, whatever else is asked for."""
    if op.mode & XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY:
        _enable_log(vcpu, domain, op, argument)
        return
    mode = op.mode & _KNOWN_MODE_BITS
    if mode & ~_ALL_OR_NONE or mode or log_of(domain) is not None:
        raise HypercallError(Errno.EINVAL)
    _make_shadows(domain, _FRAMES_FOR_SHADOWS)


def _off(_vcpu: Vcpu, domain: Domain, _op: Any, _argument: int) -> None:
    log = log_of(domain)
    if log is not None and log.is_on:
        log.stop()
    if domain.pv_shadow is not None:
        domain.pv_shadow.release()
        domain.pv_shadow = None
        domain.paging_pool.release()


# --- the log --------------------------------------------------------------------------------------


def _look(vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    """PEEK and CLEAN: the bitmap, and how much there is in it."""
    if op.mode & ~XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL:
        raise HypercallError(Errno.EINVAL)
    log = log_of(domain)
    written = set() if log is None else log.written()
    op.stats.fault_count = 0 if log is None else log.faults
    op.stats.dirty_count = len(written)
    op.pages = min(op.pages, _MOST_PAGES)
    if op.dirty_bitmap:
        vcpu.domain.memory.copy_to_guest(op.dirty_bitmap, bitmap_of(written, op.pages))
    if log is not None and op.op == XEN_DOMCTL_SHADOW_OP_CLEAN:
        log.clean(-(-op.pages // FRAMES_A_LEAF) * FRAMES_A_LEAF)


# --- memory for shadows ---------------------------------------------------------------------------


def _get_allocation(_vcpu: Vcpu, domain: Domain, op: Any, _argument: int) -> None:
    log_of(domain)
    op.mb = domain.paging_pool.mib


def _set_allocation(vcpu: Vcpu, domain: Domain, op: Any, argument: int) -> None:
    """Give or take memory at once, a MiB after the other; what there is stays when there is not enough."""
    log, pool, hypervisor = log_of(domain), domain.paging_pool, domain.hypervisor
    if log is not None and not op.mb:
        raise HypercallError(Errno.EINVAL)
    # Xen counts frames in 32 bits: what goes beyond is lost.
    frames = op.mb * FRAMES_A_MIB & 0xFFFFFFFF
    wanted = max(frames, _least_frames(domain)) if frames or log is not None else 0
    resize = pool.resize if log is None else log.shadow.resize_pool
    try:
        while len(pool) != wanted:
            step = min(max(wanted - len(pool), -FRAMES_A_MIB), FRAMES_A_MIB)
            resize(len(pool) + step)
            hypervisor.charge(REQUEST_COST * abs(step))
            if hypervisor.hypercall_preempt_check(vcpu):
                raise Continuation(argument)
    except OutOfFrames:
        raise HypercallError(Errno.ENOMEM) from None
    finally:
        op.mb = pool.mib


def _least_frames(domain: Domain) -> int:
    """The fewest frames for shadows that a domain is given (Xen: sh_min_allocation)."""
    least = len(domain.vcpus) * LEAST_FRAMES_A_VCPU
    if domain.is_hvm:
        return least + max(domain.pages // _GUEST_FRAMES_A_FRAME, _LEAST_FRAMES_HVM) + 1
    return least + domain.pages // _GUEST_FRAMES_A_FRAME


_OPERATIONS: Final[dict[int, Callable[[Vcpu, Domain, Any, int], None]]] = {
    XEN_DOMCTL_SHADOW_OP_OFF: _off,
    XEN_DOMCTL_SHADOW_OP_ENABLE: _enable,
    XEN_DOMCTL_SHADOW_OP_ENABLE_TEST: _enable_test,
    XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY: _enable_log,
    XEN_DOMCTL_SHADOW_OP_PEEK: _look,
    XEN_DOMCTL_SHADOW_OP_CLEAN: _look,
    XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION: _get_allocation,
    XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION: _set_allocation,
}
