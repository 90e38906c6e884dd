"""Short ways to assemble in tests: the bytes of a text's code, the problems of a wrong one."""

import pytest

from guestkit import AssemblyError, assemble


def code(text: str, bits: int = 32) -> bytes:
    """The bytes that a text makes in .text, at address 0."""
    return assemble(f"bits {bits}\n{text}").section_bytes(".text")


def doublewords(text: str) -> list[int]:
    """The signed values of the dd lines that a text consists of."""
    data = code(text)
    return [int.from_bytes(data[at : at + 4], "little", signed=True) for at in range(0, len(data), 4)]


def problems(text: str) -> list[str]:
    """The messages of all problems of a text, without their places."""
    with pytest.raises(AssemblyError) as caught:
        assemble(text)
    return [problem.message for problem in caught.value.problems]


def complaint(text: str) -> str:
    """The whole text of the error, as a person reads it."""
    with pytest.raises(AssemblyError) as caught:
        assemble(text, filename="t.asm")
    return str(caught.value)
