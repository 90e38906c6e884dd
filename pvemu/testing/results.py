"""What a hypercall may answer, and what must be so when it says that it has done what was asked."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.event_channel import EVTCHNOP_send
from pvemu.hypervisor.event_ports import State
from pvemu.testing.program import Outcome, Step

if TYPE_CHECKING:
    from pvemu.testing.stage import Stage

#: What a hypercall may return that goes wrong.
KNOWN_ERRORS: Final = frozenset(-int(number) for number in Errno) - {-int(Errno.ERESTART)}
#: Hypercalls whose result is a register, and may have its highest bit set.
_REGISTERS: Final = frozenset({"get_debugreg"})


def check_outcome(stage: "Stage", outcome: Outcome) -> None:
    """Raises AssertionError: there is no such result, or nothing is pending where an event was sent."""
    result, step = outcome.result, outcome.step
    known = result is None or result >= 0 or result in KNOWN_ERRORS or step.call in _REGISTERS
    assert known, f"{outcome}: there is no such error"
    if result == 0 and step.call == "event_channel_op":
        _check_event(stage, step)


def _check_event(stage: "Stage", step: Step) -> None:
    """Whoever was rung has something pending."""
    puppet = stage.puppets[step.domain]
    command, pointer, *_ = step.words(puppet)
    if command != EVTCHNOP_send or not puppet.is_alive:
        return
    port = puppet.domain.memory.read_u32(pointer)
    channel = puppet.domain.channels[port]
    rung, remote_port = puppet.domain, port
    if channel.state is State.INTERDOMAIN:
        rung, remote_port = stage.hypervisor.domains[channel.remote], channel.remote_port
    elif channel.state is not State.IPI:
        return
    # Before a FIFO's array has a word for the port, its being pending is kept for later.
    early = rung.channels[remote_port].raised_early
    # A guest that runs may have taken note of it meanwhile.
    taken = any(each.upcalls_begun for each in stage.puppets if each.domain is rung)
    pending = not rung.vcpus or early or taken or rung.events.is_pending(remote_port)
    assert pending, f"{step!r}: nothing is pending on port {remote_port} of {rung}"
