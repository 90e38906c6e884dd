"""Auto-translated guests come and go: nothing is left of them, and little memory for shadows is enough."""

from pathlib import Path
from typing import Any

from as_translated import shadowed, with_feature
from booted import Booted
from test_domain_life import HOARDER, free_frames

from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

GUESTS = Path(__file__).parent / "translated"


def test_all_that_a_domain_had_comes_back_when_it_is_destroyed() -> None:
    with Booted() as machine:
        machine.domctl.adopt(0)
        auditor, before = Auditor(machine.hypervisor), free_frames(machine)
        for _ in range(2):
            domain = machine.boot(1, with_feature(HOARDER), vcpus=2, paging=Paging.SHADOW)
            machine.run(100)
            assert machine.word(domain, "ready") == 1
            auditor.audit()
            domain.translation.shadow.check()
            machine.domctl.destroy(domain)
            auditor.audit()
            assert 1 not in machine.hypervisor.domains
            assert free_frames(machine) == before


def test_a_frame_that_another_domain_has_mapped_outlives_its_domain() -> None:
    with Booted() as machine:
        machine.domctl.adopt(0)
        before = free_frames(machine)
        domain = machine.boot(1, with_feature(HOARDER), paging=Paging.SHADOW)
        machine.run(20)
        mfn = domain.p2m.get(domain.vcpus[0].cr3)
        assert mfn is not None
        assert machine.hypervisor.frames.get_page(mfn, 1)
        machine.domctl.destroy(domain)
        assert machine.hypervisor.domains[1] is domain
        assert domain.pages == 1
        machine.hypervisor.page_types.put_page(mfn)
        assert 1 not in machine.hypervisor.domains
        assert free_frames(machine) == before


def test_direct_and_auto_translated_guests_live_side_by_side() -> None:
    with Booted() as machine:
        machine.domctl.adopt(0)
        auditor = Auditor(machine.hypervisor)
        guests = [
            machine.boot(1, HOARDER),
            machine.boot(2, with_feature(HOARDER), paging=Paging.SHADOW),
            machine.boot(3, with_feature(HOARDER), paging=Paging.SHADOW),
        ]
        machine.run(100)
        assert [machine.word(guest, "ready") for guest in guests] == [1, 1, 1]
        auditor.audit()
        machine.domctl.destroy(guests[1])
        machine.run(20)
        auditor.audit()
        guests[2].translation.shadow.check()


def test_few_frames_for_shadows_are_enough(machine_options: Any) -> None:
    with Machine([shadowed(GUESTS / "own_tables.gk")], **machine_options) as machine:
        machine.domain.translation.shadow.resize_pool(50)
        assert machine.run(seconds=5).outcome is Outcome.POWEROFF
        assert machine.console_bytes.decode() == (GUESTS / "expected" / "own_tables.txt").read_text()
