"""Hypercalls that stop in the middle: the guest makes the call again, with what is left of its arguments.

A handler raises `Continuation` with the new arguments. The guest's registers (or its multicall entry) get
them, and its instruction pointer goes back onto the call; the guest never notices (Xen:
hypercall_create_continuation).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.hypervisor.hypercall import signed
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: Bit of a batch's count that says: this call goes on with one that was stopped.
PREEMPTED: Final = 1 << 31
_RESTART: Final = -int(Errno.ERESTART)


class Continuation(Exception):
    """Ends a handler; the hypercall will be made again with these argument words."""

    def __init__(self, *words: int) -> None:
        super().__init__("hypercall continues")
        self.words = words


class Batch:
    """The common frame of mmu_update and mmuext_op: a list of requests, a done count, a foreign domain.

    Args:
        pointer, count: the list; `count` may carry PREEMPTED.
        done_pointer: where the number of requests done is written; 0 for nowhere.
        foreign: the domain argument.
        size: bytes of a request.

    Attributes:
        result: set when there is nothing to do but return it.

    Raises:
        HypercallError: EFAULT, the list reaches into the hypervisor's part of the address space.
    """

    def __init__(
        self, vcpu: "Vcpu", pointer: int, count: int, done_pointer: int, foreign: int, size: int
    ) -> None:
        self._vcpu, self._memory = vcpu, vcpu.domain.memory
        self._types = vcpu.domain.hypervisor.page_types
        self._pointer, self._done_pointer, self._foreign, self._size = pointer, done_pointer, foreign, size
        self.result: int | None = None
        self._done_before = 0
        self._done = 0
        self._fault = 0
        if not self._types.finish():
            raise Continuation(pointer, count, done_pointer, foreign)
        if count == PREEMPTED and pointer == 0:
            self.result = signed(foreign)
            return
        if count & PREEMPTED:
            count &= ~PREEMPTED
            self._done_before = self._read_done()
        self._count = count
        if not self._memory.range_okay(pointer, count * size):
            raise HypercallError(Errno.EFAULT)

    def entries(self) -> Iterator[bytes]:
        """The requests, one after the other, as long as there is time; the caller leaves at a failure."""
        hypervisor = self._vcpu.domain.hypervisor
        while self._done < self._count:
            if self._done and (hypervisor.preempt_due() or not self._types.finish()):
                self._fault = _RESTART
                return
            try:
                raw = self._memory.copy_from_guest(self._pointer + self._done * self._size, self._size)
            except GuestFault as fault:
                self._fault = fault.result
                return
            yield raw
            self._done += 1

    def end(self, result: int) -> int:
        """Write the done count and return the result, or go on later."""
        result = result or self._fault
        self._write_done()
        if result == _RESTART:
            left = self._count - self._done | PREEMPTED
            raise Continuation(
                self._pointer + self._done * self._size, left, self._done_pointer, self._foreign
            )
        if not self._types.finish():
            raise Continuation(0, PREEMPTED, 0, result & 0xFFFFFFFF)
        return result

    def _read_done(self) -> int:
        if not self._done_pointer:
            return 0
        try:
            return self._memory.read_u32(self._done_pointer)
        except GuestFault:
            return 0

    def _write_done(self) -> None:
        if not self._done_pointer:
            return
        try:
            self._memory.write_u32(self._done_pointer, (self._done_before + self._done) & 0xFFFFFFFF)
        except GuestFault:
            return  # real Xen does not mind either (golden: mmu_update-done-badptr-hv)
