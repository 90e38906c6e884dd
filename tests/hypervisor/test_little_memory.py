"""A machine with too little memory for a domain says so, whenever it is used up, and gets everything back."""

from typing import Any

import pytest
from booted import Booted
from hoard import Hoard
from hypothesis import given, settings
from hypothesis import strategies as st

from guestkit import assemble
from pvemu.abi.errors import PvemuError
from pvemu.hypervisor.audit import Auditor
from pvemu.testing import Invariants, Program, programs
from pvemu.testing.stage import stage_for
from pvemu.toolstack.domain_builder import build_domain
from pvemu.toolstack.guest_kind import GuestKind, Paging

_PAGES = 1280
_PV = assemble('guest "waits"\nsection .text\nstart: jmp start').elf
_TRANSLATED = assemble(
    'guest "waits", features="auto_translated_physmap|writable_page_tables|writable_descriptor_tables"\n'
    "section .text\nstart: jmp start"
).elf
_HVM = assemble('guest "waits", target=hvm32\nsection .text\nstart: jmp start').elf
_KINDS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "PV": (_PV, {}),
    "auto-translated": (_TRANSLATED, {"paging": Paging.SHADOW}),
    "HVM, nested": (_HVM, {"paging": Paging.NESTED, "kind": GuestKind.HVM}),
    "HVM, shadow": (_HVM, {"paging": Paging.SHADOW, "kind": GuestKind.HVM}),
    "PVH": (_HVM, {"kind": GuestKind.PVH}),
}
#: Hypercalls that take memory, or give some back.
_FAMILIES = (
    *("memory_op", "grant_table_op", "event_channel_op", "vcpu_op", "mmu_update", "mmuext_op", "domctl"),
    *("physdev_op", "set_gdt", "update_va_mapping"),
)


def _build(machine: Booted, kind: str) -> None:
    image, options = _KINDS[kind]
    build_domain(machine.domctl, 1, image, pages=_PAGES, privileged=False, vcpus=2, **options)


def _free(machine: Booted) -> tuple[int, int]:
    return machine.hypervisor.heap.free_frames, machine.hypervisor.free_xen_frames


def _destroy(machine: Booted) -> None:
    domain = machine.hypervisor.domains.get(1)
    if domain is not None:
        machine.domctl.destroy(domain)


@pytest.mark.parametrize("kind", _KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_domain_for_which_memory_runs_out_is_refused_and_leaves_nothing(
    kind: str, data: st.DataObject
) -> None:
    with Booted(32) as machine:
        hypervisor = machine.hypervisor
        machine.domctl.adopt(0)
        Hoard(hypervisor, hypervisor.heap.free_frames)
        before = _free(machine)
        _build(machine, kind)
        needed = before[0] - _free(machine)[0]
        _destroy(machine)
        assert _free(machine) == before
        left = data.draw(st.integers(0, needed - 1) | st.integers(max(needed - 40, 0), needed - 1))
        Hoard(hypervisor, left)
        with pytest.raises(PvemuError):
            _build(machine, kind)
        _destroy(machine)
        assert _free(machine) == (left, 0)
        Auditor(hypervisor).audit()


@pytest.mark.parametrize("privileged", [False, True], ids=["domUs", "dom0"])
@settings(max_examples=120)
@given(data=st.data(), left=st.integers(0, 4))
def test_hypercalls_for_which_memory_runs_out_fail_and_break_nothing(
    privileged: bool, data: st.DataObject, left: int
) -> None:
    domains = 1 if privileged else 2
    program: Program = data.draw(programs(_FAMILIES, domains=domains, quality="good", most_steps=12))
    stage = stage_for(domains, privileged=privileged)
    invariants = Invariants(stage.machine, stage.puppets)
    Hoard(stage.hypervisor, left)
    for step in program.steps:
        stage.take(step)
    invariants.check()
