"""Random machine code for HVM guests, in every mode and ring, with random registers, segments and tables.

`records` makes what tests/guests/hvm/random_code.gk runs.
"""

import random
import struct
from collections.abc import Mapping
from typing import Final

REAL, REAL32, FLAT, TWO_LEVEL, PAE, LONG, COMPATIBLE = range(7)
_RECORD_SIZE: Final = 512
_CODE_SIZE: Final = 128
_EDITS: Final = 4
_BASE: Final = 0x10000
_VM: Final = 1 << 17
_TF: Final = 1 << 8

_CR0_BITS: Final = (1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 16, 1 << 16, 1 << 16, 1 << 18)
_CR4_BITS: Final = (1 << 2, 1 << 3, 1 << 4, 1 << 7, 1 << 7, 1 << 9, 1 << 10, 1 << 16)
_EFER_BITS: Final = (1, 1 << 11, 1 << 11)
_CODE: Final = {0: (0x08, 0x08, 0x08, 0x50), 3: (0x1B, 0x1B, 0x1B, 0x63)}
_CODE_OF_LONG: Final = {0: 0x40, 3: 0x4B}
_DATA: Final = {0: (0x10, 0x10, 0x10, 0x58), 3: (0x23,)}
_SELECTORS: Final = (
    *(0, 3, 8, 0x10, 0x18, 0x1B, 0x20, 0x23, 0x28),
    *(0x30, 0x40, 0x4B, 0x50, 0x58, 0x63, 0x68, 0x70),
)

_PREFIXES: Final = bytes.fromhex("f3 f2 f3 f2 f0 66 66 67 64 65 2e 36 3e 26 48 4c 41")
#: First bytes that lead to rare paths: far transfers, segment loads, strings, ports, the FPU, VEX, flags.
_FIRST: Final = bytes.fromhex(
    "8e cf cb ca c2 c3 62 62 63 c4 c4 c5 c5 c8 c9 cc ce d4 d5 d6 d7 d8 d9 da db dc dd de df e0 e2 e3 e4 e5 e6"
    "e7 ec ed ee ef f1 f4 f6 f7 fa fb fc fd fe ff 9a ea 9b 9c 9d 9e 9f 60 61 6c 6d 6e 6f 6c 6d 6e 6f a4 a5 a6"
    "a7 aa ab ac ad ae af a4 a5 8f 8c 8d 87 1f 07 17 06 0e 16 1e c6 c7 d0 d3 c1 40 48 50 58 f7 f6 0f 0f"
)
#: Second bytes behind 0f: system instructions, bit tests, exchanges, SSE state, the longer opcode maps.
_SECOND: Final = bytes.fromhex(
    "00 01 01 01 02 03 05 06 07 08 09 0b 0d 18 1a 1b 1f 20 20 21 22 22 23 30 30 31 32 33 34 35 38 3a 77 a0 a1"
    "a2 a3 a4 a8 a9 aa ab ac ae ae b2 b3 b4 b5 b8 b9 ba bb c7 c0 c1 ff 6f 7f e7 2b 10 11 b0 b1"
)
_MSRS: Final = (
    *(0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103),
    *(0x10, 0x1B, 0x174, 0x175, 0x176, 0x277, 0x200, 0x2FF, 0x6E0, 0x800, 0x830, 0x8FF, 0x40000000),
)
#: Local APIC, IO-APIC, HPET's place, the screen's hole, special pages, ACPI's tables, nothing at all.
_DEVICES: Final = (
    0xFEE00000,
    0xFEC00000,
    0xFED00000,
    0xA0000,
    0xFEFF8000,
    0xFC000000,
    0xC0000000,
    0xFFFFF000,
)
_PLACES: Final = (
    *("two_level_root", "two_level_l1", "l1", "l2", "l3", "l4"),
    *("descriptors", "gates32", "gates64", "task32", "task64", "next"),
)
_EDGES: Final = (
    0,
    0xFFFFFFFF,
    0x3FFFFF,
    0x400000,
    0x7FFFFFFFFFFF,
    0xFFFF800000000000,
    1 << 47,
    (1 << 40) - 4096,
)
_ONES: Final = (1 << 64) - 1
_NUMBERS: Final = (0, 1, 2, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 1 << 63, _ONES)


class Chance:
    """Random choices about one guest, whose symbols are known."""

    def __init__(self, seed: int, symbols: Mapping[str, int]) -> None:
        self._random = random.Random(seed)
        self._symbols = symbols

    def records(self) -> bytes:
        """All pieces of a guest."""
        number = self._symbols["PIECES"]
        return b"".join(self._record(index) for index in range(number))

    def descriptors(self) -> bytes:
        """Sixteen descriptors: gates, segments of all types, garbage."""
        return b"".join(struct.pack("<Q", self._descriptor()) for _ in range(16))

    # --- numbers ---------------------------------------------------------------------------------

    def _address(self) -> int:
        chance, symbols = self._random, self._symbols
        kind = chance.randrange(12)
        if kind < 3:
            place = symbols["records"] + chance.randrange(_RECORD_SIZE * symbols["PIECES"])
        elif kind < 9:
            place = symbols[chance.choice(_PLACES)]
        elif kind < 11:
            place = chance.choice(_DEVICES)
        else:
            place = chance.choice((*_EDGES, chance.getrandbits(64)))
        return place + chance.choice(
            (0, 0, 0, 4, 8, 0x20, 0xFF8, 0xFFC, 0xFFE, 0xFFF, chance.randrange(4096))
        )

    def _word(self) -> int:
        chance = self._random
        kind = chance.randrange(11)
        if kind < 5:
            return self._address() & _ONES
        if kind < 7:
            return chance.choice(_NUMBERS)
        if kind < 9:
            return chance.choice((chance.randrange(64), chance.randrange(1 << 16), chance.getrandbits(32)))
        return chance.choice(_SELECTORS if kind == 9 else _MSRS)

    def _descriptor(self) -> int:
        chance = self._random
        kind = chance.random()
        if kind < 0.3:
            return chance.getrandbits(64)
        kinds = 0x80 | chance.randrange(32) | chance.choice((0, 0x60))
        base, limit = (
            self._address() & 0xFFFFFFFF,
            chance.choice((0xFFFFF, 0xFFFF, 0, 0x67, chance.getrandbits(20))),
        )
        if kind < 0.6:
            selector = chance.choice(_SELECTORS)
            return base & 0xFFFF | selector << 16 | chance.randrange(8) << 32 | kinds << 40 | base >> 16 << 48
        return (
            (limit & 0xFFFF | (base & 0xFFFFFF) << 16 | kinds << 40)
            | (limit >> 16) << 48
            | chance.randrange(16) << 52
            | base >> 24 << 56
        )

    def _entry(self) -> int:
        """A page-table entry."""
        chance = self._random
        flags = chance.choice((0, 1, 3, 7, 7, 0x27, 0x67, 0x87, 0xE7, 0x83, chance.randrange(4096)))
        high = chance.choice(
            (0, 0, 0, 0, 1 << 63, chance.getrandbits(12) << 52, chance.getrandbits(52) >> 12 << 12)
        )
        return (self._address() & ~0xFFF | flags | high) & ((1 << 64) - 1)

    def _bits(self, choices: tuple[int, ...]) -> int:
        value = 0
        for _ in range(self._random.randrange(4)):
            value |= self._random.choice(choices)
        return value

    # --- code ------------------------------------------------------------------------------------

    def _instruction(self, mode: int) -> bytes:
        chance = self._random
        code = bytes(chance.choice(_PREFIXES) for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2))))
        kind = chance.random()
        if kind < 0.06:
            register = chance.randrange(8)
            load = bytes([0xB8 | register]) + struct.pack("<I", self._word() & 0xFFFFFFFF)
            return (
                load
                + b"\x0f"
                + bytes(
                    [
                        chance.choice((0x22, 0x22, 0x23, 0x21)),
                        0xC0 | chance.choice((0, 2, 3, 4, 7, 8)) << 3 & 0x38 | register,
                    ]
                )
            )
        if kind < 0.08:
            return (
                b"\xb9" + struct.pack("<I", chance.choice(_MSRS)) + chance.choice((b"\x0f\x30", b"\x0f\x32"))
            )
        if kind < 0.12:
            # A string instruction, or an access, at a chosen place.
            load = (
                b"\xbf"
                + struct.pack("<I", self._address() & 0xFFFFFFFF)
                + b"\xbe"
                + struct.pack("<I", self._address() & 0xFFFFFFFF)
            )
            count = b"\xb9" + struct.pack("<I", chance.choice((0, 1, 2, 5, 300, 0xFFFFFFFF)))
            return (
                load
                + count
                + chance.choice((b"", b"\xf3", b"\xf2"))
                + chance.choice((b"", b"\x66", b"\x48"))
                + bytes(
                    [
                        chance.choice(
                            b"\xa4\xa5\xa6\xa7\xaa\xab\xac\xad\xae\xaf\x6c\x6d\x6e\x6f\x8b\x89\x87\xff\x01"
                        )
                    ]
                )
                + b"\x07"
            )
        if kind < 0.15:
            port = chance.choice(
                (
                    0x20,
                    0x21,
                    0x40,
                    0x43,
                    0x60,
                    0x64,
                    0x70,
                    0x71,
                    0x80,
                    0xCF8,
                    0xE9,
                    0x3F8,
                    0x92,
                    chance.getrandbits(16),
                )
            )
            return (
                b"\x66"[: mode != REAL]
                + b"\xba"
                + struct.pack("<H", port)
                + bytes([chance.choice(b"\xec\xed\xee\xef\x6c\x6d\x6e\x6f")])
            )
        if kind < 0.45:
            code += b"\x0f" + bytes(
                [chance.choice(_SECOND) if chance.random() < 0.7 else chance.randrange(256)]
            )
        elif kind < 0.8:
            code += bytes([chance.choice(_FIRST)])
        elif kind < 0.84:
            code += b"\xcd" + bytes([chance.choice((0x20, 0x80, 3, 4, 6, 8, 13, 14, chance.randrange(256)))])
        elif kind < 0.88:
            words = struct.pack("<H", chance.choice(_SELECTORS))
            return chance.choice((b"\x9a", b"\xea")) + struct.pack("<I", self._address() & 0xFFFFFFFF) + words
        elif kind < 0.92:
            return (
                b"\x66\xb8"
                + struct.pack("<H", 0x78 + chance.randrange(16) * 8 + chance.randrange(4))
                + chance.choice(
                    (
                        bytes([0x8E, 0xC0 | chance.randrange(6) << 3]),
                        b"\x0f\x00\xd8",
                        b"\x0f\x00\xd0",
                        b"\x50\xcb",
                    )
                )
            )
        else:
            code += chance.randbytes(1)
        code += chance.choice(
            (bytes([0xC0 | chance.randrange(64)]), bytes([chance.randrange(64)]), chance.randbytes(1), b"")
        )
        return code + chance.choice(
            (b"", struct.pack("<I", self._address() & 0xFFFFFFFF), chance.randbytes(2))
        )

    def _code(self, mode: int) -> bytes:
        chance = self._random
        if chance.random() < 0.15:
            return chance.randbytes(_CODE_SIZE)
        code = b""
        while len(code) < _CODE_SIZE:
            code += self._instruction(mode)
        return code[:_CODE_SIZE]

    # --- a piece ---------------------------------------------------------------------------------

    def _record(self, index: int) -> bytes:
        chance, symbols = self._random, self._symbols
        at = symbols["records"] + index * _RECORD_SIZE + _CODE_OFFSET
        mode = chance.choice(
            (REAL, REAL32, FLAT, TWO_LEVEL, TWO_LEVEL, PAE, PAE, LONG, LONG, LONG, COMPATIBLE)
        )
        ring = chance.choice((0, 0, 3))
        code, data = chance.choice(_CODE[ring]), chance.choice(_DATA[ring])
        target = at - _BASE if code in (0x50, 0x63) else at
        flags = chance.choice((0x202, 0x202, 2, 0x3202, chance.getrandbits(22) & ~_VM | 2))
        segments = [chance.choice((data, data, data, 0, chance.choice(_SELECTORS))) for _ in range(4)]
        if mode not in (LONG, COMPATIBLE, REAL, REAL32) and chance.random() < 0.1:
            flags |= _VM
            code = data = _BASE >> 4
            target = at - _BASE
        if mode != LONG:
            segments[:2] = [data & 0xFFFF if data != _BASE >> 4 else 0x23] * 2
        cr3 = chance.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0x18, 0x20, 0xFFFFFFFF & self._address()))
        head = struct.pack(
            "<5I4H2I",
            mode,
            self._bits(_CR0_BITS) if mode > REAL32 else self._bits(_CR0_BITS[:4]),
            cr3,
            self._bits(_CR4_BITS),
            self._bits(_EFER_BITS),
            *segments,
            at - _BASE,
            _BASE >> 4,
        )
        edits = b""
        for _ in range(chance.choice((0, 0, 0, 1, 2, _EDITS))):
            tables = ("two_level_root", "two_level_l1") if mode == TWO_LEVEL else ("l1", "l2", "l3", "l4")
            table = symbols[chance.choice(tables)]
            slot = chance.choice((0, 1, 2, 3, at >> 12, at >> 12, 0x12, 0x20, 511, chance.randrange(512)))
            size = 4 if mode == TWO_LEVEL else 8
            edits += struct.pack("<2IQ", table + slot * size, size, self._entry())
        edits = edits.ljust(_EDITS * 16, b"\0")
        stack = symbols["stack_end"] - chance.choice((0, 16, 256, 1, 3))
        esp = chance.choice(
            (stack, stack, stack, stack - _BASE if data == 0x58 else stack, self._address() & 0xFFFFFFFF)
        )
        frame32 = struct.pack(
            "<17I",
            *(self._word() & 0xFFFFFFFF for _ in range(8)),
            *(target, code, flags, esp, data),
            *(chance.choice((0x1000, 0, 0xFFFF, chance.getrandbits(16))) for _ in range(4)),
        )
        frame64 = struct.pack(
            "<20Q",
            *(self._word() for _ in range(15)),
            *(
                at,
                _CODE_OF_LONG[ring],
                flags,
                chance.choice((stack, stack, stack, self._address() & ((1 << 64) - 1))),
                _DATA[ring][0],
            ),
        )
        record = head + edits + frame32 + bytes(4) + frame64 + self._code(mode)
        return record.ljust(_RECORD_SIZE, b"\0")


_CODE_OFFSET: Final = 36 + 64 + 68 + 4 + 160
