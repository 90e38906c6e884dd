"""A domain whose page tables the hypervisor makes has memory for them set aside, whatever others take."""

from pathlib import Path

import pytest
from as_translated import shadowed, with_feature
from booted import Booted
from hoard import Hoard
from test_domain_life import HOARDER

from guestkit import assemble, assemble_file
from pvemu import Machine, Outcome
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.core import End
from pvemu.hypervisor.domain_lifecycle import pause, unpause
from pvemu.hypervisor.shadow.pv_shadow import PvShadow
from pvemu.memory.heap import OutOfFrames
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging

_TESTS = Path(__file__).parents[1]
_EXAMPLES = _TESTS.parent / "examples"
_OWN_TABLES = Path(__file__).parent / "translated/own_tables.gk"
_OWN_TABLES_PRINT = _OWN_TABLES.parent / "expected/own_tables.txt"
_UNMODIFIED = assemble_file(_EXAMPLES / "unmodified.gk").elf
_UNMODIFIED_PRINTS = _EXAMPLES / "expected/unmodified.txt"
_POOL_PROBE = _TESTS / "guests/by_kind/paging_pool.gk"
_GUESTS = {
    "HVM, nested": (GuestConfig(_UNMODIFIED, memory=8, paging=Paging.NESTED), _UNMODIFIED_PRINTS),
    "HVM, shadow": (GuestConfig(_UNMODIFIED, memory=8, paging=Paging.SHADOW), _UNMODIFIED_PRINTS),
    "auto-translated": (shadowed(_OWN_TABLES), _OWN_TABLES_PRINT),
}


@pytest.mark.parametrize("kind", _GUESTS)
def test_a_guest_goes_its_way_when_nothing_is_left_of_the_machine(kind: str) -> None:
    guest, prints = _GUESTS[kind]
    with Machine([guest], machine_memory=32) as machine:
        Hoard(machine.hypervisor)
        assert machine.run(seconds=5).outcome is Outcome.POWEROFF
        assert machine.console_bytes.decode() == prints.read_text()
        Auditor(machine.hypervisor).audit()


def test_a_guest_whose_writes_are_logged_goes_its_way_when_nothing_is_left_of_the_machine() -> None:
    with Booted(32) as machine:
        domain = machine.boot(0, assemble_file(_OWN_TABLES).elf)
        domain.paging_pool.resize(128)
        shadow = domain.pv_shadow = PvShadow(domain)
        shadow.start()
        Hoard(machine.hypervisor)
        assert machine.run(5000) is End.ALL_DOWN
        assert machine.console.decode().replace("\r", "") == _OWN_TABLES_PRINT.read_text()
        assert shadow.written()
        shadow.shadow.check()
        Auditor(machine.hypervisor).audit()


def test_a_domain_takes_its_pool_when_it_is_made_and_nothing_after_that() -> None:
    with Booted(32) as machine:
        machine.domctl.adopt(0)
        hypervisor = machine.hypervisor
        before = hypervisor.heap.free_frames
        domain = machine.boot(1, with_feature(HOARDER), vcpus=2, paging=Paging.SHADOW)
        after = hypervisor.heap.free_frames
        # xl's rule: 1 MiB for each vCPU, and 8 KiB for each MiB of the domain's.
        assert len(domain.paging_pool) == 2 * 256 + domain.max_pages // 128
        assert before - after == domain.pages + len(domain.paging_pool)
        machine.run(20)
        assert machine.word(domain, "ready") == 1
        assert len(domain.translation.shadow.tables) >= 3
        assert hypervisor.heap.free_frames == after
        machine.domctl.destroy(domain)
        assert hypervisor.heap.free_frames == before


def test_a_pool_is_counted_among_what_a_machine_needs() -> None:
    hello = assemble('guest "waits", target=hvm32\nsection .text\nstart: jmp start').elf
    # With 16 MiB less for the tables a machine of 1024 MiB would do.
    with Machine([GuestConfig(hello, memory=8, vcpus=32), GuestConfig(hello, "b", memory=980)]) as machine:
        sizes = [len(guest.domain.paging_pool) for guest in machine.guests]
        assert sizes == [32 * 256 + 18, 256 + 1962]


def test_setting_memory_aside_stops_when_time_is_up_and_goes_on() -> None:
    elf = assemble_file(_POOL_PROBE, include_paths=[_TESTS / "guests"]).elf
    with Machine(elf, memory=16, machine_memory=44, privileged=True) as machine:
        calls = 0
        while machine.run(seconds=0.00005).outcome is Outcome.DEADLINE:
            calls += 1
        expected = (_TESTS / "golden/guests/by_kind/paging_pool-dom0.txt").read_text()
        assert machine.console_bytes.decode().splitlines() == expected.splitlines()
        # 5000 frames and more come and go several times, each in 200 cycles.
        assert calls > 50
        Auditor(machine.hypervisor).audit()


def test_a_machine_too_small_for_the_pool_says_how_large_it_has_to_be() -> None:
    with pytest.raises(Exception, match=r"needs an even --machine-memory of at least 20 MiB"):
        Machine([GuestConfig(_UNMODIFIED, memory=8)], machine_memory=18)
    with Machine([GuestConfig(_UNMODIFIED, memory=8)], machine_memory=20) as machine:
        assert machine.run(seconds=5).outcome is Outcome.POWEROFF
        with pytest.raises(OutOfFrames):
            machine.domain.paging_pool.resize(100_000)


_GREEDY = """
guest "greedy"
section .text
start:  hypercall memory_op, XENMEM_increase_reservation, request
        cmp eax, 64
        je start
        inc dword [full]
.rest:  hypercall sched_op, SCHEDOP_block, 0
        jmp .rest
section .data
full:   dd 0
request: dd 0, 64, 0, 0, DOMID_SELF
"""


def test_one_that_takes_all_memory_disturbs_nobody() -> None:
    greedy = assemble(_GREEDY)
    plans = [GuestConfig(greedy.elf, "greedy", memory=4)]
    plans += [
        GuestConfig(_UNMODIFIED, paging.value, memory=8, paging=paging)
        for paging in (Paging.NESTED, Paging.SHADOW)
    ]
    plans.append(shadowed(_OWN_TABLES))
    prints = ["", *[_UNMODIFIED_PRINTS.read_text()] * 2, _OWN_TABLES_PRINT.read_text()]
    texts = [bytearray() for _ in plans]
    with Machine(plans, consoles=[text.extend for text in texts], machine_memory=64) as machine:
        hypervisor = machine.hypervisor
        domains = [guest.domain for guest in machine.guests]
        domains[0].max_pages = 1 << 20
        for domain in domains[1:]:
            pause(domain)
        machine.run(seconds=0.01)
        hypervisor.switch_to(domains[0].vcpus[0])
        assert domains[0].memory.read_u32(dict(greedy.symbols)["full"]) == 1
        assert hypervisor.heap.free_frames < 64
        Auditor(hypervisor).audit()
        for domain in domains[1:]:
            unpause(domain)
        machine.run(seconds=2)
        assert [text.decode() for text in texts] == prints
        assert [guest.outcome for guest in machine.guests] == [None, *[Outcome.POWEROFF] * 3]
        # What the others had is free, and nobody has asked for it again.
        pools = sum(len(domain.paging_pool) for domain in domains[1:])
        assert pools == 0
        assert hypervisor.heap.free_frames > (8 + 8 + 16) * 256
        Auditor(hypervisor).audit()
