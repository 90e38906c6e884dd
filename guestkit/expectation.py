"""Turns what the grammar would have accepted into words that a person would use."""

from collections.abc import Set

from lark import Token, UnexpectedInput
from lark.exceptions import UnexpectedToken

from guestkit.errors import Mistake

_OPERATORS = frozenset({"PLUS", "STAR", "PIPE"})
# Groups of terminals and their name; a group is said when the grammar accepts all of it, and its members are
# then not said again. The order is that of the words in the message, so the wider group comes first.
_GROUPS: tuple[tuple[str, frozenset[str]], ...] = (
    ("an instruction / a directive / a label", frozenset({"NAME", "DATA", "SECTION", "LOCAL", "PREFIX"})),
    ("an instruction / a directive", frozenset({"NAME", "DATA", "SECTION", "PREFIX"})),
    ("an instruction", frozenset({"PREFIX", "NAME"})),
    (
        "an operand (a register, a number, a symbol or [memory])",
        frozenset({"NAME", "NUMBER", "OPEN", "SIZE", "HERE"}),
    ),
    ("a value / [memory]", frozenset({"NAME", "NUMBER", "OPEN", "HERE"})),
    ("a string / a value", frozenset({"NAME", "NUMBER", "STRING", "HERE"})),
    ("a value", frozenset({"NAME", "NUMBER", "HERE"})),
    ("a string in double quotes", frozenset({"STRING"})),
    ("a name", frozenset({"NAME"})),
    ("[memory]", frozenset({"OPEN"})),
    ("a comma", frozenset({"COMMA"})),
    ("a colon", frozenset({"COLON"})),
    ('")"', frozenset({"RPAR"})),
    ('"]"', frozenset({"RSQB"})),
    ('"="', frozenset({"_ASSIGN"})),
    ("an operator", _OPERATORS),
    ("the end of the line", frozenset({"$END"})),
)
# Beginnings of an expression: said by "a value".
_VALUE_WORDS = frozenset(
    {
        "MINUS",
        "PLUS",
        "TILDE",
        "BANG",
        "LPAR",
        "NUMBER",
        "CHARACTERS",
        "NAME",
        "LOCAL",
        "HERE",
        "SECTION_START",
    }
)


def mistake_of(error: UnexpectedInput, text: str, accepted: Set[str]) -> Mistake:
    """Return what a parse error means: what was found, what could have stood there, and at which column."""
    if not isinstance(error, UnexpectedToken):
        return _unreadable(text, error.column)
    token: Token = error.token
    # The parser gives the token that means the end the place of the last real one.
    column = (token.end_column if token.type == "$END" else token.column) or 1
    found = "the end of the line" if token.type == "$END" else f'"{_shorten(str(token))}"'
    expected = expected_words(accepted)
    if token.type == "CHARACTERS" and "a string in double quotes" in expected:
        return Mistake(
            "a string stands in double quotes; single quotes are for characters as numbers", column
        )
    return Mistake(
        f"expected {_join(expected)}, found {found}" if expected else f"unexpected {found}", column
    )


def expected_words(accepted: Set[str]) -> list[str]:
    """Return the names of what the terminals mean, in a fixed order, without saying anything twice."""
    left = set(accepted)
    if left >= _OPERATORS:
        left.discard("OPEN")  # a subscript, which only paths into structures have
    words: list[str] = []
    for name, group in _GROUPS:
        if group <= left:
            words.extend(name.split(" / "))
            left -= group
            if "HERE" in group:
                left -= _VALUE_WORDS - {"PLUS", "LOCAL"}
    return words


def _unreadable(text: str, column: int) -> Mistake:
    char = text[column - 1 : column]
    if char in ('"', "'") and char:
        return Mistake(f"the closing {char} is missing", column)
    return Mistake(f"the character {char!r} has no meaning here", column)


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
