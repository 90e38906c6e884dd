"""Names of structures and of fields in them, as they are written in expressions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guestkit.errors import Mistake
from guestkit.program import Place
from guestkit.structures import Layout
from guestkit.syntax import Name, Path
from guestkit.x86.operands import REGISTERS

if TYPE_CHECKING:
    from guestkit.evaluator import Evaluator


@dataclass(frozen=True)
class FieldName:
    """A field: its structure, the path inside it (empty for the structure itself), and the bytes before that.

    ``before`` is not 0 when the structure's own name has a subscript, as in ``trap_info[3].address``.
    """

    layout: Layout
    path: str
    before: int
    place: Place
    column: int

    def offset(self) -> int:
        """Return the offset in bytes; Mistake when there is no such field."""
        return self.before + (self._find(self.layout.offset) if self.path else 0)

    def size(self) -> int:
        """Return the size in bytes; Mistake when there is no such field."""
        return self._find(self.layout.field_size) if self.path else self.layout.size(self.place.word)

    def _find(self, find: Callable[[str, int], int]) -> int:
        try:
            return find(self.path, self.place.word)
        except LookupError as error:
            raise Mistake(str(error.args[0]), self.column) from error


def field_name(evaluator: "Evaluator", expression: Name | Path, place: Place) -> FieldName:
    """Return the field that an expression names; Mistake when it does not begin with a structure."""
    text = expression.name if isinstance(expression, Name) else _with_subscripts(evaluator, expression, place)
    root, _, path = text.partition(".")
    root, bracket, subscript = root.partition("[")
    layout = evaluator.symbols.structure(root)
    if layout is None:
        is_known = evaluator.is_defined(root, place) or root.lower() in REGISTERS
        hint = (
            f"; memory is written [{root} + ...]"
            if is_known
            else evaluator.symbols.similar(root, place.scope)
        )
        raise Mistake(f"{root} is no structure{hint}", expression.column)
    index = int(subscript.removesuffix("]")) if bracket else 0
    return FieldName(layout, path, index * layout.size(place.word), place, expression.column)


def _with_subscripts(evaluator: "Evaluator", path: Path, place: Place) -> str:
    text = path.root
    for expression, rest in path.steps:
        index = evaluator.constant(expression, place, "a subscript")
        if index < 0:
            raise Mistake(f"a subscript is at least 0, not {index}", expression.column)
        text += f"[{index}]{rest}"
    if "][" in text:
        raise Mistake("a field has one subscript, not two", path.column)
    return text
