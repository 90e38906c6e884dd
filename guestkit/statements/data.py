"""Statements that make data: db, dw, dd, dq, asciz, reserve, align and incbin."""

from guestkit.assembly import Assembly
from guestkit.errors import Mistake
from guestkit.fragments import Alignment, Data, Fill, FixedBytes
from guestkit.library import find, read_bytes
from guestkit.program import LARGEST_IMAGE
from guestkit.syntax import Directive, Expression, Text
from guestkit.x86.operands import Value

_UNITS = {"db": 1, "dw": 2, "dd": 4, "dq": 8}
_LARGEST_ALIGNMENT = 1 << 21


def numbers(assembly: Assembly, directive: Directive, count: Expression | None = None) -> None:
    """Add the items of db, dw, dd or dq, perhaps several times."""
    _need_bytes(assembly, directive)
    items = [item for item in directive.values if item is not None]
    assembly.add(Data(_UNITS[directive.keyword], items, count))


def terminated_text(assembly: Assembly, directive: Directive, count: Expression | None = None) -> None:
    """Add strings that each end with a zero byte."""
    _need_bytes(assembly, directive)
    texts = [Text(item.data + b"\0", item.column) for item in directive.values if isinstance(item, Text)]
    assembly.add(Data(1, texts, count))


def reserve(assembly: Assembly, directive: Directive) -> None:
    """Add space, filled when a byte is named."""
    count, byte = directive.values
    assert count is not None
    if byte is not None:
        _need_bytes(assembly, directive)
    size: Value | None
    try:
        size = assembly.evaluator.evaluate(count, assembly.place())
    except Mistake:
        size = None  # it speaks of what comes later; if not, that is told then
    known = size.number if size is not None and size.known and 0 <= size.number <= LARGEST_IMAGE else None
    assembly.add(Fill(count, byte, known))


def align(assembly: Assembly, directive: Directive) -> None:
    """Pad to a multiple of the alignment."""
    step_expression, byte = directive.values
    assert step_expression is not None
    step = alignment_of(assembly, step_expression)
    if byte is not None:
        _need_bytes(assembly, directive)
    assembly.section.alignment = max(assembly.section.alignment, step)
    assembly.add(Alignment(step, byte))


def alignment_of(assembly: Assembly, expression: Expression) -> int:
    """Return the value of an alignment in bytes; Mistake when it is no power of two up to 2 MiB."""
    step = assembly.evaluator.constant(expression, assembly.place(), "an alignment")
    if step <= 0 or step & (step - 1) or step > _LARGEST_ALIGNMENT:
        raise Mistake(
            f"an alignment is a power of two up to {_LARGEST_ALIGNMENT}, not {step}", expression.column
        )
    return step


def incbin(assembly: Assembly, directive: Directive) -> None:
    """Add the contents of a file, or a part of them."""
    _need_bytes(assembly, directive)
    name, offset, size = directive.values
    assert isinstance(name, Text)
    path = find(
        name.text, assembly.line.folder, assembly.include_paths, assembly.evaluator.target, name.column
    )
    contents = read_bytes(path, name.column)
    bounds: list[int] = []
    for expression, default in ((offset, 0), (size, len(contents))):
        number = default
        if expression is not None:
            number = assembly.evaluator.constant(expression, assembly.place(), "a part of a file")
        if number < 0 or (expression is not None and sum(bounds) + number > len(contents)):
            column = expression.column if expression else name.column
            raise Mistake(f"{path} has {len(contents)} bytes: this part is not in it", column)
        bounds.append(number)
    assembly.add(FixedBytes(contents[bounds[0] : bounds[0] + bounds[1]]))


def _need_bytes(assembly: Assembly, directive: Directive) -> None:
    if not assembly.section.has_bytes:
        name = assembly.section.name
        raise Mistake(f"{name} is memory without contents: it holds only reserve and align", directive.column)
