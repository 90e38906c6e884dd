"""Builds the nodes of the syntax tree, one method for each rule of the grammar, while the parser runs."""

from typing import TypeAlias, cast

from lark import Token, Transformer

from guestkit.errors import Mistake
from guestkit.literals import parse_characters, parse_number, parse_text
from guestkit.syntax import (
    Binary,
    Bracket,
    Call,
    Conditional,
    Directive,
    Expression,
    Here,
    Hypercall,
    Instruction,
    Label,
    Name,
    Number,
    Operand,
    Option,
    Pair,
    Parsed,
    Path,
    SectionStart,
    Statement,
    Text,
    Unary,
)

_DEEPEST_EXPRESSION = 150
"""Far more than people write, and far below what the evaluator's recursion can take."""

_Decoration: TypeAlias = tuple[str, Token]
_Subscript: TypeAlias = tuple[Expression, str]


def _column(token: Token) -> int:
    return token.column or 1


def _deeper(column: int, *parts: Expression) -> int:
    depth = 1 + max(part.depth for part in parts)
    if depth > _DEEPEST_EXPRESSION:
        raise Mistake(
            f"this expression is nested more than {_DEEPEST_EXPRESSION} deep; split it with equ", column
        )
    return depth


class TreeBuilder(Transformer[Token, Parsed | Directive | None]):
    """The parser calls the method named after a rule with that rule's children, innermost first."""

    # ---- expressions ----

    def number(self, children: list[Token]) -> Number:
        """Build a number."""
        return Number(parse_number(children[0], _column(children[0])), _column(children[0]))

    def characters(self, children: list[Token]) -> Number:
        """Build a character constant."""
        return Number(parse_characters(children[0], _column(children[0])), _column(children[0]))

    def text(self, children: list[Token]) -> Text:
        """Build a string."""
        return Text(parse_text(children[0], _column(children[0])), _column(children[0]))

    def name(self, children: list[Token]) -> Name:
        """Build a symbol, a register or a field."""
        return Name(str(children[0]), _column(children[0]))

    def here(self, children: list[Token]) -> Here:
        """Build ``$``."""
        return Here(_column(children[0]))

    def section_start(self, children: list[Token]) -> SectionStart:
        """Build ``$$``."""
        return SectionStart(_column(children[0]))

    def unary(self, children: list[Token | Expression]) -> Unary:
        """Build an operator before its operand."""
        operator, operand = cast(tuple[Token, Expression], tuple(children))
        return Unary(str(operator), operand, _column(operator), _deeper(_column(operator), operand))

    def binary(self, children: list[Token | Expression]) -> Binary:
        """Build an operator between its operands."""
        left, operator, right = cast(tuple[Expression, Token, Expression], tuple(children))
        column = _column(operator)
        return Binary(str(operator), left, right, column, _deeper(column, left, right))

    def conditional(self, children: list[Expression]) -> Conditional:
        """Build ``a ? b : c``."""
        condition, yes, no = children
        column = condition.column
        return Conditional(condition, yes, no, column, _deeper(column, condition, yes, no))

    def call(self, children: list[Token | Expression]) -> Call:
        """Build a function with its arguments."""
        function = cast(Token, children[0])
        arguments = tuple(cast(list[Expression], children[1:]))
        column = _column(function)
        return Call(str(function), arguments, column, _deeper(column, *arguments))

    def subscript(self, children: list[Token | Expression | None]) -> _Subscript:
        """Build ``[index]`` and what follows it."""
        _, index, field = cast(tuple[Token, Expression, Token | None], tuple(children))
        return index, str(field or "")

    def path(self, children: list[Token | _Subscript]) -> Path:
        """Build a field with subscripts."""
        root = cast(Token, children[0])
        steps = tuple(cast(list[_Subscript], children[1:]))
        column = _column(root)
        return Path(str(root), steps, column, _deeper(column, *(index for index, _ in steps)))

    # ---- operands ----

    def value(self, children: list[Expression]) -> Expression:
        """Build an operand that is an expression or a register."""
        return children[0]

    def bracket(self, children: list[Token | Expression | None]) -> Bracket:
        """Build a memory operand without the keywords before it."""
        opening, reach, segment, address = cast(
            tuple[Token, Token | None, Expression | None, Expression], tuple(children)
        )
        return Bracket(address, segment, str(reach).lower() if reach else None, _column(opening))

    def memory(self, children: list[Bracket]) -> Bracket:
        """Build an operand in memory."""
        return children[0]

    def segmented(self, children: list[Expression | Bracket]) -> Bracket:
        """Build an operand in memory with its segment before the bracket."""
        segment, bracket = cast(tuple[Expression, Bracket], tuple(children))
        if bracket.segment is not None:
            raise Mistake("a memory operand has one segment, not two", bracket.column)
        return Bracket(bracket.address, segment, bracket.reach, segment.column)

    def pair(self, children: list[Expression]) -> Pair:
        """Build ``a:b``."""
        return Pair(children[0], children[1], children[0].column)

    def decoration(self, children: list[Token | None]) -> _Decoration:
        """Build a keyword before an operand."""
        word = cast(Token, children[0])
        return ("size" if word.type == "SIZE" else "distance"), word

    def operand(self, children: list[_Decoration | Expression | Bracket | Pair]) -> Operand:
        """Build an operand with the keywords before it."""
        core = cast(Expression | Bracket | Pair, children[-1])
        words: dict[str, str] = {}
        first = core.column
        for kind, word in cast(list[_Decoration], children[:-1]):
            if kind in words:
                raise Mistake(f'"{words[kind]}" and "{word}" contradict each other', _column(word))
            words[kind] = word.lower()
            first = min(first, _column(word))
        return Operand(core, first, words.get("size"), words.get("distance"))

    def argument(self, children: list[Token | Operand | None]) -> Operand:
        """Build an argument of a hypercall."""
        ampersand, operand = cast(tuple[Token | None, Operand], tuple(children))
        if ampersand is None:
            return operand
        return Operand(operand.core, _column(ampersand), operand.size, operand.distance, address_of=True)

    # ---- statements ----

    def instruction(self, children: list[Token | Operand]) -> Instruction:
        """Build a machine instruction."""
        words = [child for child in children if isinstance(child, Token)]
        operands = tuple(child for child in children if isinstance(child, Operand))
        prefixes = tuple(word.lower() for word in words[:-1])
        return Instruction(prefixes, str(words[-1]), operands, _column(words[-1]))

    def hypercall(self, children: list[Token | Operand]) -> Hypercall:
        """Build a hypercall."""
        keyword, name = cast(tuple[Token, Token], tuple(children[:2]))
        arguments = tuple(cast(list[Operand], children[2:]))
        return Hypercall(str(name), arguments, _column(keyword), _column(name))

    def option(self, children: list[Token | Expression | None]) -> Option:
        """Build ``name=value`` or a name alone."""
        name, value = cast(tuple[Token, Expression | None], tuple(children))
        return Option(str(name), value, _column(name))

    flag = option

    def directive(self, children: list[Token | Expression | Option | Statement | None]) -> Directive:
        """Build any other statement: what each child is can be told from its type."""
        keyword, column, name, name_column, body = "", 1, "", None, None
        values: list[Expression | None] = []
        options: list[Option] = []
        for child in children:
            if isinstance(child, Token) and child.type in ("NAME", "LOCAL"):
                name, name_column = str(child), _column(child)
            elif isinstance(child, Token):
                keyword, column = child.lower(), _column(child)
            elif isinstance(child, Option):
                options.append(child)
            elif isinstance(child, Instruction | Hypercall | Directive):
                body = child
            else:
                values.append(child)
        return Directive(keyword, column, name, name_column, tuple(values), tuple(options), body)

    constant = data = terminated_text = reserve = align = times = incbin = bits = section = directive
    structure = end_structure = include = if_ = elif_ = else_ = endif = ifdef = ifndef = directive
    rept = endrept = endmacro = error = warning = guest = note = trap_table = trap = end = directive

    def field(self, children: list[Token | Expression | None]) -> Directive | None:
        """Build a line inside a structure; None for an empty one."""
        name, kind = cast(tuple[Token | None, Expression], tuple(children))
        if name is None:
            return None
        return Directive("field", _column(name), str(name), _column(name), (kind,))

    def label(self, children: list[Token]) -> Label:
        """Build a label."""
        return Label(str(children[0]), _column(children[0]))

    def statement(self, children: list[Label | Statement]) -> Parsed:
        """Build the line."""
        labels = tuple(child for child in children if isinstance(child, Label))
        last = children[-1] if children else None
        return Parsed(labels, None if last is None or isinstance(last, Label) else last)
