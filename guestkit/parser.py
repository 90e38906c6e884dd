"""Reads one line into its syntax tree, with the grammar beside this file."""

from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

from lark import Lark, UnexpectedInput
from lark.exceptions import UnexpectedToken

from guestkit.errors import Mistake
from guestkit.expectation import mistake_of
from guestkit.syntax import Directive, Parsed
from guestkit.treebuilder import TreeBuilder

LONGEST_LINE = 16384
"""Characters of a line, macro parameters replaced."""
_LONGEST_REPEATED = 1000


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
        raise mistake_of(error, text, _accepted_before(error, text, start)) from error


class _Interactive(Protocol):
    """The part of lark's interactive parser that is used here, with the types that lark leaves out."""

    def accepts(self) -> set[str]: ...
    def copy(self, deepcopy_values: bool) -> "_Interactive": ...


def _accepted_before(error: UnexpectedInput, text: str, start: str) -> set[str]:
    """Return the terminals that could have stood where the error is.

    By the time it is raised the parser has often closed the expression before it and forgotten that an
    operator was possible. So the line is parsed again, to ask the parser as it was before the wrong token.
    """
    if len(text) > _LONGEST_REPEATED:
        return (error.accepts if isinstance(error, UnexpectedToken) else None) or set()
    parser = _lark().parse_interactive(text, start)
    before = now = cast(_Interactive, parser)
    token = None
    try:
        for token in parser.iter_parse():  # noqa: B007  a token is fed when the next one is asked for
            before = now.copy(deepcopy_values=False)
        before = now
    except UnexpectedInput as again:
        if not (isinstance(again, UnexpectedToken) and again.token is token):
            before = now  # it was the lexer that failed: the parser has not moved
    return before.accepts()


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
