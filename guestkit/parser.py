"""Reads one line into its syntax tree, with the grammar beside this file."""

from functools import lru_cache
from pathlib import Path

from lark import Lark, UnexpectedInput

from guestkit.errors import Mistake
from guestkit.expectation import mistake_of
from guestkit.syntax import Directive, Parsed
from guestkit.treebuilder import TreeBuilder

LONGEST_LINE = 16384
"""Characters of a line, macro parameters replaced."""


def parse_line(text: str) -> Parsed:
    """Return the syntax tree of a line; Mistake when it is not of the language."""
    parsed = _parse(text, "statement")
    assert isinstance(parsed, Parsed)
    return parsed


def parse_field(text: str) -> Directive | None:
    """Return the ``name: type`` of a line inside a structure, None for an empty line; else Mistake."""
    field = _parse(text, "field")
    assert field is None or isinstance(field, Directive)
    return field


# Repetitions and library macros bring the same lines again and again; the trees never change.
@lru_cache(maxsize=4096)
def _parse(text: str, start: str) -> object:
    if len(text) > LONGEST_LINE:
        raise Mistake(f"a line has at most {LONGEST_LINE} characters, this one has {len(text)}")
    try:
        # With the tree builder inside the parser, parse returns what the builder made of the start rule.
        return _lark().parse(text, start=start)
    except UnexpectedInput as error:
        raise mistake_of(error, text) from error


@lru_cache(maxsize=1)
def _lark() -> Lark:
    grammar = Path(__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    return Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        start=["statement", "field"],
        transformer=TreeBuilder(),
        maybe_placeholders=True,
    )
