"""The guest's word: the size of a C long in bytes, from which all differences of the two ABIs follow."""

from typing import Final, NamedTuple

WORDS: Final = (4, 8)
"""The two values a ``word`` argument may have: 4 for an x86_32 guest, 8 for an x86_64 guest."""


class PerWord(NamedTuple):
    """A number that the public headers define differently for 32-bit and 64-bit guests."""

    word4: int
    word8: int

    def of(self, word: int) -> int:
        """Return the number for a guest whose long has ``word`` bytes; ValueError when that is not 4 or 8."""
        return self[check_word(word) == 8]


def check_word(word: int) -> int:
    """Return ``word`` unchanged; ValueError when it is neither 4 nor 8."""
    if word not in WORDS:
        raise ValueError(f"a guest word has 4 or 8 bytes, not {word!r}")
    return word
