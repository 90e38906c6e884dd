"""Guesses which known word a person meant by an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is spelt most like this one, None when none is near.

    Swapped letters are the commonest slip, so a word of the same letters is preferred.
    """
    candidates = get_close_matches(word, sorted(known), n=8, cutoff=0.6)
    letters = sorted(word)
    for candidate in candidates:
        if sorted(candidate) == letters and len(word) > 1:
            return candidate
    return next(iter(get_close_matches(word, candidates, n=1, cutoff=0.75)), None)
