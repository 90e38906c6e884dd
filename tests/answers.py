"""What tests that make hypercalls for a domain have in common."""

from typing import Any, Final, NamedTuple

#: Cycles of a slice that is longer than any call of these tests takes.
LONG_SLICE: Final = 10_000_000
#: The number of the domain that lives outside the machine.
OUTSIDE: Final = 7


class Answer(NamedTuple):
    """What a command on one structure returned, and the structure as it was afterwards."""

    result: int
    op: Any
