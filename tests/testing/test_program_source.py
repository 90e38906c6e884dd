"""A program printed as guestkit source does as a guest's own code what it did when a test made its calls."""

from hypothesis import given, settings

from guestkit import assemble
from pvemu import Machine, Outcome
from pvemu.testing.program import Program
from pvemu.testing.program_strategies import programs
from pvemu.testing.source import GUEST_MEMORY
from pvemu.testing.stage import Stage, stage_for
from pvemu.toolstack.guest_config import GuestConfig

#: What tells no times, and leaves the guest its memory and its turn.
FAMILIES = (
    "event_channel_op",
    "grant_table_op",
    "mmu_update",
    "update_va_mapping",
    "update_va_mapping_otherdomain",
    "memory_op",
    "xen_version",
    "vm_assist",
    "set_gdt",
    "update_descriptor",
    "get_debugreg",
)


def printed_results(stage: Stage, program: Program) -> list[list[tuple[str, int, int]]]:
    """Run the sources; what each guest reports: name, result, and what else Xen wrote."""
    texts = [bytearray() for _ in range(program.domains)]
    plans = [
        GuestConfig(assemble(text).elf, name=f"d{number}", memory=GUEST_MEMORY)
        for number, text in enumerate(stage.sources(program))
    ]
    with Machine(
        plans, machine_memory=stage.machine_memory, consoles=[text.extend for text in texts]
    ) as machine:
        assert machine.run(10).outcome is Outcome.POWEROFF
    reports = []
    for text in texts:
        *lines, end = text.decode().split("\n")[:-1]
        assert end == "end"
        words = [line.split() for line in lines]
        reports.append([(name, int(result), int(told)) for _, name, result, _, told in words])
    return reports


@settings(max_examples=12)
@given(programs(FAMILIES, domains=1, quality="mixed", most_steps=8))
def test_one_domains_program_has_the_same_results_as_source(program: Program) -> None:
    check(program)


@settings(max_examples=12)
@given(programs(FAMILIES, domains=2, quality="good", most_steps=8))
def test_two_domains_take_their_steps_in_the_same_order_as_source(program: Program) -> None:
    check(program)


def check(program: Program) -> None:
    stage = stage_for(program.domains)
    outcomes = stage.run(program)
    if not all(puppet.is_alive for puppet in stage.puppets):
        return
    wanted = [
        [
            (outcome.step.title, outcome.result, signed(outcome.told))
            for outcome in outcomes
            if outcome.step.domain == number and outcome.result is not None
        ]
        for number in range(program.domains)
    ]
    assert printed_results(stage, program) == wanted


def signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
