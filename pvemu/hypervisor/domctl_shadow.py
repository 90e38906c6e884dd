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
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.guest_structure import copy_back
from pvemu.hypervisor.hvm.shadow_paging import ShadowPaging
from pvemu.hypervisor.shadow.dirty_log import bitmap_of
from pvemu.hypervisor.shadow.log_dirty import FRAMES_A_LEAF, FRAMES_A_MIB, DirtyLogging, ShadowLogging
from pvemu.hypervisor.shadow.pv_shadow import PvShadow
from pvemu.hypervisor.shadow.tables import ShadowLimit
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.heap import OutOfFrames

_HEADER: Final = 16
#: Xen moves the mode's bits up by ten, and those that leave the 32 bits are lost.
_KNOWN_MODE_BITS: Final = (1 << 22) - 1
_ALL_OR_NONE: Final = (
    XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT | XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE | XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL
)
#: Mebibytes for shadows when nobody has said how many: for one that is only looked at, and for good.
_ALLOCATION_FOR_LOG: Final = 1
_ALLOCATION_FOR_SHADOWS: Final = 4
#: The least that shadows need: so many frames for each vCPU, and one for each MiB of the guest's.
_LEAST_FRAMES_A_VCPU: Final = 128
_GUEST_FRAMES_A_FRAME: Final = 256
_LEAST_FRAMES_HVM: Final = 6
#: More pages than any guest can have; a bitmap is not made for more.
_MOST_PAGES: Final = 1 << 24


def shadow_op(vcpu: Vcpu, domain: Domain, op: Any, argument: int) -> None:
    """Turn shadows or the log on or off, look at the log, or say how much memory shadows may take.

    Raises:
        HypercallError: EINVAL, itself, a domain without vCPUs, an unknown operation, or one that does not
            fit; EOPNOTSUPP, nested paging; ENOMEM; EFAULT.
    """
    if domain is vcpu.domain:
        raise HypercallError(Errno.EINVAL)
    if domain.is_dying:
        return
    if not domain.has_vcpus or op.op not in _OPERATIONS:
        raise HypercallError(Errno.EINVAL)
    try:
        _OPERATIONS[op.op](vcpu, domain, op)
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


def _make_shadows(domain: Domain, mib: int) -> DirtyLogging:
    """The shadows of a domain, which are made if it has none yet."""
    log = log_of(domain)
    if log is not None:
        return log
    wanted = domain.shadow_mib or _allowed(domain, mib)
    try:
        domain.pv_shadow = PvShadow(domain, wanted)
    except (OutOfFrames, ShadowLimit):
        raise HypercallError(Errno.ENOMEM) from None
    domain.shadow_mib = wanted
    return domain.pv_shadow


def _enable_test(_vcpu: Vcpu, domain: Domain, _op: Any) -> None:
    if log_of(domain) is not None:
        raise HypercallError(Errno.EINVAL)
    _make_shadows(domain, _ALLOCATION_FOR_LOG)


def _enable_log(_vcpu: Vcpu, domain: Domain, _op: Any) -> None:
    log = _make_shadows(domain, _ALLOCATION_FOR_LOG)
    if log.is_on:
        raise HypercallError(Errno.EINVAL)
    log.start()


def _enable(vcpu: Vcpu, domain: Domain, op: Any) -> None:
    """Shadows for good; but with the flag for it only the log, whatever else is asked for."""
    if op.mode & XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY:
        _enable_log(vcpu, domain, op)
        return
    mode = op.mode & _KNOWN_MODE_BITS
    if mode & ~_ALL_OR_NONE or mode or log_of(domain) is not None:
        raise HypercallError(Errno.EINVAL)
    _make_shadows(domain, _ALLOCATION_FOR_SHADOWS)


def _off(_vcpu: Vcpu, domain: Domain, _op: Any) -> None:
    log = log_of(domain)
    if log is not None and log.is_on:
        log.stop()
    if domain.pv_shadow is not None:
        domain.pv_shadow.release()
        domain.pv_shadow, domain.shadow_mib = None, 0


# --- the log --------------------------------------------------------------------------------------


def _look(vcpu: Vcpu, domain: Domain, op: Any) -> None:
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


def _get_allocation(_vcpu: Vcpu, domain: Domain, op: Any) -> None:
    log = log_of(domain)
    # A PV guest's stays in force while it is not on shadows.
    op.mb = log.allocation if log is not None and domain.is_translated else domain.shadow_mib


def _set_allocation(_vcpu: Vcpu, domain: Domain, op: Any) -> None:
    log = log_of(domain)
    if log is not None and not op.mb:
        raise HypercallError(Errno.EINVAL)
    mib = _allowed(domain, op.mb) if op.mb else 0
    try:
        if log is not None:
            log.set_allocation(mib)
    except ShadowLimit:
        raise HypercallError(Errno.ENOMEM) from None
    domain.shadow_mib = op.mb = mib


def _allowed(domain: Domain, mib: int) -> int:
    """What is granted to who asks for so many MiB: as much as the domain needs (Xen: sh_min_allocation)."""
    least = len(domain.vcpus) * _LEAST_FRAMES_A_VCPU
    if domain.is_hvm:
        least += max(domain.pages // _GUEST_FRAMES_A_FRAME, _LEAST_FRAMES_HVM) + 1
    else:
        least += domain.pages // _GUEST_FRAMES_A_FRAME
    return max(mib, -(-least // FRAMES_A_MIB))


_OPERATIONS: Final[dict[int, Callable[[Vcpu, Domain, Any], None]]] = {
    XEN_DOMCTL_SHADOW_OP_OFF: _off,
    XEN_DOMCTL_SHADOW_OP_ENABLE: _enable,
    XEN_DOMCTL_SHADOW_OP_ENABLE_TEST: _enable_test,
    XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY: _enable_log,
    XEN_DOMCTL_SHADOW_OP_PEEK: _look,
    XEN_DOMCTL_SHADOW_OP_CLEAN: _look,
    XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION: _get_allocation,
    XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION: _set_allocation,
}
