"""The mmuext_op hypercall: pinning, the base pointer, flushes, the LDT, and work on whole frames."""

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.xen import (
    MMUEXT_CLEAR_PAGE,
    MMUEXT_COPY_PAGE,
    MMUEXT_FLUSH_CACHE,
    MMUEXT_FLUSH_CACHE_GLOBAL,
    MMUEXT_INVLPG_ALL,
    MMUEXT_INVLPG_LOCAL,
    MMUEXT_INVLPG_MULTI,
    MMUEXT_MARK_SUPER,
    MMUEXT_NEW_BASEPTR,
    MMUEXT_NEW_USER_BASEPTR,
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_PIN_L2_TABLE,
    MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE,
    MMUEXT_SET_LDT,
    MMUEXT_TLB_FLUSH_ALL,
    MMUEXT_TLB_FLUSH_LOCAL,
    MMUEXT_TLB_FLUSH_MULTI,
    MMUEXT_UNMARK_SUPER,
    MMUEXT_UNPIN_TABLE,
)
from pvemu.hypervisor.continuation import PREEMPTED, finish_batch, is_finishing, run_batch
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.pv.ldt import set_ldt
from pvemu.hypervisor.pv.mm import new_guest_cr3
from pvemu.hypervisor.pv.mmu_update import page_owner
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.frames import PGT_L1, PGT_L2, PGT_L3, PGT_WRITABLE
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_REQUEST: Final = struct.Struct("<3I")
_EINVAL, _EPERM, _EACCES, _ENOSYS, _EOPNOTSUPP = (
    -int(number) for number in (Errno.EINVAL, Errno.EPERM, Errno.EACCES, Errno.ENOSYS, Errno.EOPNOTSUPP)
)

#: A command gets the vCPU, the domain whose frames are meant, and its two arguments.
Command = Callable[[Vcpu, "Domain", int, int], int]


@hypercall("mmuext_op")
def mmuext_op(vcpu: Vcpu, operations: int, count: int, done_pointer: int, foreign: int) -> int:
    """Carry out a batch of MMUEXT_* operations; how many were done goes to `done_pointer`."""
    if is_finishing(operations, count):
        return finish_batch(vcpu, (operations, count, done_pointer, foreign))
    if not count & ~PREEMPTED and vcpu.domain.word == 4:
        return 0
    owner = page_owner(vcpu, foreign & 0xFFFF)
    if owner.is_translated:
        return _EINVAL
    if owner is not vcpu.domain and not vcpu.domain.privileged:
        return _EPERM
    return run_operations(vcpu, owner, COMMANDS, (operations, count, done_pointer, foreign))


def run_operations(
    vcpu: Vcpu, owner: "Domain", commands: Mapping[int, Command], arguments: tuple[int, int, int, int]
) -> int:
    """Carry out the list of a call that may be made.

    Args:
        owner: whose frames are meant; commands: by MMUEXT_*.
        arguments: of the hypercall.

    Raises:
        Continuation: time was up.
    """
    hypervisor = vcpu.domain.hypervisor

    def carry_out(raw: bytes) -> tuple[int, int]:
        done = 0
        for command, first, second in _REQUEST.iter_unpack(raw):
            operation = commands.get(command)
            result = _ENOSYS if operation is None else operation(vcpu, owner, first, second)
            if result:
                return done, result
            done += 1
            if hypervisor.hypercall_preempt_check(vcpu) or hypervisor.page_types.demoting:
                break
        return done, 0

    return run_batch(vcpu, arguments, _REQUEST.size, carry_out)


def _own(carry_out: Command) -> Command:
    """A command that is only for the caller's own tables: -EPERM for another's."""
    return lambda vcpu, owner, first, second: (
        carry_out(vcpu, owner, first, second) if owner is vcpu.domain else _EPERM
    )


def _pin(kind: int) -> Command:
    def pin(_vcpu: Vcpu, owner: "Domain", mfn: int, _second: int) -> int:
        hypervisor = owner.hypervisor
        types, frames = hypervisor.page_types, hypervisor.frames
        failure = types.get_page_and_type(mfn, owner, kind)
        if failure:
            return failure
        if frames.pinned[mfn]:
            types.put_page_and_type(mfn)
            return _EINVAL
        frames.pinned[mfn] = 1
        hypervisor.mark_dirty(mfn)
        return 0

    return pin


def _unpin(_vcpu: Vcpu, owner: "Domain", mfn: int, _second: int) -> int:
    hypervisor = owner.hypervisor
    frames = hypervisor.frames
    if mfn >= frames.number or frames.owner[mfn] != owner.domid or not frames.pinned[mfn]:
        return _EINVAL
    frames.pinned[mfn] = 0
    hypervisor.mark_dirty(mfn)
    hypervisor.page_types.put_page_and_type(mfn)
    return 0


def _new_baseptr(vcpu: Vcpu, _owner: "Domain", mfn: int, _second: int) -> int:
    return new_guest_cr3(vcpu, mfn)


def _flush(vcpu: Vcpu, _owner: "Domain", _first: int, _second: int) -> int:
    vcpu.domain.hypervisor.flush_stale_tlb()
    return 0


def flush_multi(flush: Command) -> Command:
    """A flush on the vCPUs of a bitmap; one that can't be read is -EINVAL here."""

    def flush_these(vcpu: Vcpu, owner: "Domain", first: int, mask_pointer: int) -> int:
        try:
            vcpu.domain.memory.read_u32(mask_pointer)
        except GuestFault:
            return _EINVAL
        return flush(vcpu, owner, first, 0)

    return flush_these


def _flush_cache(refusal: int) -> Command:
    """Caches are nothing here, but only a domain with devices may flush them."""
    return lambda vcpu, owner, first, second: 0 if vcpu.domain.privileged else refusal


def _set_ldt(vcpu: Vcpu, _owner: "Domain", base: int, entries: int) -> int:
    return set_ldt(vcpu, base, entries)


def _clear_page(_vcpu: Vcpu, owner: "Domain", mfn: int, _second: int) -> int:
    hypervisor = owner.hypervisor
    if hypervisor.page_types.get_page_and_type(mfn, owner, PGT_WRITABLE):
        return _EINVAL
    hypervisor.before_write(mfn)
    hypervisor.ram.clear(mfn)
    hypervisor.page_types.put_page_and_type(mfn)
    return 0


def _copy_page(_vcpu: Vcpu, owner: "Domain", mfn: int, source: int) -> int:
    hypervisor = owner.hypervisor
    types = hypervisor.page_types
    if not hypervisor.frames.get_page(source, owner.domid):
        return _EINVAL
    failure = _EINVAL if types.get_page_and_type(mfn, owner, PGT_WRITABLE) else 0
    if not failure:
        hypervisor.before_write(mfn)
        hypervisor.ram.frame(mfn)[:] = hypervisor.ram.frame(source)
        types.put_page_and_type(mfn)
    types.put_page(source)
    return failure


def _pin_l4(_vcpu: Vcpu, owner: "Domain", _mfn: int, _second: int) -> int:
    """A 32-bit guest has no L4: nothing happens. The frames of no guest are no tables."""
    return 0 if owner.vcpus else _EINVAL


def always(result: int) -> Command:
    """A command that does nothing."""
    return lambda vcpu, owner, first, second: result


COMMANDS: Final[dict[int, Command]] = {
    MMUEXT_PIN_L1_TABLE: _pin(PGT_L1),
    MMUEXT_PIN_L2_TABLE: _pin(PGT_L2),
    MMUEXT_PIN_L3_TABLE: _pin(PGT_L3),
    MMUEXT_PIN_L4_TABLE: _pin_l4,
    MMUEXT_UNPIN_TABLE: _unpin,
    MMUEXT_NEW_BASEPTR: _own(_new_baseptr),
    MMUEXT_TLB_FLUSH_LOCAL: _own(_flush),
    MMUEXT_INVLPG_LOCAL: _own(_flush),
    MMUEXT_TLB_FLUSH_MULTI: _own(flush_multi(_flush)),
    MMUEXT_INVLPG_MULTI: _own(flush_multi(_flush)),
    MMUEXT_TLB_FLUSH_ALL: _own(_flush),
    MMUEXT_INVLPG_ALL: _own(_flush),
    MMUEXT_FLUSH_CACHE: _own(_flush_cache(_EACCES)),
    MMUEXT_SET_LDT: _own(_set_ldt),
    MMUEXT_NEW_USER_BASEPTR: always(_EINVAL),
    MMUEXT_CLEAR_PAGE: _clear_page,
    MMUEXT_COPY_PAGE: _copy_page,
    MMUEXT_FLUSH_CACHE_GLOBAL: _own(_flush_cache(_EINVAL)),
    MMUEXT_MARK_SUPER: always(_EOPNOTSUPP),
    MMUEXT_UNMARK_SUPER: always(_EOPNOTSUPP),
}
