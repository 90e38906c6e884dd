"""Transcripts of accesses to a PC's devices: one access a line, and behind a read what it gave.

    out 20 11           a byte to a port (outw, outl: wider)
    in 21 = fb          a byte from a port (inw, inl)
    put fee000f0 1ff    32 bits to a register in memory
    get fee00030 = 50014
    in 61 & 20 = 20     only these bits are known
    sector 1f0 = 12345  256 words by REP INSW, as one number (see `checksum`)
    fill 1f0 1000       256 words by REP OUTSW, counted from a value
    wait                some tens of milliseconds
    # why               a remark

Where QEMU and Xen differ, `but` tells what Xen's devices give, and the remark why:

    in 20 = 10 but 01   # the end of an interrupt is not for a masked line
"""

import re
from dataclasses import dataclass
from pathlib import Path

#: The words, in the order of the kinds that ports.gk knows.
WORDS = ("out", "outw", "outl", "in", "inw", "inl", "put", "get", "wait", "sector", "fill")
SIZES = {"out": 1, "outw": 2, "outl": 4, "in": 1, "inw": 2, "inl": 4, "put": 4, "get": 4, "sector": 4}
READS = {"in", "inw", "inl", "get", "sector"}
SECTOR_WORDS = 256

_LINE = re.compile(
    r"(?P<word>[a-z]+)(?: (?P<place>[0-9a-f]+))?(?: & (?P<mask>[0-9a-f]+))?"
    r"(?: =? ?(?P<value>[0-9a-f]+))?(?: but (?P<differing>[0-9a-f]+))?"
)


@dataclass(frozen=True)
class Access:
    """One line.

    `value` is what was written, or what the bare PC's read gave; `differing` what ours should give instead.
    """

    line: int
    word: str
    place: int
    mask: int
    value: int
    differing: int | None

    @property
    def expected(self) -> int:
        return (self.value if self.differing is None else self.differing) & self.mask

    @property
    def size(self) -> int:
        return SIZES[self.word]

    @property
    def reads(self) -> bool:
        return self.word in READS


def checksum(sector: bytes) -> int:
    """A sector as one number: as FNV-1 does it, but with double words."""
    value = 0
    for at in range(0, len(sector), 4):
        value = value * 0x0100_0193 & 0xFFFF_FFFF ^ int.from_bytes(sector[at : at + 4], "little")
    return value


def parse_line(number: int, line: str) -> Access | None:
    """The access of a line; None where there is only a remark."""
    text = line.partition("#")[0].strip()
    if not text:
        return None
    match = _LINE.fullmatch(text)
    assert match and match["word"] in WORDS, f"line {number}: {text}"
    given = {name: int(digits, 16) for name, digits in match.groupdict().items() if name != "word" and digits}
    return Access(
        number,
        match["word"],
        given.get("place", 0),
        given.get("mask", 0xFFFF_FFFF),
        given.get("value", 0),
        given.get("differing"),
    )


def parse(path: Path) -> list[Access]:
    """All accesses of a transcript."""
    lines = enumerate(path.read_text().splitlines(), 1)
    return [access for number, line in lines if (access := parse_line(number, line))]
