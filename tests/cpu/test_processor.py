"""The processor's promises: exits, what a refused instruction leaves behind, how a run ends."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bare_guest import ABSENT, CODE, DATA, NOWHERE, READ_ONLY, RING3_CS, RING3_DS, STACK, BareGuest

from pvemu.cpu import exits, layout
from pvemu.cpu.errors import EngineError
from pvemu.cpu.segments import Descriptor

GP, PF, UD = (exits.EXCEPTION + vector for vector in (exits.GP, exits.PF, exits.UD))
MakeGuest = Callable[..., BareGuest]


@pytest.mark.parametrize("ring", [1, 3])
@pytest.mark.parametrize(
    ("source", "number", "offset", "error_code"),
    [
        ("int 0x82", 0x82, 2, None),
        ("int 0x80", 0x80, 2, None),
        ("int 6", 6, 2, None),
        ("int 13", 13, 2, None),
        ("int 255", 255, 2, None),
        ("int3", 3, 1, None),
        ("cli", GP, 0, 0),
        ("hlt", GP, 0, 0),
        ("mov eax, cr0", GP, 0, 0),
        ("rdmsr", GP, 0, 0),
        ("wbinvd", GP, 0, 0),
        ("ud2", UD, 0, None),
        ("rdtsc", exits.RDTSC, 0, None),
        ("rdtscp", exits.RDTSC, 0, None),  # the engine asks about rdtsc first
        ("xor ecx, ecx\ndiv ecx", exits.EXCEPTION + exits.DE, 2, None),
        ("mov eax, 0x33\nmov cs, eax", UD, 5, None),
        ("mov eax, 0x7f0\nmov ds, eax", GP, 5, 0x7F0),
        ("syscall", exits.SYSCALL, 0, 0),
        ("sysenter", exits.SYSENTER, 0, 0),
    ],
)
def test_an_instruction_leaves_with_its_exit(
    guest: BareGuest, source: str, number: int, offset: int, error_code: int | None, ring: int
) -> None:
    seen = guest.run(source, ring)
    assert (seen.number, seen.eip) == (number, CODE + offset)
    if error_code is not None:
        assert seen.error_code == error_code


@pytest.mark.parametrize(
    ("source", "address", "error_code"),
    [
        (f"mov eax, [{ABSENT + 4}]", ABSENT + 4, 0),
        (f"mov [{ABSENT + 4}], eax", ABSENT + 4, 2),
        (f"mov [{READ_ONLY}], eax", READ_ONLY, 3),
        (f"mov eax, [{ABSENT - 2}]", ABSENT, 0),
    ],
)
def test_a_page_fault_tells_its_address_and_error_code(
    guest: BareGuest, source: str, address: int, error_code: int
) -> None:
    for ring, user in ((1, 0), (3, 4)):
        seen = guest.run(source, ring)
        assert (seen.number, seen.eip, seen.error_code) == (PF, CODE, error_code | user)
        assert guest.cpu.fault_address == address


def test_a_fault_repeats_as_itself_and_never_becomes_a_double_fault(guest: BareGuest) -> None:
    for _ in range(4):
        assert guest.run("cli").number == GP
        assert guest.run(f"mov eax, [{ABSENT}]").number == PF


def test_int_82_is_faulted_on_even_in_the_shortest_code(guest: BareGuest) -> None:
    seen = guest.run("int 0x82")
    assert guest.registers["eip"] == seen.eip == CODE + 2


# --- ports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [1, 3])
@pytest.mark.parametrize("port", ["in al, 0x60", "out 0x60, al", "in eax, dx", "out dx, ax", "insb", "outsb"])
@pytest.mark.parametrize(
    "rest",
    [
        f"mov dword [{DATA}], 1",
        "push eax",
        "int 0x82",
        "in al, 0x61",
        "out 0x61, al",
        "cli",
        "ud2",
        "syscall",
        "add ebx, 5",
        "rep stosd",
    ],
)
def test_a_refused_port_faults_precisely_whatever_follows_in_its_block(
    guest: BareGuest, port: str, rest: str, ring: int
) -> None:
    source = f"mov eax, 0x1234\nmov edi, {DATA}\nmov esi, {DATA}\nmov ecx, 4\nmov edx, 0x3f8\n"
    image = guest.load(f"{source}place: {port}\n{rest}\nint 0x83", ring)
    before = bytes(guest.ram.u8[DATA:STACK])
    guest.cpu.run()
    seen = guest.seen[-1]
    assert (seen.number, seen.eip, seen.error_code) == (GP, image.symbols["place"], 0)
    assert [len(guest.seen), guest.ring] == [1, ring]
    registers = guest.registers
    assert (registers["eax"], registers["ecx"], registers["ebx"]) == (0x1234, 4, 0)
    assert (registers["edi"], registers["esp"]) == (DATA, STACK)
    assert bytes(guest.ram.u8[DATA:STACK]) == before


def test_a_permitted_port_is_read_and_written_and_the_code_goes_on(guest: BareGuest) -> None:
    written = []
    guest.cpu.port_in = lambda port, size: port + size
    guest.cpu.port_out = lambda port, size, value: written.append((port, size, value)) or True
    seen = guest.run("in al, 0x60\nmov ebx, eax\nmov eax, 0x11223344\nout 0x61, eax\nmov ecx, 7\nint 0x82")
    assert (seen.number, guest.registers["ebx"] & 0xFF, guest.registers["ecx"]) == (0x82, 0x61, 7)
    assert written == [(0x61, 4, 0x11223344)]


@pytest.mark.parametrize(
    ("instruction", "number"), [("syscall", exits.SYSCALL), ("sysenter", exits.SYSENTER)]
)
def test_a_system_call_instruction_exits_on_itself_and_undoes_the_rest_of_the_block(
    guest: BareGuest, instruction: str, number: int
) -> None:
    seen = guest.run(f"inc ebx\n{instruction}\nmov dword [{DATA}], 1\ninc ebx\nint 0x82", 3)
    assert (seen.number, seen.eip) == (number, CODE + 1)
    assert (guest.registers["ebx"], guest.ram.u32[DATA >> 2]) == (1, 0)


# --- code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", ["f0 0f a3 c1", "f0 0f ab c1", "f0 0f b3 c1", "f0 0f bb c1", "f0 0f ba e1 05", "f0 0f ba f9 05"]
)
@pytest.mark.parametrize("ring", [1, 3])
def test_code_over_which_the_translator_trips_is_an_invalid_opcode_on_its_instruction(
    guest: BareGuest, bad: str, ring: int
) -> None:
    image = guest.load("inc ebx\nmov ecx, 3\nplace: nop\nint 0x82", ring)
    place = image.symbols["place"]
    guest.put(place, bytes.fromhex(bad) + b"\xcd\x82")
    guest.cpu.run()
    assert [(seen.number, seen.eip) for seen in guest.seen] == [(UD, place)]
    assert (guest.registers["ebx"], guest.registers["ecx"]) == (1, 3)


def test_memory_that_is_not_there_reads_as_ones_and_swallows_writes(guest: BareGuest) -> None:
    seen = guest.run(
        f"mov edi, {NOWHERE}\nmov eax, [edi]\nmov [edi], ecx\nmov ebx, [edi]\nlock inc dword [edi]\nint 0x82"
    )
    assert (seen.number, guest.registers["eax"], guest.registers["ebx"]) == (0x82, 0xFFFFFFFF, 0xFFFFFFFF)


@pytest.mark.parametrize("ring", [1, 3])
def test_code_where_no_memory_is_ends_as_an_invalid_opcode(guest: BareGuest, ring: int) -> None:
    seen = guest.run(f"jmp {NOWHERE}", ring)
    assert (seen.number, seen.eip) == (UD, NOWHERE)


def test_code_that_runs_on_into_nothing_has_run_up_to_there(guest: BareGuest) -> None:
    guest.load("nop")
    guest.put(NOWHERE - 4, b"\x43\x43\x43\x43")  # inc ebx, four times
    guest.enter(1, NOWHERE - 4)
    guest.cpu.run()
    assert [(seen.number, seen.eip) for seen in guest.seen] == [(UD, NOWHERE)]
    assert guest.registers["ebx"] == 4


def test_code_written_from_outside_runs_as_it_is_now(guest: BareGuest) -> None:
    guest.cpu.frame_of = lambda address: address >> 12
    image = guest.load("mov eax, 1\nint 0x82")
    guest.cpu.run()
    assert CODE >> 12 in guest.cpu.code_frames
    guest.put(CODE + 1, b"\x02")
    guest.cpu.forget_code()
    assert not guest.cpu.code_frames
    guest.enter(1, image.symbols["start"])
    guest.cpu.run()
    assert guest.registers["eax"] == 2


def test_a_block_across_two_pages_is_known_by_both_frames(guest: BareGuest) -> None:
    guest.cpu.frame_of = lambda address: address >> 12
    guest.load("nop")
    guest.put(CODE + 0xFFE, b"\x90\x90\x90\xcd\x82")
    guest.enter(1, CODE + 0xFFE)
    guest.cpu.run()
    assert {CODE >> 12, (CODE >> 12) + 1} <= guest.cpu.code_frames


def test_code_that_rewrites_itself_runs_as_rewritten(guest: BareGuest) -> None:
    seen = guest.run("mov byte [place + 1], 9\nplace: mov eax, 1\nint 0x82")
    assert (seen.number, guest.registers["eax"]) == (0x82, 9)


# --- running --------------------------------------------------------------------------------------


def test_a_handler_changes_rings_and_the_guest_goes_on_there(guest: BareGuest) -> None:
    rings = []
    code = Descriptor.from_int(0x00CFFB000000FFFF).cached(RING3_CS)
    data = Descriptor.from_int(0x00CFF3000000FFFF).cached(RING3_DS)
    guest.cpu.exits[0x82] = lambda: (rings.append(guest.ring), guest.cpu.set_ring(code, data))[0]
    seen = guest.run("int 0x82\nmov eax, cs\nint 0x83", ring=1)
    assert (seen.number, rings, guest.ring, guest.registers["eax"]) == (0x83, [1], 3, RING3_CS)


def test_an_exit_handled_without_stop_goes_on_without_leaving_the_run(guest: BareGuest) -> None:
    count = []
    guest.cpu.exits[0x82] = lambda: count.append(1)
    seen = guest.run("mov ecx, 50\nagain: int 0x82\nloop again\nint 0x83")
    assert (seen.number, len(count)) == (0x83, 50)


def test_an_error_in_a_handler_comes_out_of_run_and_the_processor_lives_on(guest: BareGuest) -> None:
    def fail() -> None:
        raise ZeroDivisionError("of the handler")

    guest.cpu.exits[0x82] = fail
    guest.load("int 0x82\nint 0x83")
    with pytest.raises(ZeroDivisionError, match="of the handler"):
        guest.cpu.run()
    guest.cpu.run()
    assert guest.seen[-1].number == 0x83


def test_an_exit_that_nobody_handles_is_an_engine_error(guest: BareGuest) -> None:
    guest.cpu.exits[0x82] = guest.cpu._unexpected
    guest.load("int 0x82")
    with pytest.raises(EngineError, match="nobody handles"):
        guest.cpu.run()


def test_two_processors_of_one_process_do_not_disturb_each_other(make_guest: MakeGuest) -> None:
    first, second = make_guest(), make_guest()
    source = "inc ebx\nint 0x82\ninc ebx\nint 0x82\nmov ebx, 77\nint 0x83"
    for guest in (first, second):
        guest.load(source)
    first.cpu.run()
    second.cpu.run()
    first.cpu.run()
    assert [first.registers["ebx"], second.registers["ebx"]] == [2, 1]
    first.cpu.run()
    second.cpu.run()
    assert [first.registers["ebx"], second.registers["ebx"]] == [77, 2]


def test_one_processor_runs_inside_a_handler_of_another(make_guest: MakeGuest) -> None:
    outer, inner = make_guest(), make_guest()
    inner.load("mov eax, 5\nint 0x83")
    outer.cpu.exits[0x82] = lambda: (inner.cpu.run(), None)[1]
    seen = outer.run("mov eax, 6\nint 0x82\nint 0x84")
    assert (seen.number, outer.registers["eax"], inner.registers["eax"]) == (0x84, 6, 5)


def test_a_saved_state_goes_on_where_it_was_after_another_ran(guest: BareGuest) -> None:
    guest.run("mov ebx, 1\nint 0x82\nint 0x83")
    saved = guest.cpu.save()
    guest.enter(3)
    guest.cpu.run()
    guest.cpu.load(saved)
    guest.cpu.run()
    assert (guest.seen[-1].number, guest.registers["ebx"], guest.ring) == (0x83, 1, 1)


def test_a_closed_processor_gives_its_place_to_new_ones(machine_options: dict[str, str]) -> None:
    for _ in range(20):
        with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
            assert guest.run("int 0x82").number == 0x82


# --- the same in every form and every run ---------------------------------------------------------

PROGRAM = """
        mov ecx, 20
again:  imul ebx, ecx, 0x1234567
        push ebx
        pushf
        int 0x82
        in al, 0x60
        cli
        rdtsc
        int 6
        loop again
        int 0x90
"""


def run_program(guest: BareGuest) -> tuple[list[int], bytes]:
    """The exits of a program in which every trap is stepped over, and the guest's memory afterwards."""
    trace: list[int] = []
    window = guest.cpu.window

    def skip(length: int) -> Callable[[], None]:
        def step() -> None:
            window.u64[layout.EIP // 8] += length

        return step

    for number, length in ((0x82, 0), (6, 0), (GP, 1), (exits.RDTSC, 2)):
        guest.cpu.exits[number] = skip(length)
    guest.cpu.port_in = lambda port, size: port
    guest.cpu.trace(trace.append)
    guest.run(PROGRAM)
    return trace, bytes(guest.ram.u8[DATA:ABSENT])


def test_both_windows_show_the_same_run(make_guest: MakeGuest) -> None:
    runs = [run_program(make_guest(window=window, clock="block")) for window in ("live", "context")]
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 20 * 4 + 1


def test_both_clocks_show_the_same_run(make_guest: MakeGuest) -> None:
    runs = [run_program(make_guest(clock=clock)) for clock in ("block", "count")]
    assert runs[0] == runs[1]


def test_the_same_run_in_another_process_has_the_same_exits_and_times() -> None:
    script = (
        "from bare_guest import BareGuest; from test_processor import run_program; import zlib\n"
        "g = BareGuest(); t, m = run_program(g); print(t, zlib.crc32(m), g.cpu.clock.now)"
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    assert len(next(iter(outputs))) > 200  # the trace of a run that stopped at its first exit is short
