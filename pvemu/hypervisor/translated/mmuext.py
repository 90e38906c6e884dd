"""The mmuext_op hypercall, as auto-translated guests have it: frame numbers are their own.

Pinning is allowed and does nothing: nothing in a table can be wrong. What is flushed is the guest's shadows.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.xen import (
    MMUEXT_CLEAR_PAGE,
    MMUEXT_COPY_PAGE,
    MMUEXT_INVLPG_ALL,
    MMUEXT_INVLPG_LOCAL,
    MMUEXT_INVLPG_MULTI,
    MMUEXT_NEW_BASEPTR,
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L2_TABLE,
    MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE,
    MMUEXT_SET_LDT,
    MMUEXT_TLB_FLUSH_ALL,
    MMUEXT_TLB_FLUSH_LOCAL,
    MMUEXT_TLB_FLUSH_MULTI,
    MMUEXT_UNPIN_TABLE,
)
from pvemu.hypervisor.continuation import PREEMPTED, finish_batch, is_finishing
from pvemu.hypervisor.pv import mmuext as pv
from pvemu.hypervisor.pv.ldt import set_ldt
from pvemu.hypervisor.pv.mmu_update import page_owner
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

_EINVAL, _EPERM = -int(Errno.EINVAL), -int(Errno.EPERM)


def mmuext_op(vcpu: "Vcpu", operations: int, count: int, done_pointer: int, foreign: int) -> int:
    """Carry out a batch of MMUEXT_* operations; how many were done goes to `done_pointer`."""
    arguments = (operations, count, done_pointer, foreign)
    if is_finishing(operations, count):
        return finish_batch(vcpu, arguments)
    if not count & ~PREEMPTED:
        return 0
    if page_owner(vcpu, foreign & 0xFFFF) is not vcpu.domain:
        return _EPERM
    return pv.run_operations(vcpu, vcpu.domain, _COMMANDS, arguments)


def _new_baseptr(vcpu: "Vcpu", owner: "Domain", gfn: int, _second: int) -> int:
    return owner.translation.new_base(vcpu, gfn)


def _flush(vcpu: "Vcpu", owner: "Domain", _first: int, _second: int) -> int:
    owner.translation.flush(vcpu)
    return 0


def _invalidate(vcpu: "Vcpu", owner: "Domain", address: int, _second: int) -> int:
    owner.translation.invalidate(vcpu, address)
    return 0


def _set_ldt(vcpu: "Vcpu", owner: "Domain", base: int, entries: int) -> int:
    result = set_ldt(vcpu, base, entries)
    if not result:
        owner.translation.descriptors.drop_ldt(vcpu)
    return result


def _clear_page(_vcpu: "Vcpu", owner: "Domain", gfn: int, _second: int) -> int:
    cleared = owner.translation.store(gfn << PAGE_SHIFT, bytes(PAGE_SIZE))
    return 0 if cleared else _EINVAL


def _copy_page(_vcpu: "Vcpu", owner: "Domain", gfn: int, source: int) -> int:
    mfn = owner.p2m.get(source)
    if mfn is None:
        return _EINVAL
    copied = owner.translation.store(gfn << PAGE_SHIFT, bytes(owner.hypervisor.ram.frame(mfn)))
    return 0 if copied else _EINVAL


_PINNING: Final = (
    *(MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE),
    MMUEXT_UNPIN_TABLE,
)
_COMMANDS: Final[Mapping[int, pv.Command]] = {
    **pv.COMMANDS,
    **dict.fromkeys(_PINNING, pv.always(0)),
    MMUEXT_NEW_BASEPTR: _new_baseptr,
    MMUEXT_TLB_FLUSH_LOCAL: _flush,
    MMUEXT_INVLPG_LOCAL: _invalidate,
    MMUEXT_TLB_FLUSH_MULTI: pv.flush_multi(_flush),
    MMUEXT_INVLPG_MULTI: pv.flush_multi(_flush),
    MMUEXT_TLB_FLUSH_ALL: _flush,
    MMUEXT_INVLPG_ALL: _flush,
    MMUEXT_SET_LDT: _set_ldt,
    MMUEXT_CLEAR_PAGE: _clear_page,
    MMUEXT_COPY_PAGE: _copy_page,
}
