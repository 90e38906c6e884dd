"""Guests that ask Xen for random things about their memory; a seed always makes the same guest.

A line of such a guest's output is the number of a request, its name, its result, and after a slash what Xen
wrote beside that. Requests hit the same few pages again and again: they become tables, descriptor pages,
read-only or unmapped, so that what is right depends on all that went before. Nothing that is printed depends
on where the domain's frames are, and what may free a frame has pages that no other request names.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from guestkit import assemble

#: Pages that all requests share; their L1 holds nothing else that the guest needs.
PAGES: Final = tuple(f"pages + {number} * PAGE_SIZE" for number in range(8))
#: Cells with the addresses of the tables that Xen started the guest with.
TABLES: Final = ("[l3_table]", "[l2_table]", "[l1_table]")
#: Where nothing is mapped, or where it is Xen's.
BAD_ADDRESS: Final = "0xf6000000"
#: No machine has so much memory.
BAD_FRAMES: Final = ("0x7ffffff", "0x7fffffff", "0xffffffff")
#: What a request may need for its pages: the most extents that a reservation names.
EXTENTS: Final = 3

_START: Final = """\
guest "requests"
GIVEN equ {given}
include "random_requests.gk"

section .text
main:   call find_tables
"""

_END: Final = """\
        print "end\\n"
        ret
"""


class Request(NamedTuple):
    """A request in source: what is printed before its result, code that leaves the result in EAX."""

    name: str
    code: list[str]
    #: A cell that Xen may have written.
    written: str | None = None


def image(seed: int, requests: int = 120) -> bytes:
    """Return the guest of a seed as an ELF file."""
    return assemble(source(seed, requests), include_paths=[Path(__file__).parent]).elf


def source(seed: int, requests: int = 120) -> str:
    """Return the source of a guest that makes so many random requests and powers off."""
    rng = random.Random(seed)
    makers, weights = zip(*KINDS, strict=True)
    lines = [_START.format(given=requests * EXTENTS)]
    for number in range(requests):
        name, code, written = rng.choices(makers, weights)[0](rng, number)
        lines += [f"        {line}" for line in code]
        text = f'"{number} {name} "'
        lines.append(f"        result_and {text}, {written}" if written else f"        result {text}")
    return "\n".join([*lines, _END])


def _call(name: str, *arguments: str) -> list[str]:
    registers = ("ebx", "ecx", "edx", "esi", "edi")
    moves = [f"mov {register}, {value}" for register, value in zip(registers, arguments, strict=False)]
    return [*moves, f"mov eax, __HYPERVISOR_{name}", "int 0x82"]


def _domain(rng: random.Random) -> str:
    return rng.choice(["DOMID_SELF"] * 40 + ["0", "1", "2", "DOMID_IO", "DOMID_XEN", "0x7fff", "55"])


def _page(rng: random.Random) -> str:
    return rng.choice(PAGES * 3 + TABLES)


def _frame(rng: random.Random, where: str) -> str:
    if rng.random() < 0.9:
        return f"frame_at {where}, {_page(rng)}"
    return f"mov dword [{where}], {rng.choice(BAD_FRAMES)}"


def _entry(rng: random.Random, where: str) -> list[str]:
    """An entry of a page table: mostly of a page of the guest, with any flags."""
    rights = ("0x61", "0x63", "0x67", "0x65", "1", "3", "7", "0x21", "0x25", "0x27", "0", "0x62", "0x66")
    rare = ("0xe7", "0x167", "0x163", "0x1e7", "0x6f", "0x77", "0x267", "0xe67")
    flags = rng.choice(rights + rare)
    if rng.random() < 0.85:
        lines = [f"entry_at {where}, {_page(rng)}, {flags}"]
    else:
        lines = [f"raw_entry_at {where}, {rng.choice(['0', '0xfffff000', '0x50000000'])} | {flags}"]
    if rng.random() < 0.12:
        high = rng.choice(["1 << 31", "1 << 30", "0x100000", "0x10000", "0x100"])
        lines.append(f"or dword [{where} + 4], {high}")
    return lines


def _pointer(rng: random.Random, where: str) -> list[str]:
    """The machine address of an entry, with a command in its lowest bits."""
    command = rng.choice([0] * 10 + [2] * 5 + [1, 3, 4, 7])
    page = rng.choice([*TABLES, "[l1_table]", *rng.sample(PAGES, 4), ""])
    slots = {
        "[l1_table]": range(8),
        # Free ones, the last of the guest, Xen's.
        "[l2_table]": (8, 300, 400, 427, 428, 430, 440, 500, 511),
        "[l3_table]": (0, 1, 2, 4, 5),
    }
    slot = rng.choice(slots.get(page, (0, 1, 2, 3, 511)))
    if not page:
        return [f"raw_entry_at {where}, {rng.choice(['0xfffffff8', '0xfffff000'])} | {command}"]
    offset = f"(pages >> PAGE_SHIFT & 511) + {slot}" if page == "[l1_table]" else slot
    return [f"entry_at {where}, {page}, ({offset}) * ENTRY_SIZE + {command}"]


def _mmuext_op(rng: random.Random, number: int) -> Request:
    count = rng.choice([1, 1, 1, 2, 3])
    lines = ["mov dword [done], 0x777"]
    for index in range(count):
        operation = f"request + {index} * sizeof(mmuext_op)"
        first, second = f"{operation} + mmuext_op.arg1.mfn", f"{operation} + mmuext_op.arg2.nr_ents"
        command = rng.choice([0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 4, *range(5, 22)])
        lines.append(f"mov dword [{operation} + mmuext_op.cmd], {command}")
        match command:
            case 5:
                lines.append(f"frame_at {first}, {rng.choice([TABLES[0], PAGES[1]])}")
            case 7 | 10 | 13:
                address = rng.choice([PAGES[0], f"{PAGES[0]} + 8", "0", BAD_ADDRESS, "0xfffff000"])
                lines.append(f"mov dword [{first}], {address}")
            case _:
                lines.append(_frame(rng, first))
        if command == 17:
            lines.append(_frame(rng, second))
        else:
            value = rng.choice(["0", "0", "1", "8", "512", "8192", "8193", "list", BAD_ADDRESS])
            lines.append(f"mov dword [{second}], {value}")
    how_many = rng.choice([*[str(count)] * 9, "0"])
    lines += _call("mmuext_op", "request", how_many, _done(rng), _domain(rng))
    return Request("mmuext_op", lines, "done")


def _done(rng: random.Random) -> str:
    return rng.choice(["done", "done", "done", "0", BAD_ADDRESS])


def _mmu_update(rng: random.Random, number: int) -> Request:
    count = rng.choice([1, 1, 1, 2, 3])
    lines = ["mov dword [done], 0x777"]
    for index in range(count):
        update = f"request + {index} * sizeof(mmu_update)"
        lines += _pointer(rng, f"{update} + mmu_update.ptr") + _entry(rng, f"{update} + mmu_update.val")
    lines += _call("mmu_update", "request", str(count), _done(rng), _domain(rng))
    return Request("mmu_update", lines, "done")


def _update_va_mapping(rng: random.Random, number: int) -> Request:
    elsewhere = ("0", "0xf5800000", BAD_ADDRESS, "0x10000000", "0xfffff000", f"{PAGES[3]} + 5")
    address = rng.choice(PAGES if rng.random() < 0.85 else elsewhere)
    flush = rng.choice(["0", "1", "2", "3", "4", "5", "6", "8", "0x10", "0x1000", "list + 1", "list + 2"])
    name, arguments = "update_va_mapping", [address, "[request]", "[request + 4]", flush]
    if rng.random() < 0.25:
        name, arguments = f"{name}_otherdomain", [*arguments, _domain(rng)]
    return Request(name, [*_entry(rng, "request"), *_call(name, *arguments)])


def _protection(rng: random.Random, number: int) -> Request:
    name = rng.choice(["protect_page", "protect_page", "unprotect_page"])
    return Request(name, [f"mov eax, {rng.choice(PAGES)}", f"call {name}"])


def _argument(rng: random.Random) -> str:
    return rng.choice(["request"] * 20 + ["0", BAD_ADDRESS])


def _memory_op(rng: random.Random, number: int) -> Request:
    """What names no frame: the fields hold anything."""
    command = rng.choice([3, 4, 5, 7, 8, 12, 14, 15, 18, 19])
    values = ["list", "0", "1", "2", "9", "16", "512", "DOMID_IO", "55", "0xffffffff", BAD_ADDRESS]
    lines = [f"mov dword [request + {4 * index}], {rng.choice(values)}" for index in range(8)]
    if command in (3, 4):
        # Not a domain that may be there: how many pages it has would be a matter of its configuration.
        lines.append(f"mov dword [request], {rng.choice(['55', 'DOMID_IO', '0x7fff'])}")
    return Request(f"memory_op {command}", lines + _call("memory_op", str(command), _argument(rng)))


def _reservation(rng: random.Random, number: int) -> Request:
    command = rng.choice(["increase_reservation", "decrease_reservation", "populate_physmap"])
    fields = {
        "extent_start": "list",
        "nr_extents": rng.choice(["0", "1", "1", "2", "2", "3"]),
        "extent_order": rng.choice(["0"] * 8 + ["30"]),
        "mem_flags": rng.choice(["0", "0", "0", "0", "20", "32", "64"]),
        "domid": _domain(rng),
    }
    lines = [f"mov dword [request + xen_memory_reservation.{name}], {fields[name]}" for name in fields]
    for index in range(EXTENTS):
        where = f"list + {4 * index}"
        if command == "decrease_reservation":
            lines.append(f"frame_at {where}, given + {number * EXTENTS + index} * PAGE_SIZE")
        else:
            # These are given new pages, far above those that the guest has.
            lines.append(f"mov dword [{where}], {0x70000 + number * EXTENTS + index}")
    lines += _call("memory_op", f"XENMEM_{command}", _argument(rng))
    return Request(command, lines)


def _exchange(rng: random.Random, number: int) -> Request:
    fields = {
        "in.extent_start": rng.choice(["list"] * 12 + [BAD_ADDRESS]),
        "in.nr_extents": rng.choice(["1", "1", "2"]),
        "in.extent_order": rng.choice(["0"] * 16 + ["1", "1", "30"]),
        "in.mem_flags": "0",
        "in.domid": rng.choice(["DOMID_SELF"] * 12 + ["55", "DOMID_IO"]),
        "out.extent_start": rng.choice(["list + 64"] * 12 + [BAD_ADDRESS]),
        "out.nr_extents": rng.choice(["1", "1", "2"]),
        "out.extent_order": rng.choice(["0"] * 12 + ["1"] * 6 + ["30"]),
        "out.mem_flags": rng.choice(["0", "0", "32"]),
        "out.domid": rng.choice(["DOMID_SELF"] * 12 + ["0", "1"]),
        "nr_exchanged": rng.choice(["0"] * 6 + ["1", "5"]),
    }
    pages = [f"given + {number * EXTENTS + index} * PAGE_SIZE" for index in range(2)]
    lines = []
    # Only a frame that is mapped nowhere can be given away. Of a pair of frames the second is anybody's.
    if fields["in.extent_order"] == "0" and rng.random() < 0.6:
        for page in pages:
            lines += [f"mov eax, {page}", "xor ecx, ecx", "xor edx, edx", "call map_page"]
    for index, page in enumerate(pages):
        lines += [f"frame_at list + {4 * index}, {page}", f"mov dword [list + {64 + 4 * index}], 0x60000"]
    lines += [f"mov dword [request + xen_memory_exchange.{name}], {fields[name]}" for name in fields]
    lines += _call("memory_op", "XENMEM_exchange", _argument(rng))
    return Request("exchange", lines, "request + xen_memory_exchange.nr_exchanged")


def _update_descriptor(rng: random.Random, number: int) -> Request:
    code = ("0x00cfbb00", "0x00cffb00", "0x00cf9b00", "0x00cfba00", "0x00af9b00", "0x000f9b00", "0x00ef9b00")
    data = ("0x00cfb300", "0x00cff300", "0x00cf9300", "0x00cf1300", "0x000f9300", "0x00009200")
    gates = ("0x0000ec00", "0x0000e400", "0x0000cc00", "0x0000e600", "0x00008b00", "0", "0xffffffff")
    low = rng.choice(["0xffff", "0", "0xe0190000", "0xe0080000", "0x190000", "0xe0210000", "0xffffffff"])
    where = rng.choice([*PAGES, *TABLES[1:]]), rng.choice([0, 8, 16, 4, 1, 4088])
    lines = [f"entry_at request, {where[0]}, {where[1]}"]
    lines += _call("update_descriptor", "[request]", "[request + 4]", low, rng.choice(code + data + gates))
    return Request("update_descriptor", lines)


def _set_gdt(rng: random.Random, number: int) -> Request:
    pages = rng.choice([1, 1, 2])
    lines = [_frame(rng, f"list + {4 * index}") for index in range(pages)]
    entries = rng.choice([512 * pages, 512 * pages, 1, 0, 7169, 8192])
    return Request("set_gdt", lines + _call("set_gdt", "list", str(entries)))


def _multicall(rng: random.Random, number: int) -> Request:
    count = rng.choice([1, 2, 3])
    lines = []
    for index in range(count):
        entry = f"request + {index} * sizeof(multicall_entry)"
        name = rng.choice(["get_debugreg", "multicall", "update_va_mapping", "fpu_taskswitch", "vm_assist"])
        arguments = [rng.choice(["0", "1", "5", "7", PAGES[2]]), rng.choice(["0", "2", "list"]), "0", "0"]
        lines.append(f"mov dword [{entry} + multicall_entry.op], __HYPERVISOR_{name}")
        lines.append(f"mov dword [{entry} + multicall_entry.result], 0x777")
        for place, value in enumerate(arguments):
            lines.append(f"mov dword [{entry} + multicall_entry.args + {4 * place}], {value}")
    lines += _call("multicall", rng.choice(["request"] * 6 + [BAD_ADDRESS, "request + 4"]), str(count))
    return Request("multicall", lines, "request + multicall_entry.result")


#: What makes a request of a random source and its own number, and how often it is taken.
KINDS: Final[list[tuple[Callable[[random.Random, int], Request], int]]] = [
    (_mmuext_op, 6),
    (_mmu_update, 6),
    (_update_va_mapping, 4),
    (_protection, 4),
    (_reservation, 2),
    (_exchange, 2),
    (_memory_op, 1),
    (_update_descriptor, 1),
    (_set_gdt, 1),
    (_multicall, 1),
]
