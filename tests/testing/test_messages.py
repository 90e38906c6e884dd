"""Domains say anything to xenstored: nothing forbidden happens, no watch event is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvemu.abi import xs_wire
from pvemu.services.xenstore import watches
from pvemu.services.xenstore.permissions import ALL_RIGHTS
from pvemu.testing.hypercall_machine import XENSTORE, HypercallMachine
from pvemu.testing.messages import LATEST, Message
from pvemu.testing.program import Outcome, Program, Step
from pvemu.testing.program_text import ProgramError, read_program, write_program
from pvemu.testing.stage import stage_for
from pvemu.testing.store_end import NO_ANSWER
from pvemu.testing.store_witness import StoreWitness
from pvemu.testing.strategies import messages
from tests.testing.test_program_source import printed_results

IS_NIGHTLY = settings.default is not None and settings.default.max_examples > 50
SOME = st.lists(st.integers(0, 1).flatmap(lambda domain: messages(domain=domain)), min_size=1, max_size=12)


class Saying(HypercallMachine):
    """Three domains that say anything, while they also ring and grant."""

    domains = 3
    families = (XENSTORE, "event_channel_op", "grant_table_op")


TestSaying = Saying.TestCase
TestSaying.settings = settings(max_examples=400 if IS_NIGHTLY else 8, stateful_step_count=25)


def said(kind: int, payload: str = "\0", transaction: int = 0, domain: int = 0, times: int = 1) -> Step:
    return Step(domain, None, (), (), "said", Message(kind, transaction, payload, None, times))


def results(*steps: Step) -> list[int | None]:
    return [outcome.result for outcome in stage_for(2).run(Program(2, steps))]


# --- what comes of messages -----------------------------------------------------------------------


def test_what_is_written_is_read_by_who_may() -> None:
    assert results(
        said(xs_wire.XS_WRITE, "data/a\0word"),
        said(xs_wire.XS_READ, "data/a\0"),
        said(xs_wire.XS_READ, "/local/domain/{peer}/data/a\0", domain=1),
        said(xs_wire.XS_SET_PERMS, "data/a\0n{own}\0r{peer}\0"),
        said(xs_wire.XS_READ, "/local/domain/{peer}/data/a\0", domain=1),
        said(xs_wire.XS_WRITE, "/local/domain/{peer}/data/a\0other", domain=1),
    ) == [3, 4, -13, 3, 4, -13]


def test_a_transaction_that_others_have_overtaken_is_to_be_done_again() -> None:
    assert results(
        said(xs_wire.XS_WRITE, "data/a\0before"),
        said(xs_wire.XS_TRANSACTION_START),
        said(xs_wire.XS_READ, "data/a\0", LATEST),
        said(xs_wire.XS_WRITE, "data/a\0meanwhile"),
        said(xs_wire.XS_WRITE, "data/a\0inside", LATEST),
        said(xs_wire.XS_TRANSACTION_END, "T\0", LATEST),
    ) == [3, 2, 6, 3, 3, -11]


def test_quotas_end_what_is_done_too_often() -> None:
    nodes, watched = results(
        said(xs_wire.XS_WRITE, "data/n#\0x", times=1010), said(xs_wire.XS_WATCH, "data\0t#\0", times=135)
    )
    assert (nodes, watched) == (-28, -7)


def test_a_message_without_its_end_is_not_answered() -> None:
    step = Step(0, None, (), (), "said", Message(xs_wire.XS_READ, 0, "data\0", 40))
    assert results(step) == [NO_ANSWER]


# --- the same as source, and as text ----------------------------------------------------------------


@settings(max_examples=6)
@given(st.lists(messages(domain=0), min_size=1, max_size=8))
def test_a_guest_that_says_the_same_hears_the_same(steps: list[Step]) -> None:
    program = Program(1, tuple(step for step in steps if step.message is None or step.message.times < 50))
    stage = stage_for(1)
    wanted = [(outcome.step.title, outcome.result, 0) for outcome in stage.run(program)]
    assert printed_results(stage, program) == [wanted]


@given(SOME)
@settings(max_examples=40)
def test_messages_are_read_back_from_text(steps: list[Step]) -> None:
    program = Program(2, tuple(steps))
    assert read_program(write_program(program)) == program


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ('XS_NOTHING, 0, ""', "there is no message 'XS_NOTHING'"),
        ("XS_READ, 0", "a message reads"),
        ('XS_READ, 0, "\\\\q"', "is no text"),
        ('XS_READ, 0, "\\\\u1234"', "4096 bytes at most"),
        ('XS_READ, 0, "", times = 0', "sent 1 to 2000 times"),
    ],
)
def test_what_is_no_message_has_an_error(arguments: str, wrong: str) -> None:
    with pytest.raises(ProgramError, match=f"line 2: .*{wrong}"):
        read_program(f'program of 1 domain\nd0 "x" xenstore({arguments})\n'.replace("\\\\", "\\"))


# --- a store with a bug in it -----------------------------------------------------------------------


def witnessed(*steps: Step) -> list[Outcome]:
    stage = stage_for(2)
    found = []
    for step in steps:
        witness = StoreWitness(stage)
        found.append(stage.take(step))
        witness.check(found[-1])
    return found


def test_a_store_that_lets_everybody_write_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (
        said(xs_wire.XS_WRITE, "data/a\0mine"),
        said(xs_wire.XS_WRITE, "/local/domain/{peer}/data/a\0yours", domain=1),
    )
    witnessed(*steps)
    monkeypatch.setattr("pvemu.services.xenstore.tree.rights_of", lambda _subject, _permissions: ALL_RIGHTS)
    with pytest.raises(AssertionError, match="has changed /local/domain/1/data/a"):
        witnessed(*steps)


def test_a_store_that_forgets_a_watch_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (said(xs_wire.XS_WATCH, "data\0mine\0"), said(xs_wire.XS_WRITE, "data/a\0news"))
    witnessed(*steps)
    monkeypatch.setattr(watches, "_may_know", lambda *_: False)
    with pytest.raises(AssertionError, match="was not told of /local/domain/1/data/a"):
        witnessed(*steps)
