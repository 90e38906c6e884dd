"""A program that is written as text and read back is the same program; other text has a clear error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvemu.testing.program import Program
from pvemu.testing.program_strategies import programs
from pvemu.testing.program_text import ProgramError, read_program, write_program
from pvemu.testing.stage import stage_for

TEXT = """\
; two domains
program of 2 domains
d0 "EVTCHNOP_alloc_unbound" event_channel_op(EVTCHNOP_alloc_unbound, &request)
    evtchn_alloc_unbound at request: dom = DOMID_SELF, remote_dom = peer

d1 "grant 8"
    grant_entry_v1 at grant_entries + 64: flags = 1, domid = peer, frame = <page 8>
d0 "mmu_update" mmu_update(&request, 1, 0, DOMID_SELF)
    mmu_update at request: ptr = slot 3:1, val = <their page 4>:0x63
    words at list + 16: 0 = &pages + 4096, 1 = <l1 table>
d1 "mask"
    or shared_info at shared_info_page: evtchn_mask[0] = 6
"""


@given(programs(domains=3, endings=True))
@settings(max_examples=40)
def test_a_program_is_read_back_as_it_was(program: Program) -> None:
    text = write_program(program)
    assert read_program(text) == program
    assert write_program(read_program(text)) == text


def test_text_means_what_it_says() -> None:
    program = read_program(TEXT)
    assert [step.title for step in program.steps] == [
        "EVTCHNOP_alloc_unbound",
        "grant 8",
        "mmu_update",
        "mask",
    ]
    assert write_program(program).splitlines() == [line for line in TEXT.splitlines()[1:] if line]
    stage = stage_for(2)
    results = [outcome.result for outcome in stage.run(program)]
    assert results == [0, None, 0, None]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nothing", "line 2: a step reads"),
        ('d2 "far"', "line 2: there is no d2 among 2 domains"),
        ('d0 "x" no_such_op()', "line 2: there is no hypercall 'no_such_op'"),
        ('d0 "x" vm_assist(1, 2, 3)', "line 2: vm_assist takes 2 arguments"),
        ('d0 "x" vm_assist(NO_SUCH)', "line 2: 'NO_SUCH' is no name of the ABI"),
        ('d0 "x" vm_assist(1 +)', "line 2: '1 \\+' is no value"),
        ('d0 "x" vm_assist(08)', "line 2: '08' is no value"),
        ('d0 "x" vm_assist(&main)', "line 2: there is no area 'main'"),
        ('d0 "x" vm_assist(<moon 1>)', "line 2: there is no frame <moon 1>"),
        ('d0 "x" vm_assist(<page 16>)', "line 2: there is no frame <page 16>"),
        ('d0 "x" vm_assist(slot 99)', "line 2: there is no page 99"),
        ('d0 "a\\"b"', "line 2: a step reads"),
        ("    words at list: 0 = 1", "line 2: a record stands before all steps"),
    ],
)
def test_text_that_is_no_program_has_an_error_that_names_the_line(line: str, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        read_program(f"program of 2 domains\n{line}\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("words at list: 1 = 1", "words are numbered from 0"),
        ("words at main: 0 = 1", "there is no area 'main'"),
        ("evtchn_nothing at list: port = 1", "there is no structure 'evtchn_nothing'"),
        ("evtchn_send at list: door = 1", "evtchn_send has no field 'door'"),
        ("evtchn_send at list: port is 1", "'port is 1' is no field"),
        ("shared_info at list: vcpu_info[0] = 1", "no single number"),
        ("evtchn_send", "a record reads"),
    ],
)
def test_a_record_that_is_none_has_an_error(line: str, said: str) -> None:
    with pytest.raises(ProgramError, match=f"line 3: .*{said}"):
        read_program(f'program of 1 domain\nd0 "x" vm_assist()\n  {line}\n')


@pytest.mark.parametrize("text", ["", "; only this\n", "program of 0 domains", "program of 99 domains", "x"])
def test_text_without_a_head_is_no_program(text: str) -> None:
    with pytest.raises(ProgramError, match=r"program of 2 domains|1 to 8"):
        read_program(text)


@given(st.text(alphabet=st.sampled_from('dprogam of2ns\n "()&<>:{},.=+-x;_9é\t\x00'), max_size=200))
def test_any_text_is_a_program_or_an_error(text: str) -> None:
    for prefix in ("", "program of 2 domains\n", 'program of 1 domain\nd0 "x" mmu_update(1)\n '):
        try:
            read_program(prefix + text)
        except ProgramError:
            continue
