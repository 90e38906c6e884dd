"""Hypercalls that stop in the middle: the guest makes the call again, with what is left of its arguments.

A handler raises `Continuation` with the new arguments. The guest's registers (or its multicall entry) get
them, and its instruction pointer goes back onto the call; the guest never notices (Xen:
hypercall_create_continuation).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.hypervisor.hypercall import signed
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: Bit of a batch's count that says: this call goes on with one that was stopped.
PREEMPTED: Final = 1 << 31
RESTART: Final = -int(Errno.ERESTART)

#: Cycles of virtual time that one request of a batch takes, or one frame of an extent.
REQUEST_COST: Final = 200

#: Carries out requests from bytes, as many as they hold; how many were done, and 0, RESTART or an error.
CarryOut = Callable[[bytes], tuple[int, int]]


class Continuation(Exception):
    """Ends a handler; the hypercall will be made again with these argument words."""

    def __init__(self, *words: int) -> None:
        super().__init__("hypercall continues")
        self.words = words


def is_finishing(pointer: int, count: int) -> bool:
    """Whether a batch that goes on has no request left, only tables to let go of (see `finish_batch`)."""
    return pointer == 0 and count == PREEMPTED


def finish_batch(vcpu: "Vcpu", arguments: tuple[int, int, int, int]) -> int:
    """Go on with a batch whose requests are all done; its result is in the place of the foreign domain.

    That is why it must be asked for before the domain is looked up.

    Raises:
        Continuation: time was up.
    """
    types = vcpu.domain.hypervisor.page_types
    if types.demoting and not types.finish():
        raise Continuation(*arguments)
    return signed(arguments[3])


def run_batch(vcpu: "Vcpu", arguments: tuple[int, int, int, int], size: int, carry_out: CarryOut) -> int:
    """The common frame of mmu_update and mmuext_op: a list of requests, a done count, a foreign domain.

    Requests are read a page at a time. Between pages, and after a request that says RESTART, the call may
    stop and go on later; so it does while tables that lost their last use still hold references. While an
    upcall is due, every request is a page of its own.

    Args:
        arguments: pointer to the list, count (it may carry PREEMPTED), pointer to the done count (0: none),
            foreign domain.
        size: bytes of a request.

    Raises:
        Continuation: time was up.
    """
    pointer, count, done_pointer, foreign = arguments
    domain = vcpu.domain
    hypervisor, memory, types = domain.hypervisor, domain.memory, domain.hypervisor.page_types
    before = 0
    if types.demoting and not types.finish():
        raise Continuation(*arguments)
    if count & PREEMPTED:
        count &= ~PREEMPTED
        before = _read_done(vcpu, done_pointer)
    done = result = 0
    while done < count:
        if done and (hypervisor.hypercall_preempt_check(vcpu) or (types.demoting and not types.finish())):
            result = RESTART
            break
        whole = max((PAGE_SIZE - (pointer & PAGE_MASK)) // size, 1)
        some = 1 if count > 1 and hypervisor.hypercall_preempt_check(vcpu) else min(whole, count - done)
        try:
            raw = memory.copy_from_guest(pointer, some * size)
        except GuestFault as fault:
            result = fault.result
            break
        some, result = carry_out(raw)
        done += some
        pointer += some * size
        hypervisor.charge(some * REQUEST_COST)
        if result:
            break
    if done_pointer:
        write_done(vcpu, done_pointer, before + done)
    if result == RESTART:
        raise Continuation(pointer, count - done | PREEMPTED, done_pointer, foreign)
    if types.demoting and not types.finish():
        raise Continuation(0, PREEMPTED, 0, result & 0xFFFFFFFF)
    return result


def _read_done(vcpu: "Vcpu", done_pointer: int) -> int:
    try:
        return vcpu.domain.memory.read_u32(done_pointer) if done_pointer else 0
    except GuestFault:
        return 0


def write_done(vcpu: "Vcpu", done_pointer: int, done: int) -> None:
    """Tell how many requests were done; nothing happens where that can't be written."""
    try:
        vcpu.domain.memory.write_u32(done_pointer, done & 0xFFFFFFFF)
    except GuestFault:
        return  # real Xen does not mind either (golden: mmu_update-done-badptr-hv)
