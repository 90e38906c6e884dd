"""`pvemu run` with PVH and HVM guests: how they start and end, what they print, and what is typed at them."""

import gzip
import json
from pathlib import Path

import pytest
from cli_guests import HELLO, TEXT_BYTES

from guestkit import assemble
from tests.toolstack.conftest import Command

PAGING = ["nested", "shadow"]
#: Prints by which protocol it was started, its command line, and what the first module holds; ends by S5.
PRINT_START = """
guest "start", target=hvm32{option}
section .text
start:  mov esp, stack_end
        cmp eax, 0x2badb002
        je .multiboot
        mov esi, by_pvh
        call print
        mov esi, [ebx + hvm_start_info.cmdline_paddr]
        call print
        mov ebp, [ebx + hvm_start_info.modlist_paddr]
        test ebp, ebp
        jz power_off
        mov esi, [ebp + hvm_modlist_entry.paddr]
        call print
        jmp power_off
.multiboot:
        mov esi, by_multiboot
        call print
        mov esi, [ebx + 16]
        call print
        test dword [ebx], 8
        jz power_off
        mov ebp, [ebx + 24]
        mov esi, [ebp]
        call print
power_off:
        mov edx, 0xb004
        mov eax, 1 << 13
        out dx, ax
        hlt
; Prints the text at ESI up to its zero, and a line break.
print:  mov edx, 0xe9
.next:  lodsb
        test al, al
        jz .end
        out dx, al
        jmp .next
.end:   mov al, 10
        out dx, al
        ret
section .data
by_pvh: db "PVH", 0
by_multiboot: db "Multiboot", 0
section .bss
        reserve 1024
stack_end:
"""
#: Has a Multiboot header, and a PVH entry only if it is not told otherwise.
BOTH, MULTIBOOT_ONLY, PVH_ONLY = (
    PRINT_START.format(option=option) for option in ("", ", phys32_entry=none", ", multiboot=none")
)


def bare(code: str) -> str:
    """A guest of type hvm that runs `code`, with interrupts off."""
    return f'guest "bare", target=hvm32\nsection .text\nstart:\n{code}\n'


OUT = "mov edx, {port}\nmov eax, {value}\nout dx, {register}\nhlt\n"
WAYS_TO_END = {
    "S5": (OUT.format(port=0xB004, value="1 << 13", register="ax"), 0),
    "keyboard controller": (OUT.format(port=0x64, value=0xFE, register="al"), 4),
    "system control port": (OUT.format(port=0x92, value=1, register="al"), 4),
    "exit port": (OUT.format(port=0xF4, value=3, register="al"), 0),
    "triple fault": ("lidt [nothing]\nud2\nnothing: dq 0", 4),
}


@pytest.mark.parametrize("paging", PAGING)
@pytest.mark.parametrize(
    ("source", "protocol"),
    [(BOTH, b"PVH"), (MULTIBOOT_ONLY, b"Multiboot"), (PVH_ONLY, b"PVH")],
    ids=["both", "Multiboot", "PVH"],
)
def test_a_kernel_is_started_by_its_protocol_with_its_command_line(
    pvemu_run: Command, source: str, protocol: bytes, paging: str
) -> None:
    run = pvemu_run(source, "--paging", paging, "--cmdline", "root=/dev/xvda quiet", "--type", "hvm")
    assert run == (0, protocol + b"\nroot=/dev/xvda quiet\n", "")


@pytest.mark.parametrize("paging", PAGING)
def test_a_machine_of_a_large_guest_has_room_for_page_tables(pvemu_run: Command, paging: str) -> None:
    assert pvemu_run(BOTH, "--paging", paging, "--memory", "1015").status == 0


@pytest.mark.parametrize("source", [BOTH, MULTIBOOT_ONLY], ids=["PVH", "Multiboot"])
def test_a_ramdisk_reaches_the_kernel(pvemu: Command, tmp_path: Path, source: str) -> None:
    (tmp_path / "kernel.elf").write_bytes(gzip.compress(assemble(source).elf))
    (tmp_path / "ramdisk").write_bytes(b"a text on the ramdisk\0")
    (tmp_path / "guest.cfg").write_text(
        'kernel = "kernel.elf"\nramdisk = "ramdisk"\nextra = "x"\ntype = "hvm"\n'
    )
    run = pvemu("run", tmp_path / "guest.cfg")
    assert run.out.splitlines()[1:] == [b"x", b"a text on the ramdisk"]


@pytest.mark.parametrize("paging", PAGING)
@pytest.mark.parametrize(("code", "status"), WAYS_TO_END.values(), ids=WAYS_TO_END.keys())
def test_the_ways_of_a_pc_to_end(pvemu_run: Command, code: str, status: int, paging: str) -> None:
    assert pvemu_run(bare(code), "--paging", paging).status == status


def test_a_guest_that_leaves_by_the_exit_port_is_reported_with_its_number(pvemu_run: Command) -> None:
    run = pvemu_run(bare(WAYS_TO_END["exit port"][0]), "-v")
    assert "exit port with status 7" in run.err


SERIAL_ECHO = bare(
    """
        mov esp, stack_end
        mov edx, 0x3f8
        mov al, '>'
        out dx, al
.wait:  mov ecx, 20000
.spin:  dec ecx
        jnz .spin
        mov edx, 0x3fd
        in al, dx
        test al, 1
        jz .wait
        mov edx, 0x3f8
        in al, dx
        out dx, al
        cmp al, 'q'
        jne .wait
        mov edx, 0xb004
        mov eax, 1 << 13
        out dx, ax
        hlt
section .bss
        reserve 64
stack_end:
"""
)


def test_what_is_typed_reaches_the_serial_port(pvemu_run: Command, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("typed q")
    run = pvemu_run(SERIAL_ECHO, "--input", tmp_path / "keys", "--max-time", "10")
    assert (run.status, run.out) == (0, b">typed q")


def test_a_pvh_guest_has_no_serial_port(pvemu_run: Command) -> None:
    source = bare(
        "mov edx, 0x3fd\nin al, dx\ncmp al, 0xff\nje .none\nud2\n.none:\n"
        + OUT.format(port=0xE9, value="'n'", register="al")
    )
    run = pvemu_run(source, "--type", "pvh")
    assert run.out == b"n"


FOR_ANY_KIND = """
guest "any"
include "start.gk"
include "print.gk"
section .text
main:   mov eax, cs
        and eax, 3
        call print_decimal
        print "!"
        ret
"""


@pytest.mark.parametrize(("kind", "ring"), [("pv", b"1"), ("hvm", b"0"), ("pvh", b"0")])
def test_source_on_the_library_prints_as_whichever_kind_of_guest(
    pvemu_run: Command, kind: str, ring: bytes
) -> None:
    assert pvemu_run(FOR_ANY_KIND, "--type", kind) == (0, ring + b"!", "")


@pytest.mark.parametrize("paging", PAGING)
def test_exits_are_told_by_what_they_were_for(pvemu_run: Command, paging: str) -> None:
    source = bare(
        """
        mov ecx, 0x10
        rdmsr
        xor eax, eax
        cpuid
        mov edx, 0x3f9
        in al, dx
        mov edx, 0xb004
        mov eax, 1 << 13
        out dx, ax
        hlt
"""
    )
    run = pvemu_run(source, "--json", "--exits", "--paging", paging)
    counts = {row["exit"]: row["count"] for row in json.loads(run.out)["exits"]["by_reason"]}
    wanted = {"read MSR 0x10": 1, "CPUID": 1, "port in 0x3f9": 1, "port out 0xb004": 1}
    assert {name: counts.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("paging", PAGING)
def test_the_table_of_exits_changes_nothing(pvemu_run: Command, tmp_path: Path, paging: str) -> None:
    reports, traces = [], []
    for name, options in (("without", []), ("with", ["--exits"])):
        trace = tmp_path / name
        run = pvemu_run(BOTH, "--paging", paging, "--json", "--trace", trace, *options)
        reports.append(json.loads(run.out))
        traces.append(trace.read_bytes())
    assert traces[0] == traces[1]
    reports[1].pop("exits")
    assert reports[0] == reports[1]


def test_guests_of_all_kinds_run_side_by_side(pvemu: Command, tmp_path: Path) -> None:
    for name, source in (("pvh.gk", PVH_ONLY), ("hvm.gk", BOTH)):
        (tmp_path / name).write_text(source)
    (tmp_path / "pv.gk").write_text(
        'guest "pv"\ninclude "start.gk"\ninclude "print.gk"\nsection .text\nmain: print "PV\\n"\n ret\n'
    )
    run = pvemu("run", tmp_path / "pvh.gk", tmp_path / "pv.gk", tmp_path / "hvm.gk")
    assert run.status == 0
    assert set(run.out.splitlines()) == {b"(d1) PVH", b"(d1) ", b"(d2) PV", b"(d3) PVH", b"(d3) "}


def test_a_guest_that_reboots_starts_again(pvemu: Command, tmp_path: Path) -> None:
    code = (
        OUT.format(port=0xE9, value="'r'", register="al").replace("hlt", "") + WAYS_TO_END["triple fault"][0]
    )
    (tmp_path / "guest.gk").write_text(bare(code))
    (tmp_path / "guest.cfg").write_text('kernel = "guest.gk"\nmemory = 4\n')
    run = pvemu("run", tmp_path / "guest.cfg", "--max-time", "0.002")
    assert run.status == 5
    assert len(run.out) > 2
    assert set(run.out) == set(b"r")


@pytest.mark.parametrize(
    ("source", "options", "complaint"),
    [
        (HELLO, ["--paging", "nested"], "a pv guest can't have nested paging"),
        (HELLO, ["--paging", "shadow"], "auto_translated_physmap"),
        (BOTH, ["--paging", "direct"], "a hvm guest can't have direct paging"),
        (PVH_ONLY, ["--paging", "direct"], "a pvh guest can't have direct paging"),
        (PVH_ONLY, ["--type", "pv"], "--type pvh"),
        (BOTH, ["--dom0"], "domain 0"),
        (BOTH, ["--memory", "1"], "--memory"),
        (BOTH, ["--type", "vm"], "--type"),
        (BOTH, ["--paging", "huge"], "--paging"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(
    pvemu_run: Command, source: str, options: list[str], complaint: str
) -> None:
    run = pvemu_run(source, *options)
    assert (run.status, run.out, len(run.lines)) == (2, b"", 1)
    assert complaint in run.err


def test_source_for_any_kind_is_built_for_the_one_that_is_asked_for(pvemu_run: Command) -> None:
    source = (
        'guest "any"\ninclude "start.gk"\ninclude "print.gk"\nsection .text\nmain: print "here\\n"\n ret\n'
    )
    assert [pvemu_run(source, *options).out for options in ([], ["--type", "pv"], ["--type", "hvm"])] == [
        b"here\n"
    ] * 3


def test_a_pv_guest_is_what_it_was(pvemu_run: Command) -> None:
    assert pvemu_run(HELLO, "--dom0", "--type", "pv", "--paging", "direct").out == TEXT_BYTES
