"""A hypervisor with a bug in it is found out by the kit, within seconds, in few steps."""

import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pvemu.hypervisor.event_2l import TwoLevel
from pvemu.hypervisor.pv.page_types import PageTypes
from pvemu.memory.frames import PGT_WRITABLE
from pvemu.memory.guest import GuestFault, GuestMemory
from pvemu.memory.page_tables import WRITABLE, walk
from pvemu.testing.hypercall_machine import HypercallMachine
from pvemu.testing.stage import forget_stages, stage_for
from pvemu.testing.strategies import Quality

MOST_STEPS = 9
MOST_SECONDS = 60
SEARCH = settings(
    max_examples=3000,
    stateful_step_count=12,
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    phases=(Phase.generate,),  # the kit's own shrinking is made for programs
    suppress_health_check=list(HealthCheck),
)

Plant = Callable[[pytest.MonkeyPatch], None]


def miss_a_type_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame is given a writable use although it is a page table."""
    sound = PageTypes.get_page_type

    def get_page_type(self: PageTypes, mfn: int, kind: int, *, xen_l2: bool = False) -> int:
        if kind == PGT_WRITABLE and self._frames.type_count[mfn]:
            self._frames.type_count[mfn] += 1
            return 0
        return sound(self, mfn, kind, xen_l2=xen_l2)

    monkeypatch.setattr(PageTypes, "get_page_type", get_page_type)


def leak_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that was mapped to be read keeps its reference when it is mapped no more."""
    sound = PageTypes.put_page_from_l1e

    def put_page_from_l1e(self: PageTypes, entry: int) -> None:
        if entry & WRITABLE:
            sound(self, entry)

    monkeypatch.setattr(PageTypes, "put_page_from_l1e", put_page_from_l1e)


def lose_an_upcall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vCPU that has masked upcalls is not told at all, not even for later."""
    sound = TwoLevel._make_set_pending

    def make_set_pending(self: TwoLevel) -> Callable[[int], None]:
        set_pending = sound(self)
        domain = self._domain
        u8 = domain.hypervisor.ram.u8

        def without_upcall(port: int) -> None:
            info = domain.vcpus[domain.channels[port].vcpu].info
            before = u8[info]
            set_pending(port)
            if u8[info + 1]:
                u8[info] = before

        return without_upcall

    monkeypatch.setattr(TwoLevel, "_make_set_pending", make_set_pending)


def copy_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Xen writes for a guest goes wherever the guest's pointer leads."""

    sound = GuestMemory._translate

    def translate(self: GuestMemory, address: int, right: int) -> int:
        if right != WRITABLE:
            return sound(self, address, right)
        found = None if self._root is None else walk(self._ram, self._form, self._root, address)
        if found is None or found.address >= self._ram.size:
            raise GuestFault(address)
        return found.address & ~0xFFF

    monkeypatch.setattr(GuestMemory, "_translate", translate)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Plant], None]]:
    """Put a bug into every machine that is made from now on, and take it out in the end."""

    def put(bug: Plant) -> None:
        forget_stages()
        bug(monkeypatch)

    yield put
    forget_stages()


@pytest.mark.parametrize(
    ("bug", "touched", "quality_of_calls", "said"),
    [
        (miss_a_type_check, ("update_va_mapping", "mmu_update", "mmuext_op"), "mixed", "at once"),
        (leak_a_reference, ("update_va_mapping", "mmu_update", "mmuext_op"), "mixed", "references"),
        (lose_an_upcall, ("event_channel_op",), "good", "no upcall is"),
        (copy_without_looking, ("xen_version",), "mixed", "hypervisor's own memory"),
    ],
)
def test_a_planted_bug_is_found_and_shrunk_to_few_steps(
    plant: Callable[[Plant], None], bug: Plant, touched: tuple[str, ...], quality_of_calls: Quality, said: str
) -> None:
    plant(bug)

    class Search(HypercallMachine):
        checks_each_step = False
        families = touched
        quality = quality_of_calls

    began = time.process_time()
    with pytest.raises(AssertionError, match=said):
        run_state_machine_as_test(Search, settings=SEARCH)
    assert Search.last_failure is not None
    shortest = Search.shrink(Search.last_failure)
    took = time.process_time() - began
    assert took < MOST_SECONDS
    assert 0 < len(shortest.steps) <= MOST_STEPS
    source = stage_for(Search.domains).listing(shortest)
    assert source.count("hypercall ") == sum(step.call is not None for step in shortest.steps)
