"""Whatever domains ask of the hypervisor, all invariants hold; and a user's own machine is a short class."""

from hypothesis import settings
from hypothesis.stateful import rule

from pvemu.testing.hypercall_machine import HypercallMachine

IS_NIGHTLY = settings.default is not None and settings.default.max_examples > 50
CAMPAIGN = settings(max_examples=2000 if IS_NIGHTLY else 25, stateful_step_count=60 if IS_NIGHTLY else 30)


class Everything(HypercallMachine):
    """Two domains, and every hypercall that there is."""

    checks_each_step = False


class Privileged(HypercallMachine):
    """Domain 0, which may do much more."""

    domains = 1
    privileged = True
    checks_each_step = False


class Sharing(HypercallMachine):
    """Three domains that grant, map, ring and manage memory, looked at after each step."""

    domains = 3
    families = (
        "event_channel_op",
        "grant_table_op",
        "memory_op",
        "mmu_update",
        "mmuext_op",
        "update_va_mapping",
    )

    @rule()
    def yield_the_processor(self) -> None:
        for puppet in self.stage.puppets:
            if puppet.is_alive:
                assert puppet.call("sched_op", 0, 0) == 0


TestEverything = Everything.TestCase
TestEverything.settings = CAMPAIGN
TestPrivileged = Privileged.TestCase
TestPrivileged.settings = CAMPAIGN
TestSharing = Sharing.TestCase
TestSharing.settings = settings(CAMPAIGN, max_examples=CAMPAIGN.max_examples // 2)


def test_a_subclass_has_rules_for_its_families_only() -> None:
    assert callable(Sharing.mmu_update)  # type: ignore[attr-defined]
    assert Sharing.set_gdt is None  # type: ignore[attr-defined]
    assert callable(Everything.set_gdt)  # type: ignore[attr-defined]
