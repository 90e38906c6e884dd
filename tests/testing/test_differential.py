"""The same programs on two machines: what is the same is not told, what differs is, in the fewest steps."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings

from guestkit import assemble
from pvemu.abi.memory import XENMEM_access_op
from pvemu.hypervisor import memory_op
from pvemu.testing.differential.comparison import UNCHANGED, compare
from pvemu.testing.differential.expected import expected
from pvemu.testing.differential.generation import generated
from pvemu.testing.differential.judges import ByCommand, Ourselves
from pvemu.testing.differential.observing_guest import observing_source
from pvemu.testing.differential.portable import portable
from pvemu.testing.differential.search import Contest
from pvemu.testing.differential.transcript import FRAMES, Told, read_transcript
from pvemu.testing.grammar import FAMILIES
from pvemu.testing.program import Program
from pvemu.testing.program_strategies import programs
from pvemu.testing.program_text import read_program
from pvemu.toolstack.cli import WRONG_USE, main

ROOT = Path(__file__).parents[2]
ONE_STEP = """\
program of 1 domain
d0 "mask"
    or shared_info at shared_info_page: evtchn_mask[0] = 64
d0 "vm_assist" vm_assist(0, 1)
d0 "XENMEM_access_op" memory_op(XENMEM_access_op, &list)
    words at list: 0 = 0x10008, 1 = 3
d0 "vm_assist" vm_assist(1, 1)
"""
MAPPING = """\
program of 1 domain
d0 "map" update_va_mapping(&pages + 4096, <page 2>:0x63, 0)
d0 "increase" memory_op(XENMEM_increase_reservation, &request)
"""
HELLO = """\
guest "hello"
include "start.gk"
include "print.gk"

section .text
main:
    print "one\\ntwo\\n"
    ret
"""


@contextmanager
def without_access_op() -> Iterator[None]:
    """A hypervisor that does not know one command."""
    sound = memory_op._OTHERS[XENMEM_access_op]
    memory_op._OTHERS[XENMEM_access_op] = lambda _vcpu, _argument: -38
    try:
        yield
    finally:
        memory_op._OTHERS[XENMEM_access_op] = sound


class Lacking:
    """A machine with that hypervisor."""

    def run(self, elf: bytes) -> str:
        with without_access_op():
            return Ourselves().run(elf)


def reference(folder: Path, body: str) -> str:
    """A command that has the guest's file as its last argument."""
    script = folder / "reference.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from pvemu.testing.differential.judges import Ourselves\n"
        "elf = Path(sys.argv[-1]).read_bytes()\n" + body
    )
    return f"{sys.executable} {script} --some-option"


HONEST = "print(Ourselves().run(elf))\n"


# --- comparing ----------------------------------------------------------------------------------


def test_a_difference_is_found_behind_others_and_shown_in_one_step() -> None:
    contest = Contest(Ourselves(), Lacking())
    some = [read_program(MAPPING), read_program(ONE_STEP)]
    same, differs = contest.compare(some)
    assert not same.differences and same.is_told
    first = differs.differences[0]
    assert (first.number, first.step.title, first.what) == (2, "XENMEM_access_op", "result")
    assert (first.ours, first.theirs) == ("-1 (EPERM)", "-38 (ENOSYS)")
    shortest = contest.shorten(differs, 3)
    assert [step.title for step in shortest.program.steps] == ["XENMEM_access_op"]
    assert shortest.stands_alone


def test_two_runs_of_one_machine_say_the_same_of_any_program() -> None:
    contest = Contest(Ourselves(), Ourselves())
    some = list(islice(generated(7, FAMILIES), 12))
    assert all(each.is_told and not each.differences for each in contest.compare(some))


def test_a_seed_has_always_the_same_programs() -> None:
    assert list(islice(generated(3, FAMILIES), 20)) == list(islice(generated(3, FAMILIES), 20))
    assert list(islice(generated(3, FAMILIES), 20)) != list(islice(generated(4, FAMILIES), 20))


# --- what is the same, and what is not ------------------------------------------------------------


def told(first_frame: int, *lines: str) -> Told:
    """What a machine says whose frames begin somewhere."""
    frames = " ".join(f"{first_frame + number:x}" for number in range(len(FRAMES)))
    return read_transcript("\n".join(["booting", f"P 0 {frames}", *lines, "D"]))[0]


def difference(ours: str, theirs: str) -> list[tuple[str, str, str]]:
    """What differs in a step that changes an entry, on machines whose frames begin at 0x300 and 0x3f900."""
    program = Program(1, read_program(MAPPING).steps[:1])
    found = compare(program, told(0x300, "S 0", ours), told(0x3F900, "S 0", theirs))
    return [(each.what, each.ours, each.theirs) for each in found.differences]


def test_frames_are_the_same_by_what_they_are() -> None:
    assert difference("R 0 t8=302063", "R 0 t8=3f902063") == []
    assert difference("R 0 t8=302063", "R 0 t8=3f903063") == [("entry of page 1", "page 2:0x3", "page 3:0x3")]


def test_what_the_processor_sets_in_an_entry_is_no_difference_but_rights_are() -> None:
    assert difference("R 0 t8=302003", "R 0 t8=3f902063") == []
    assert difference("R 0 t8=302061", "R 0 t8=3f902063") == [("entry of page 1", "page 2:0x1", "page 2:0x3")]


def test_a_change_on_one_side_alone_and_another_result_are_differences() -> None:
    assert difference("R 0 e4=8", "R ffffffea") == [
        ("result", "0", "-22 (EINVAL)"),
        ("evtchn_pending[1]", "8", UNCHANGED),
    ]


def test_a_guest_that_ends_in_a_step_differs_from_one_that_goes_on() -> None:
    [(what, _, theirs)] = difference("R 0", "(XEN) crash")
    assert what == "result" and "ended" in theirs


def test_what_is_expected_is_told_with_its_reason_and_no_difference() -> None:
    program = Program(1, read_program(MAPPING).steps[1:])
    titled = portable(program)
    found = compare(titled, told(0x300, "S 0", "R 1 l0=77"), told(0x3F900, "S 0", "R 1 l0=99"))
    assert not found.differences
    assert [each.reason for each in found.expected] == ["frames that the domain has got"]
    assert expected("XENMEM_increase_reservation", "result") is None


# --- programs that mean the same everywhere -------------------------------------------------------


@settings(max_examples=25)
@given(programs(domains=1, quality="hostile", endings=False))
def test_any_program_can_be_made_one_that_needs_to_know_no_machine(program: Program) -> None:
    made = portable(program)
    assert portable(made) == made
    assemble(observing_source([made, made]))


# --- the verb -------------------------------------------------------------------------------------


def test_the_verb_tells_that_both_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = reference(tmp_path, HONEST)
    options = ["--programs", "3", "--families", "event_channel_op,xen_version", "-v"]
    assert main(["differential", "--reference-command", command, *options]) == 0
    said = capsys.readouterr().out
    assert "3 programs with" in said and "say the same" in said and "never made: EVTCHNOP_reset" in said


def test_the_verb_shows_a_difference_as_a_program_that_shows_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.steps"
    file.write_text(ONE_STEP)
    command = reference(tmp_path, HONEST)
    with without_access_op():
        assert main(["differential", "--reference-command", command, "--trials", "3", str(file)]) == 1
    said = capsys.readouterr().out
    assert "result: pvemu -38 (ENOSYS), reference -1 (EPERM)" in said
    assert "1 step shows it" in said and 'guest "steps of d0"' in said
    shown = read_program(said[said.index("program of 1") : said.index("As guestkit")])
    assert [step.title for step in shown.steps] == ["XENMEM_access_op"]


def test_any_guest_is_compared_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hello.gk"
    file.write_text(HELLO)
    command = reference(tmp_path, HONEST)
    assert main(["differential", "--reference-command", command, str(file)]) == 0
    other = reference(tmp_path, "print(Ourselves().run(elf).replace('two', 'three'))\n")
    assert main(["differential", "--reference-command", other, str(file)]) == 1
    said = capsys.readouterr().out
    assert "differs in line 2" in said and "two" in said and "three" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say with --reference-command"),
        (["--reference-command", "/no/such/command"], "can't be started"),
        (["--reference-command", "'"], "is no command"),
        (["--reference-command", "true"], "printed nothing (exit status 0)"),
        (["--reference-command", "echo no guest"], "did not run the guest: no guest"),
        (
            ["--reference-command", "sh -c 'exec tail -f /dev/null'", "--timeout", "0.2"],
            "took more than 0.2 s",
        ),
        (["--reference-command", "true", "--timeout", "0"], "--timeout is in seconds"),
        (["--reference-command", "true", "--timeout", "nan"], "--timeout is in seconds"),
        (["--reference-command", "true", "--timeout", "inf"], "--timeout is in seconds"),
        (["--reference-command", "true", "--memory", "0"], "can't have 0 MiB"),
        (["--reference-command", "true", "--families", "no_such_op"], "no hypercall 'no_such_op'"),
        (["--reference-command", "true", "--programs", "0"], "--programs is at least 1"),
        (["--reference-command", "true", "/no/such/file"], "/no/such/file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PVEMU_REFERENCE_COMMAND", raising=False)
    tail = [] if {"--programs", "/no/such/file"} & set(options) else ["--programs", "1"]
    assert main(["differential", *options, *tail]) == WRONG_USE
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_guest_that_does_not_end_there_is_heard_as_far_as_it_came(tmp_path: Path) -> None:
    program = tmp_path / "boot"
    program.write_text("#!/bin/sh\necho begun\nexec tail -f /dev/null\n")
    program.chmod(0o755)
    assert ByCommand(str(program), 0.5).run(b"") == "begun\n"


def test_a_program_of_several_domains_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "two.steps"
    file.write_text('program of 2 domains\nd1 "x" vm_assist(0, 0)\n')
    assert main(["differential", "--reference-command", "true", str(file)]) == WRONG_USE
    assert "one guest at a time" in capsys.readouterr().err
