"""HVM guests that use Xen's interface find what real Xen 4.17 gives them, in both ways of paging.

Real Xen could not be asked (docs/differences.md): the texts are what its source says.
"""

from pathlib import Path
from typing import Any

import pytest
from company import plan, play

from pvemu.toolstack.guest_kind import GuestKind, Paging
from pvemu.toolstack.machine import Outcome

FOLDER = Path(__file__).resolve().parent
VCPUS = {"waiting": 2, "long_vcpu": 2}
KINDS = {"only_vectors": GuestKind.PVH}


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.gk")))
def test_a_guest_finds_what_it_is_to_find(name: str, paging: Paging, machine_options: Any) -> None:
    guest = plan(FOLDER / f"{name}.gk", kind=KINDS.get(name), paging=paging, vcpus=VCPUS.get(name, 1))
    played = play(guest, machine_options=machine_options)
    assert played.texts[0].splitlines() == (FOLDER / f"{name}.txt").read_text().splitlines()
    assert played.result.outcome is Outcome.POWEROFF
