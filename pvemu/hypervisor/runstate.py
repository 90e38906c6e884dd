"""What each vCPU was doing for how long: running, waiting for the processor, blocked, or offline.

Public header vcpu.h. A guest asks for it, or has it copied to a place of its own whenever it changes.
"""

import struct
from typing import TYPE_CHECKING, Final

from pvemu.abi.vcpu import (
    RUNSTATE_blocked,
    RUNSTATE_offline,
    RUNSTATE_runnable,
    RUNSTATE_running,
)
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

#: state, state_entry_time, time[4], by the bytes of a long.
_INFO: Final = {4: struct.Struct("<iQ4Q"), 8: struct.Struct("<i4xQ4Q")}


class Runstate:
    """The present state of a vCPU, since when, and the nanoseconds it spent in each state before."""

    __slots__ = ("entered", "state", "times")

    def __init__(self, now: int) -> None:
        self.state = RUNSTATE_offline
        self.entered = now
        self.times = [0, 0, 0, 0]

    def change(self, state: int, now: int) -> None:
        """Enter a state at a system time."""
        if state != self.state:
            self.times[self.state] += now - self.entered
            self.state, self.entered = state, now

    def until(self, now: int) -> list[int]:
        """Nanoseconds in each state up to a system time."""
        times = self.times.copy()
        times[self.state] += now - self.entered
        return times


def settle_runstate(vcpu: "Vcpu", *, leaves_processor: bool = False) -> None:
    """Enter the state that the vCPU's flags say; the one that runs stays so until it leaves the processor."""
    runstate = vcpu.runstate
    if runstate.state == RUNSTATE_running and not leaves_processor:
        return
    if vcpu.blocked:
        state = RUNSTATE_blocked
    else:
        state = RUNSTATE_runnable if vcpu.runnable else RUNSTATE_offline
    runstate.change(state, vcpu.domain.hypervisor.system_time())


def pack_runstate(vcpu: "Vcpu", word: int, *, exact: bool) -> bytes:
    """The vCPU's vcpu_runstate_info; exact: up to this moment, not only up to the last change.

    Args:
        word: bytes of a long in its layout.
    """
    runstate = vcpu.runstate
    times = runstate.until(vcpu.domain.hypervisor.system_time()) if exact else runstate.times
    return _INFO[word].pack(runstate.state, runstate.entered, *times)


def update_runstate_area(vcpu: "Vcpu") -> None:
    """Copy the runstate where the guest wants it; a place that can't be written gets nothing.

    With VMASST_TYPE_runstate_update_flag the time of the last change carries XEN_RUNSTATE_UPDATE meanwhile.
    Nobody sees that here, for no other processor looks on; what stays is the finished copy.
    """
    domain = vcpu.domain
    try:
        packed = pack_runstate(vcpu, domain.shared_info_word, exact=False)
        domain.memory.copy_to_guest(vcpu.runstate_area, packed)
    except GuestFault:
        return
