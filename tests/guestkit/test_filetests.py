"""Filetests: small programs in tests/asm/filetests with the bytes of each line beside it, after ``; =``.

The bytes were checked with NASM or objdump when they were written. A line inside a macro or a repetition
has the bytes of its first expansion.
"""

import re
from pathlib import Path

import pytest

from guestkit import assemble

_FILES = sorted((Path(__file__).parent.parent / "asm" / "filetests").glob("*.asm"))
_EXPECTED = re.compile(r"; = ([0-9a-f ]+)$")


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_each_line_becomes_the_bytes_beside_it(path: Path) -> None:
    text = path.read_text()
    expected = {
        number: match[1].strip()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := _EXPECTED.search(line.rstrip()))
    }
    assert expected
    found: dict[int, str] = {}
    for listed in assemble(text, filename=str(path)).listed:
        if listed.data:
            found.setdefault(listed.line.number, listed.data.hex(" "))
    assert {number: found.get(number, "nothing") for number in expected} == expected
