"""The audit notices whatever is wrong with a frame, and says which one and how."""

from collections.abc import Callable, Iterator

import pytest
from two_domains import TwoDomains

from pvemu.abi import xen
from pvemu.hypervisor.audit import AuditError, Auditor
from pvemu.memory.frames import PGT_L2, Frames

_NOBODY = 7


@pytest.fixture
def machine() -> Iterator[TwoDomains]:
    with TwoDomains(pool=8) as machine:
        yield machine


def _one_reference_more(frames: Frames, l1: int) -> None:
    frames.count[l1] += 1


def _one_use_less(frames: Frames, l1: int) -> None:
    frames.type_count[l1] -= 1


def _another_type(frames: Frames, l1: int) -> None:
    frames.type[l1] = PGT_L2


def _never_validated(frames: Frames, l1: int) -> None:
    frames.validated[l1] = 0


def _a_linear_map(frames: Frames, l1: int) -> None:
    frames.linear[l1] = 1


def _not_known_as_an_l1(frames: Frames, l1: int) -> None:
    del frames.l1_owner[l1]


def _the_l1_of_another(frames: Frames, l1: int) -> None:
    frames.l1_owner[l1] = _NOBODY


def _an_l1_that_is_none(frames: Frames, l1: int) -> None:
    frames.l1_owner[l1 + 1] = frames.owner[l1 + 1]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_one_reference_more, "found 2 references"),
        (_one_use_less, "1 uses of its type"),
        (_another_type, "taken for an L1 of domain 1"),
        (_never_validated, "never validated"),
        (_a_linear_map, "linear count 1, found 0"),
        (_not_known_as_an_l1, "not known as the L1 that it is"),
        (_the_l1_of_another, f"taken for an L1 of domain {_NOBODY}"),
        (_an_l1_that_is_none, "taken for an L1 of domain 1"),
    ],
)
def test_whatever_is_wrong_with_a_frame_is_found(
    machine: TwoDomains, damage: Callable[[Frames, int], None], complaint: str
) -> None:
    guest = machine.guests[1]
    l1 = guest.pool[0]
    at = machine.put(
        guest, xen.MMUEXT_PIN_L1_TABLE.to_bytes(4, "little") + l1.to_bytes(4, "little") + bytes(4)
    )
    assert machine.call(guest, "mmuext_op", at, 1, 0, xen.DOMID_SELF) == 0
    auditor = Auditor(machine.hypervisor)
    auditor.audit()
    damage(machine.hypervisor.frames, l1)
    with pytest.raises(AuditError, match=complaint) as found:
        auditor.audit()
    assert f"{l1:x}" in str(found.value) or f"{l1 + 1:x}" in str(found.value)
