"""Ordinary PV guests on shadows of their tables notice nothing, and every page they write is in the log."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guestkit import assemble_file
from pvemu.hypervisor.core import End
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.shadow.pv_shadow import PvShadow
from pvemu.memory.frames import PGT_L1, PGT_L2, PGT_L3

_TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_TESTS / "hypervisor"))
from booted import Booted  # noqa: E402  it is the machine of the tests in that folder

_PROBES, _GOLDEN = _TESTS / "guests", _TESTS / "golden/guests"
_EXAMPLES = _TESTS.parent / "examples"
_NAMES = sorted(path.stem for path in _GOLDEN.glob("*.txt"))
_SLICE = 0.2  # ms
_WATCHED = 200  # slices


@pytest.fixture
def machine() -> Iterator[Booted]:
    with Booted() as machine:
        yield machine


def _probe(name: str) -> bytes:
    return assemble_file(_PROBES / f"{name}.gk").elf


def _shadow(domain: Domain, frames: int = 256) -> PvShadow:
    """Put a domain on shadows, with so many frames for them."""
    domain.paging_pool.resize(frames)
    return PvShadow(domain)


def _contents(machine: Booted, domain: Domain) -> dict[int, bytes]:
    """Every frame of a domain that has a pfn, but for those that the hypervisor writes by itself."""
    hypervisor = machine.hypervisor
    own = {vcpu.info_frame for vcpu in domain.vcpus} | set(domain.written_pages)
    return {
        mfn: bytes(hypervisor.ram.frame(mfn))
        for mfn, owner in enumerate(hypervisor.frames.owner)
        if owner == domain.domid and hypervisor.m2p.get(mfn) < 1 << 31 and mfn not in own
    }


def _check_that_only_tables_are_shadowed(machine: Booted, domain: Domain) -> None:
    """What a guest has written to a page that is no table must never be in a shadow."""
    frames, own = machine.hypervisor.frames, {mfn for vcpu in domain.vcpus for mfn in vcpu.own_frames}
    assert domain.pv_shadow is not None
    for mfn in domain.pv_shadow.shadow.tables.by_gfn:
        is_table = frames.type[mfn] in (PGT_L1, PGT_L2, PGT_L3) and frames.validated[mfn]
        assert mfn in own or (is_table and frames.type_count[mfn]), frames.describe(mfn)


@pytest.mark.parametrize("frames", [50, 1024], ids=["few frames", "many frames"])
@pytest.mark.parametrize("name", _NAMES)
def test_a_guest_on_shadows_prints_what_it_prints_on_real_xen(
    machine: Booted, name: str, frames: int
) -> None:
    domain = machine.boot(0, _probe(name), memory=16)
    domain.pv_shadow = _shadow(domain, frames)
    assert machine.run(10_000) is End.ALL_DOWN
    assert machine.console.decode().splitlines() == (_GOLDEN / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize("name", _NAMES)
def test_every_page_that_changes_is_in_the_log(machine: Booted, name: str) -> None:
    domain = machine.boot(0, _probe(name), memory=16)
    shadow = domain.pv_shadow = _shadow(domain)
    shadow.start()
    for _ in range(_WATCHED):
        before = _contents(machine, domain)
        end = machine.run(_SLICE)
        after = _contents(machine, domain)
        changed = {mfn for mfn in before.keys() & after.keys() if before[mfn] != after[mfn]}
        assert {machine.hypervisor.m2p.get(mfn) for mfn in changed} <= shadow.written()
        shadow.shadow.check()
        _check_that_only_tables_are_shadowed(machine, domain)
        shadow.clean(1 << 31)
        assert shadow.written() == set()
        if end is End.ALL_DOWN:
            break
    else:  # a guest that waits for much of its time
        assert machine.run(10_000) is End.ALL_DOWN
    assert machine.console.decode().splitlines() == (_GOLDEN / f"{name}.txt").read_text().splitlines()


_FAULTS = """
guest "faults"
include "start.gk"
include "print.gk"
include "traps.gk"
macro fault flags, access
        mov eax, [start_info_address]
        mov eax, [eax + start_info.mfn_list]
        mov ecx, page - 0xC0000000
        shr ecx, 12
        mov ecx, [eax + ecx*4]
        shl ecx, 12
        or ecx, flags
        hypercall update_va_mapping, page, 0:ecx, UVMF_INVLPG
        attempt {call access}
        mov eax, [trap_error]
        call print_decimal
        print " "
endmacro
section .text
main:
        call traps_open
        fault 1, write_page
        fault 0x21, write_page
        fault 0, write_page
        fault 0, read_page
        ret
write_page:
        mov [page], eax
        ret
read_page:
        mov eax, [page]
        ret
section .data
align 4096
page:   reserve 4096, 0
"""


def test_a_guest_sees_the_error_codes_of_its_own_tables(machine: Booted) -> None:
    domain = machine.boot(0, _FAULTS)
    domain.pv_shadow = _shadow(domain)
    assert machine.run(10_000) is End.ALL_DOWN
    assert machine.console.decode().split() == ["3", "3", "2", "0"]


def test_shadows_come_and_go_while_a_guest_runs(machine: Booted) -> None:
    free = machine.hypervisor.heap.free_frames
    domain = machine.boot(0, assemble_file(_EXAMPLES / "cow.gk").elf, memory=16)
    taken = free - machine.hypervisor.heap.free_frames
    for number in range(1000):
        if number % 2:
            assert domain.pv_shadow is not None
            domain.pv_shadow.release()
            domain.pv_shadow = None
            assert domain.pages <= taken
        else:
            domain.pv_shadow = _shadow(domain)
        if machine.run(0.05) is End.ALL_DOWN:
            break
    expected = (_EXAMPLES / "expected/cow.txt").read_text().splitlines()
    assert machine.console.decode().splitlines() == expected


def test_two_processors_of_a_guest_have_roots_of_their_own(machine: Booted) -> None:
    domain = machine.boot(0, assemble_file(_EXAMPLES / "smp.gk").elf, vcpus=2, memory=16)
    shadow = domain.pv_shadow = _shadow(domain)
    shadow.start()
    assert machine.run(10_000) is End.ALL_DOWN
    assert machine.console.decode().splitlines() == (_EXAMPLES / "expected/smp.txt").read_text().splitlines()
    assert len({vcpu.processor_root for vcpu in domain.vcpus}) == 2


def test_a_domain_that_is_destroyed_gives_the_frames_of_its_shadows_back(machine: Booted) -> None:
    machine.domctl.adopt(0)
    free = machine.hypervisor.heap.free_frames
    domain = machine.boot(1, _probe("linear_maps"))
    shadow = domain.pv_shadow = _shadow(domain, 1024)
    shadow.start()
    machine.run(1)
    machine.domctl.destroy(domain)
    machine.run(1)
    assert machine.hypervisor.heap.free_frames == free
    assert machine.hypervisor.pv_shadows == ()
