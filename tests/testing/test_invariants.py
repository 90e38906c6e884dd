"""What counts as a lost event, and what does not: a domain may do to its own shared memory what it likes."""

import pytest

from pvemu.testing.invariants import Invariants
from pvemu.testing.program_text import read_program
from pvemu.testing.stage import Stage, stage_for

RUNG = """\
program of 2 domains
d0 "EVTCHNOP_bind_ipi" event_channel_op(EVTCHNOP_bind_ipi, &request)
    evtchn_bind_ipi at request: vcpu = 0
d0 "EVTCHNOP_send" event_channel_op(EVTCHNOP_send, &request)
    evtchn_send at request: port = 3
"""
FORGED = RUNG + 'd0 "update_descriptor" update_descriptor(<shared info>:0x0, 0)\n'


def events_after(text: str) -> tuple[Stage, Invariants]:
    stage = stage_for(2)
    stage.run(read_program(text))
    return stage, Invariants(stage.machine, stage.puppets)


def test_a_flag_that_xen_has_not_set_is_a_lost_event() -> None:
    stage, invariants = events_after(RUNG)
    invariants.no_event_is_lost()
    stage.hypervisor.ram.u8[stage.puppets[0].domain.vcpus[0].info] = 0
    with pytest.raises(AssertionError, match="port 3 is pending, and no upcall is"):
        invariants.no_event_is_lost()


def test_a_flag_that_the_domain_itself_has_cleared_with_xens_help_is_none() -> None:
    stage, invariants = events_after(FORGED)
    assert stage.hypervisor.ram.u8[stage.puppets[0].domain.vcpus[0].info] == 0
    invariants.no_event_is_lost()
    stage.reset()
    assert not stage.puppets[0].may_forge_events


def test_a_vcpu_that_sleeps_although_it_is_to_be_called_up_is_found() -> None:
    stage, invariants = events_after(RUNG)
    vcpu = stage.puppets[0].domain.vcpus[0]
    stage.hypervisor.ram.u16[vcpu.info16] = 1
    invariants.no_event_is_lost()
    vcpu.blocked = True
    with pytest.raises(AssertionError, match="it sleeps, and an upcall is due"):
        invariants.no_event_is_lost()
    stage.reset()
