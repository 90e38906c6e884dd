"""The statement times, which repeats one other statement."""

from collections.abc import Callable

from guestkit.assembly import Assembly
from guestkit.errors import Mistake
from guestkit.statements import data
from guestkit.syntax import Directive, Statement, mentions_here

_MOST_STATEMENTS = 1 << 16
# Data is repeated as one piece, so its count may be large and may depend on addresses.
_DATA = {
    "db": data.numbers,
    "dw": data.numbers,
    "dd": data.numbers,
    "dq": data.numbers,
    "asciz": data.terminated_text,
}


def times(assembly: Assembly, directive: Directive, run: Callable[[Statement], None]) -> None:
    """Repeat the statement behind it; ``run`` runs a statement."""
    count_expression = directive.values[0]
    body = directive.body
    assert count_expression is not None and body is not None
    if isinstance(body, Directive) and body.keyword in _DATA:
        if not any(mentions_here(item) for item in body.values if item is not None):
            _DATA[body.keyword](assembly, body, count_expression)
            return
    elif isinstance(body, Directive) and body.keyword not in ("incbin", "trap"):
        raise Mistake(f"times repeats instructions and data, not {body.keyword}", body.column)
    count = assembly.evaluator.constant(count_expression, assembly.place(), "the number of repetitions")
    if not 0 <= count <= _MOST_STATEMENTS:
        raise Mistake(
            f"a statement is repeated 0 to {_MOST_STATEMENTS} times, not {count}", count_expression.column
        )
    for _ in range(count):
        run(body)
