"""The syntax tree of one line: expressions, operands and statements, each with its column (from 1)."""

from dataclasses import dataclass

# ---- expressions ----


@dataclass(frozen=True, slots=True)
class Number:
    """A number or a character constant."""

    number: int
    column: int
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """A string with its escapes resolved; a value only as an argument of strlen and in data."""

    data: bytes
    column: int
    depth: int = 0

    @property
    def text(self) -> str:
        """Return the string for file names and messages; bytes that are no UTF-8 are shown as escapes."""
        return self.data.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class Name:
    """A symbol, a register, or a field of a structure written without subscripts (``start_info.flags``)."""

    name: str
    column: int
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Here:
    """The address of the statement, ``$``."""

    column: int
    depth: int = 0


@dataclass(frozen=True, slots=True)
class SectionStart:
    """The address of the first byte of the section, ``$$``."""

    column: int
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Unary:
    """A sign, complement or logical not."""

    operator: str
    operand: "Expression"
    column: int
    depth: int


@dataclass(frozen=True, slots=True)
class Binary:
    """Two expressions and an operator between them, of which the column is kept."""

    operator: str
    left: "Expression"
    right: "Expression"
    column: int
    depth: int


@dataclass(frozen=True, slots=True)
class Conditional:
    """``condition ? yes : no``."""

    condition: "Expression"
    yes: "Expression"
    no: "Expression"
    column: int
    depth: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function such as sizeof or lo32, or a register with a number such as st(1)."""

    function: str
    arguments: tuple["Expression", ...]
    column: int
    depth: int


@dataclass(frozen=True, slots=True)
class Path:
    """A field of a structure with at least one subscript: ``shared_info.vcpu_info[0].arch.cr2``."""

    root: str
    steps: tuple[tuple["Expression", str], ...]
    """Each subscript and what follows it: "" or a name with its dot, such as ".arch.cr2"."""
    column: int
    depth: int


Expression = Number | Text | Name | Here | SectionStart | Unary | Binary | Conditional | Call | Path

# ---- operands ----


@dataclass(frozen=True, slots=True)
class Bracket:
    """What stands in square brackets: an address, perhaps with a segment and the word rel or abs."""

    address: Expression
    segment: Expression | None
    reach: str | None
    column: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two values with a colon: selector and offset of a far address, or the halves of a 64-bit argument."""

    high: Expression
    low: Expression
    column: int


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of an instruction or hypercall, with the keywords before it."""

    core: Expression | Bracket | Pair
    column: int
    size: str | None = None
    distance: str | None = None
    address_of: bool = False
    """Whether an ampersand stands before it (arguments of hypercalls only)."""


@dataclass(frozen=True, slots=True)
class Option:
    """``name=value``, or a name alone."""

    name: str
    value: Expression | None
    column: int


# ---- statements ----


@dataclass(frozen=True, slots=True)
class Instruction:
    """A machine instruction."""

    prefixes: tuple[str, ...]
    mnemonic: str
    operands: tuple[Operand, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Hypercall:
    """A hypercall with its arguments."""

    name: str
    arguments: tuple[Operand, ...]
    column: int
    name_column: int


@dataclass(frozen=True, slots=True)
class Directive:
    """Every other statement: its keyword in lower case and what the grammar lets stand behind it, in order.

    ``name`` is the name that it defines or speaks of; ``values`` are its expressions and strings, of which
    optional ones may be None; ``options`` are the name=value pairs; ``body`` is what times repeats.
    """

    keyword: str
    column: int
    name: str = ""
    name_column: int | None = None
    values: tuple[Expression | None, ...] = ()
    options: tuple[Option, ...] = ()
    body: "Statement | None" = None


Statement = Instruction | Hypercall | Directive


@dataclass(frozen=True, slots=True)
class Label:
    """A label before a statement."""

    name: str
    column: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole line: its labels and its statement, either of which may be missing."""

    labels: tuple[Label, ...]
    statement: Statement | None


def mentions_here(expression: Expression) -> bool:
    """Whether ``$`` is in the expression, so that its value depends on the statement it stands in."""
    match expression:
        case Here():
            return True
        case Binary(left=left, right=right):
            return mentions_here(left) or mentions_here(right)
        case Unary(operand=operand):
            return mentions_here(operand)
        case Conditional(condition=condition, yes=yes, no=no):
            return any(map(mentions_here, (condition, yes, no)))
        case Call(arguments=arguments):
            return any(map(mentions_here, arguments))
        case _:
            return False
