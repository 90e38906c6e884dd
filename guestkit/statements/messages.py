"""Statements by which a program speaks to the person who assembles it: error and warning."""

from guestkit.assembly import Assembly
from guestkit.errors import Mistake, Problem
from guestkit.syntax import Directive, Text


def error(assembly: Assembly, directive: Directive) -> None:
    """Report a mistake in the program's own words."""
    raise Mistake(_text(directive), directive.column)


def warning(assembly: Assembly, directive: Directive) -> None:
    """Note a warning."""
    if len(assembly.warnings) < 100:
        assembly.warnings.append(Problem(f"warning: {_text(directive)}", assembly.line, directive.column))


def _text(directive: Directive) -> str:
    (text,) = directive.values
    assert isinstance(text, Text)
    return text.text
