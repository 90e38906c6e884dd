"""Guests made of a seed: random machine code, or random hypercalls. A program, run in a process of its own.

    python random_guests.py code|calls|translated-code|translated-calls SEED COUNT WINDOW CLOCK

Prints a line for each seed before it runs, so that one that ends the process is known, and one with what
came of it. The exit status is 0 when every guest went on, shut down or was crashed with a reason.
"""

import random
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from guestkit import Image, assemble
from pvemu import Machine
from pvemu.abi.hypercalls import BY_NUMBER
from pvemu.cpu import layout
from pvemu.hypervisor.audit import Auditor
from pvemu.memory.page_tables import USER, entry_frame
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

GUESTS: Final = Path(__file__).parents[1] / "guests"
#: Virtual seconds that a guest may run.
LIMIT: Final = 0.02
MEMORY, MACHINE_MEMORY = 8, 18
#: MiB for the tables of an auto-translated guest.
POOL: Final = 2

_SELECTORS: Final = (
    0xE019,
    0xE021,
    0xE02B,
    0xE033,
    0xE018,
    0xE020,
    0xE009,
    0,
    3,
    9,
    0x11,
    0x13,
    0x19,
    0x2B,
    0xFFFF,
)
_PREFIXES: Final = bytes.fromhex("f3 f2 f0 f0 66 67 64 65 2e 36 3e 26")
#: First bytes that lead to rare paths: far transfers, segment loads, strings, ports, the FPU, VEX, flags.
_FIRST: Final = bytes.fromhex(
    "8e cf cb ca c2 c3 62 62 63 c4 c4 c5 c5 c8 c9 cc ce d4 d5 d6 d7 d8 d9 da db dc dd de df e0 e2 e3 e4 e6"
    "ec ed ee ef f1 f4 f6 f7 fa fb fc fd fe ff 9a ea 9b 9c 9d 9e 9f 60 61 6c 6d 6e 6f a4 a5 a6 a7 aa ab ac"
    "ad ae af 8f 8c 8d 87 1f 07 17 06 0e 16 1e c6 c7 d0 d3 c1 40 48 50 58"
)
#: Second bytes behind 0f: system instructions, bit tests, exchanges, SSE state, the longer opcode maps.
_SECOND: Final = bytes.fromhex(
    "00 01 02 03 05 06 07 08 09 0b 0d 18 1a 1b 1f 20 21 22 23 30 31 32 33 34 35 38 3a 77 a0 a1 a2 a3 a4 a8"
    "a9 aa ab ac ae ae b2 b3 b4 b5 b8 b9 ba bb c7 c0 c1 ff"
)
#: Calls that end most runs at once are rarer than the others.
_RARE: Final = frozenset({0, 4, 6, 23, 29})


def _word(chance: random.Random, base: int) -> int:
    """A number of the kind that has a meaning somewhere: a pointer, a boundary, a selector, a small count."""
    return chance.choice(
        (
            *(
                0,
                1,
                2,
                0xFFFFFFFF,
                0xFFFFFFFE,
                0x80000000,
                0x7FFFFFFF,
                0xF5800000,
                0xF57FFFFC,
                0xC0400000 - 4,
            ),
            *(
                chance.getrandbits(32),
                chance.randrange(64),
                chance.randrange(1 << 16),
                chance.choice(_SELECTORS),
            ),
            *(base + chance.randrange(0x4000) for _ in range(4)),
        )
    )


def _instruction(chance: random.Random, base: int) -> bytes:
    code = bytes(chance.choice(_PREFIXES) for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2))))
    kind = chance.random()
    if kind < 0.4:
        code += b"\x0f" + bytes([chance.choice(_SECOND) if chance.random() < 0.7 else chance.randrange(256)])
    elif kind < 0.8:
        code += bytes([chance.choice(_FIRST)])
    elif kind < 0.85:
        code += b"\xcd" + bytes([chance.choice((0x82, 0x80, 3, 4, 6, 13, 14, chance.randrange(256)))])
    elif kind < 0.9:
        target, selector = base + chance.randrange(0x4000), chance.choice(_SELECTORS)
        flags = chance.getrandbits(22)
        return b"".join(b"\x68" + struct.pack("<I", word) for word in (flags, selector, target)) + b"\xcf"
    elif kind < 0.94:
        return (
            b"\xb8"
            + struct.pack("<I", chance.choice(_SELECTORS))
            + b"\x8e"
            + bytes([0xC0 | chance.randrange(64)])
        )
    else:
        code += chance.randbytes(1)
    code += chance.choice((bytes([0xC0 | chance.randrange(64)]), chance.randbytes(1), b""))
    return code + chance.choice((b"", struct.pack("<I", _word(chance, base)), chance.randbytes(2)))


def _piece(chance: random.Random, base: int, size: int) -> bytes:
    if chance.random() < 0.2:
        return chance.randbytes(size)
    code = b""
    while len(code) < size:
        code += _instruction(chance, base)
    return code[:size]


def prepare_code(machine: Machine, image: Image, chance: random.Random) -> None:
    """Fill in the pieces of random_code.gk."""
    symbols, memory = image.symbols, machine.domain.memory
    pieces, size, base = symbols["PIECES"], symbols["PIECE"], symbols["code"]
    memory.copy_to_guest(base, b"".join(_piece(chance, base, size) for _ in range(pieces)))
    words = [_word(chance, base) for _ in range(pieces * 8)]
    memory.copy_to_guest(symbols["registers"], struct.pack(f"<{len(words)}I", *words))
    flags = [chance.choice((0x202, chance.getrandbits(22))) for _ in range(pieces)]
    memory.copy_to_guest(symbols["flags"], struct.pack(f"<{pieces}I", *flags))
    if machine.domain.is_translated:
        _fill_descriptors(machine, image, chance)
    ring = chance.choice((1, 3))
    memory.write_u32(symbols["ring"], ring)
    if ring == 3:
        for address in (*range(base, symbols["stack"], 4096), symbols["user_stack"]):
            _open_to_ring_3(machine, address)


def _fill_descriptors(machine: Machine, image: Image, chance: random.Random) -> None:
    """A descriptor table of whatever there is: such a guest may write it, and Xen can't refuse it."""
    memory = machine.domain.memory
    memory.write_u32(image.symbols["gdt_entries"], chance.choice((0, 64)))
    for entry in range(64):
        high = 0x8F00 | chance.getrandbits(8) << 16 & 0xF0FFFF | chance.choice((0, 0x20, 0x60)) << 8
        low = 0xFFFF | chance.choice((0xE019, 0xE008, 8, 16, 0)) << 16
        value = chance.choice(
            (low | (high | chance.choice((0x1000, 0xF000, 0xC00))) << 32, chance.getrandbits(64))
        )
        memory.copy_to_guest(image.symbols["gdt"] + entry * 8, struct.pack("<Q", value))


def _open_to_ring_3(machine: Machine, address: int) -> None:
    """Set the USER bit in the L1 entry of a page; the counts do not depend on it."""
    domain, entries = machine.domain, machine.hypervisor.ram.u64
    if domain.is_translated:
        place = domain.translation.memory.guest_l1e(domain.vcpus[0], address)
        mfn = None if place is None else domain.p2m.get(place >> 12)
        assert place is not None and mfn is not None
        entries[(mfn << 9) + (place >> 3 & 511)] |= USER
        return
    table = domain.vcpus[0].cr3
    for shift in (30, 21):
        table = entry_frame(entries[(table << 9) + (address >> shift & 511)])
    entries[(table << 9) + (address >> 12 & 511)] |= USER


def prepare_calls(machine: Machine, image: Image, chance: random.Random) -> None:
    """Fill in the table of hypercalls.gk, and what its arguments point to."""
    symbols, memory = image.symbols, machine.domain.memory
    number, scratch = symbols["ENTRIES"], symbols["scratch"]
    numbers = [call for call in BY_NUMBER if call not in _RARE] * 6 + list(BY_NUMBER) + [11, 64, 0xFFFFFFFF]
    first = 0 if machine.domain.is_translated else machine.hypervisor.heap.first

    def argument() -> int:
        frame = first + chance.randrange(MEMORY << 8)
        entry = frame << 12 | chance.choice((1, 3, 7, 0x61, 0x63, chance.randrange(4096)))
        return (
            chance.choice((_word(chance, scratch), chance.randrange(12), frame, entry, 0x7FF0, 0x7FF1))
            & 0xFFFFFFFF
        )

    table = b"".join(
        struct.pack("<8I", chance.choice(numbers), *(argument() for _ in range(5)), 0, 0)
        for _ in range(number)
    )
    memory.copy_to_guest(symbols["calls"], table)
    memory.copy_to_guest(scratch, struct.pack("<4096I", *(argument() for _ in range(4096))))


KINDS: Final[dict[str, tuple[str, Callable[[Machine, Image, random.Random], None]]]] = {
    "code": ("random_code.gk", prepare_code),
    "calls": ("hypercalls.gk", prepare_calls),
    "translated-code": ("random_code.gk", prepare_code),
    "translated-calls": ("hypercalls.gk", prepare_calls),
}


def image_of(kind: str) -> Image:
    """The guest's image; one that is to be auto-translated has to say that it can be."""
    path = GUESTS / KINDS[kind][0]
    text = path.read_text()
    if kind.startswith("translated"):
        text = re.sub(
            r'^guest "[^"]*"', r'\g<0>, features="auto_translated_physmap"', text, flags=re.MULTILINE
        )
    return assemble(text, filename=str(path))


def _watch(machine: Machine) -> list[str]:
    """Look at every exit whether the guest has got where it may not be; what was seen."""
    window, seen = machine.hypervisor.cpu.window, list[str]()

    def look(number: int) -> None:
        hidden = window.u32[layout.HFLAGS // 4]
        if hidden & layout.HF_CPL not in (1, 3) or hidden & layout.HF_CS64 or not hidden & layout.HF_GUEST:
            seen.append(f"exit {number:#x} with hidden flags {hidden:#x}")

    machine.hypervisor.cpu.trace(look)
    return seen


def run_guest(kind: str, seed: int, image: Image, window: str, clock: str) -> str:
    """Run the guest of one seed; what came of it. Raises AssertionError where a promise was broken."""
    chance = random.Random(seed)
    translated = kind.startswith("translated")
    config = GuestConfig(image.elf, memory=MEMORY, paging=Paging.SHADOW if translated else None)
    with Machine(
        [config],
        machine_memory=MACHINE_MEMORY + (POOL if translated else 0),
        privileged=chance.random() < 0.5 and not translated,
        window=window,  # type: ignore[arg-type]
        clock=clock,  # type: ignore[arg-type]
    ) as machine:
        KINDS[kind][1](machine, image, chance)
        escapes = _watch(machine)
        result = machine.run(LIMIT)
        assert not escapes, escapes[0]
        Auditor(machine.hypervisor).audit()
        # A guest may also say by itself that it has crashed.
        if result.outcome is Outcome.CRASH and kind.endswith("code"):
            assert machine.log_lines, "a domain was crashed without a reason"
        if translated:
            machine.domain.translation.shadow.check()
        return result.outcome.value


def main(kind: str, seed: str, count: str, window: str, clock: str) -> None:
    """Run guests of consecutive seeds."""
    image = image_of(kind)
    for number in range(int(seed), int(seed) + int(count)):
        print(f"{kind} seed {number}:", end=" ", flush=True)
        print(run_guest(kind, number, image, window, clock), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
