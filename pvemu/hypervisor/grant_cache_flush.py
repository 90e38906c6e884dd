"""Flushing caches for a frame that is granted to the caller, or is his own: GNTTABOP_cache_flush.

There are no caches here, so only what Xen answers on x86 is left. Looking for the grant in a long table may
stop in the middle; the upper bits of the command then say at which reference it goes on.
"""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.grant_table import (
    GNTTAB_CACHE_CLEAN,
    GNTTAB_CACHE_INVAL,
    GNTTABOP_cache_flush,
    gnttab_cache_flush,
)
from pvemu.hypervisor.continuation import REQUEST_COST, Continuation
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

_OPERATIONS: Final = GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL
#: How many references are looked at before time is asked for.
_AT_A_TIME: Final = 0x1000


def cache_flush(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
    """Carry out a batch; the first operation that is refused ends it.

    Raises:
        HypercallError: EINVAL, no such operation, bytes or frame; EPERM, a frame of nobody or not granted;
            EILSEQ, an empty operation that is said to go on; EOPNOTSUPP, to invalidate without writing back.
    """
    memory, hypervisor, size = vcpu.domain.memory, vcpu.domain.hypervisor, gnttab_cache_flush.size(4)
    start = command & ~(_AT_A_TIME - 1)
    codec = gnttab_cache_flush.codec(vcpu.domain.word)
    for done in range(count):
        at = argument + done * size
        if done and hypervisor.hypercall_preempt_check(vcpu):
            raise Continuation(GNTTABOP_cache_flush, at, count - done)
        hypervisor.charge(REQUEST_COST)
        address, offset, length, operation = codec.unpack(memory.copy_from_guest(at, size))
        while start := _flush(vcpu, address, offset, length, operation, start):
            if hypervisor.hypercall_preempt_check(vcpu):
                raise Continuation(start | GNTTABOP_cache_flush, at, count - done)
    return 0


def _flush(vcpu: Vcpu, address: int, offset: int, length: int, operation: int, start: int) -> int:
    """One operation; 0 when it is done, or the reference at which to go on."""
    if offset >= PAGE_SIZE or offset + length > PAGE_SIZE or operation & ~_OPERATIONS:
        raise HypercallError(Errno.EINVAL)
    if not length or not operation:
        if start:
            raise HypercallError(Errno.EILSEQ)
        return 0
    domain = vcpu.domain
    frames, mfn = domain.hypervisor.frames, address >> PAGE_SHIFT
    if mfn >= frames.number:
        raise HypercallError(Errno.EINVAL)
    owner = domain.hypervisor.domains.get(frames.owner[mfn])
    if owner is None or not frames.count[mfn]:
        raise HypercallError(Errno.EPERM)
    if owner is not domain:
        table, end = owner.grant_table, start + _AT_A_TIME
        granted = (
            entry.domid == domain.domid and entry.mfn == mfn and start <= ref < end
            for ref, entry in table.active.items()
        )
        if not any(granted):
            if end < table.entries:
                return end
            raise HypercallError(Errno.EINVAL)
    if operation == GNTTAB_CACHE_INVAL:
        raise HypercallError(Errno.EOPNOTSUPP)
    return 0
