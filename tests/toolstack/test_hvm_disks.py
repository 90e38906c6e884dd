"""Disks of HVM guests: behind ports and as Xen's own at once, until the guest has unplugged the former."""

from pathlib import Path

import pytest

from guestkit import assemble
from pvemu import Machine, Outcome, PvemuError
from pvemu.toolstack.disk_spec import read_disk
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging

SECTOR = 512
COPY = """
guest "copy", target=hvm32
include "start.gk"
include "print.gk"
include "ata.gk"
section .text
main:   call disk_open
        test eax, eax
        jnz .none
        mov eax, [disk_sectors]
        call print_hex
        mov eax, buffer
        mov edx, 2
        mov ecx, 9
        call disk_read
        call print_hex
        mov eax, buffer
        mov edx, 20
        mov ecx, 9
        call disk_write
        call print_hex
        call disk_flush
        call print_hex
        ret
.none:  print "no disk"
        ret
section .bss
align 4096
        reserve 4094                    ; the sixth sector lies across two pages
buffer: reserve 9 * SECTOR_SIZE
"""
UNPLUG = """
guest "unplug", target=hvm32
include "start.gk"
include "print.gk"
include "ata.gk"
section .text
main:   mov dx, 0x10
        in ax, dx
        movzx eax, ax
        call print_hex
        mov dx, 0x10
        mov ax, {what}
        out dx, ax
        call disk_open
        call print_hex
        ret
"""


INTO_A_TABLE = """
guest "into a table", target=hvm32
include "start.gk"
include "print.gk"
include "pages.gk"
include "ata.gk"
section .text
main:   call paging_open
        call disk_open
        mov eax, page_directory + PAGE_SIZE - SECTOR_SIZE
        mov edx, 0x20
        mov ecx, 1
        call disk_read
        mov eax, [page_directory + PAGE_SIZE - SECTOR_SIZE]
        call print_hex
        mov eax, [page_directory + PAGE_SIZE - 4]
        call print_hex
        ret
"""


#: What is left in the registers, and of the data, when a string instruction goes its own way.
STRANGE = """
guest "strange", target=hvm32
include "start.gk"
include "print.gk"
include "ata.gk"
section .text
main:   call disk_open
        mov edx, 3
        mov al, ATA_READ
        mov ecx, 1
        call disk_command
        mov edx, ATA_DATA
        mov edi, buffer
        mov ecx, {count}
        {direction}
        {prefix} {instruction}
        cld
        mov eax, ecx
        call print_hex
        mov eax, edi
        sub eax, buffer
        call print_hex
        xor eax, eax
        mov ecx, 2048
.next:  add al, [buffer + ecx - 1025]
        adc ah, 0
        loop .next
        call print_hex
        ret
section .bss
align 4096
        reserve 3000                    ; a page ends in the middle
        reserve 1024
buffer: reserve 2048
"""


def medium(folder: Path) -> Path:
    """An image of 64 sectors, each full of its own number."""
    path = folder / "disk.img"
    path.write_bytes(b"".join(bytes([number]) * SECTOR for number in range(64)))
    return path


def printed(source: str, disk: str, paging: Paging = Paging.NESTED) -> str:
    config = GuestConfig(assemble(source).elf, memory=16, paging=paging, disks=(read_disk(disk),))
    with Machine([config], machine_memory=64) as machine:
        assert machine.run(seconds=20).outcome is Outcome.POWEROFF
        return machine.console_bytes.decode()


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize("name", ["hda", "xvda"])
def test_a_guest_copies_sectors_by_string_instructions(tmp_path: Path, paging: Paging, name: str) -> None:
    image = medium(tmp_path)
    assert printed(COPY, f"{image},{name},w", paging) == "00000040" + 3 * "00000000"
    data = image.read_bytes()
    assert data[20 * SECTOR : 29 * SECTOR] == data[2 * SECTOR : 11 * SECTOR]
    assert data[: 20 * SECTOR] == bytes(byte for number in range(20) for byte in [number] * SECTOR)


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
def test_a_sector_may_be_read_into_a_page_table(tmp_path: Path, paging: Paging) -> None:
    assert printed(INTO_A_TABLE, f"{medium(tmp_path)},hda", paging) == "2020202020202020"


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
@pytest.mark.parametrize(
    ("instruction", "count", "direction", "prefix", "moved"),
    [
        ("insw", 256, "cld", "rep", 256),
        ("insw", 1, "cld", "rep", 1),
        ("insw", 0, "cld", "rep", 0),
        ("insw", 100, "std", "rep", 100),
        ("insw", 7, "cld", "", 1),
        ("insw", 300, "cld", "rep", 300),
        ("insd", 128, "cld", "rep", 128),
        ("insd", 64, "std", "rep", 64),
    ],
)
def test_a_string_instruction_leaves_what_it_would_leave_word_by_word(
    tmp_path: Path, paging: Paging, instruction: str, count: int, direction: str, prefix: str, moved: int
) -> None:
    source = STRANGE.format(instruction=instruction, count=count, direction=direction, prefix=prefix)
    size = 4 if instruction == "insd" else 2
    left = 0 if prefix else count
    end = (-1 if direction == "std" else 1) * moved * size & 0xFFFF_FFFF
    total = 3 * min(moved * size, SECTOR)
    assert printed(source, f"{medium(tmp_path)},hda", paging) == f"{left:08x}{end:08x}{total:08x}"


def test_an_overlay_keeps_what_a_guest_writes_behind_ports(tmp_path: Path) -> None:
    image = medium(tmp_path)
    before = image.read_bytes()
    assert printed(COPY, f"{image},hda,w,overlay").startswith("00000040")
    assert image.read_bytes() == before


@pytest.mark.parametrize("disk", ["hda,r", "xvde,w", "sda,w", "hdb,w"])
def test_what_is_no_first_ata_disk_is_not_found_there(tmp_path: Path, disk: str) -> None:
    assert printed(COPY, f"{medium(tmp_path)},{disk}") == "no disk"


@pytest.mark.parametrize(("what", "is_gone"), [(0, 0), (1, 1), (2, 0), (4, 0)])
def test_a_guest_with_drivers_for_xens_disk_takes_the_other_away(
    tmp_path: Path, what: int, is_gone: int
) -> None:
    assert printed(UNPLUG.format(what=what), f"{medium(tmp_path)},hda") == f"000049d2{is_gone:08x}"


def test_two_disks_at_one_place_of_a_pc_are_refused(tmp_path: Path) -> None:
    image = medium(tmp_path)
    other = tmp_path / "other.img"
    other.write_bytes(bytes(SECTOR))
    disks = (read_disk(f"{image},hda"), read_disk(f"{other},xvda"))
    with pytest.raises(PvemuError, match="hda and xvda are the same drive"):
        Machine([GuestConfig(assemble(COPY).elf, memory=16, disks=disks)])
    disks = (read_disk(f"{image},hda"), read_disk(f"{other},xvdb"))
    Machine([GuestConfig(assemble(COPY).elf, memory=16, disks=disks)]).close()
