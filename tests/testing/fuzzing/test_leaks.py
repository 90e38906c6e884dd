"""The search for leaks finds what is left of destroyed domains, and nothing where nothing is."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from pvemu.hypervisor import domain_lifecycle
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.pv.page_types import PageTypes
from pvemu.testing.leaks import LeakCheck, LeakError
from pvemu.testing.program import Program
from pvemu.testing.program_strategies import programs
from pvemu.testing.program_text import read_program
from pvemu.testing.stage import Stage

GRANT_AND_MAP = """\
program of 2 domains
d0 "grant 8"
    grant_entry_v1 at grant_entries + 64: flags = 1, domid = peer, frame = <page 2>
d1 "GNTTABOP_map_grant_ref" grant_table_op(GNTTABOP_map_grant_ref, &request, 1)
    gnttab_map_grant_ref at request: host_addr = &pages + 0x4000, flags = 2, ref = 8, dom = peer
"""
CONNECTED = """\
program of 2 domains
d0 "EVTCHNOP_alloc_unbound" event_channel_op(EVTCHNOP_alloc_unbound, &request)
    evtchn_alloc_unbound at request: dom = DOMID_SELF, remote_dom = peer
d1 "EVTCHNOP_bind_interdomain" event_channel_op(EVTCHNOP_bind_interdomain, &request)
    evtchn_bind_interdomain at request: remote_dom = peer, remote_port = 3
"""


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage(2) as stage:
        yield stage


@pytest.mark.parametrize("text", [GRANT_AND_MAP, CONNECTED])
def test_nothing_is_left_of_domains_that_share(stage: Stage, text: str) -> None:
    check = LeakCheck(stage)
    outcomes = stage.run(read_program(text))
    assert outcomes[-1].result == 0 and outcomes[-1].told >= 0
    check.check()


@settings(max_examples=8)
@given(programs(domains=2, most_steps=15, endings=True))
def test_nothing_is_left_whatever_was_asked(program: Program) -> None:
    with Stage(2) as stage:
        check = LeakCheck(stage)
        stage.run(program)
        check.check()


def test_a_reference_that_is_never_given_back_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    check = LeakCheck(stage)
    stage.run(read_program(GRANT_AND_MAP))
    sound, kept = PageTypes.put_page, []

    def put_page(self: PageTypes, mfn: int) -> None:
        if not kept and self._frames.owner[mfn] == 1:
            kept.append(mfn)
            return
        sound(self, mfn)

    monkeypatch.setattr(PageTypes, "put_page", put_page)
    with pytest.raises(LeakError, match=r"domains: \(0, 1\), without these steps \(0,\)"):
        check.check()


def test_a_domain_whose_own_frames_stay_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    check = LeakCheck(stage)
    stage.reset()
    sound = domain_lifecycle._free_own_frames

    def free_own_frames(domain: Domain) -> None:
        domain.grant_table.frames.clear()
        sound(domain)

    monkeypatch.setattr(domain_lifecycle, "_free_own_frames", free_own_frames)
    with pytest.raises(LeakError, match="frames of the hypervisors own"):
        check.check()
