"""Macros: their definition, how a call's arguments are split, and how parameters are replaced in text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guestkit.errors import Mistake
from guestkit.parser import LONGEST_LINE
from guestkit.source import Line

_HEADER = re.compile(r"\s*macro\s+([A-Za-z_]\w*)(?![\w.@])", re.IGNORECASE)
_PARAMETER = re.compile(r"([A-Za-z_]\w*)\s*(?:(\.\.\.)|=\s*(.*))?", re.DOTALL)
# Strings, character constants and comments are one piece each, as they are for the grammar.
_PIECE = re.compile(r""""(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|;.*|[][(){},]|[^"';][^][(){},"';]*""")
_CLOSING = {"(": ")", "[": "]", "{": "}"}

_TOKEN = re.compile(
    r""""(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|;.*"""
    r"""|\{(?P<paste>[A-Za-z_]\w*)\}|%%(?P<own>[A-Za-z_]\w*)|%(?P<count>0)(?!\w)"""
    r"""|(?P<word>\.?[A-Za-z_0-9][\w.@]*)"""
)
_PASTE = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Parameter:
    """A parameter: ``default`` is None when an argument must be given; ``rest`` takes all that are left."""

    name: str
    default: str | None
    rest: bool


@dataclass(frozen=True)
class Macro:
    """A macro with its body, the lines between macro and endmacro."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Line, ...]
    line: Line

    @property
    def signature(self) -> str:
        """Return the name and the parameters as they were written."""
        words = []
        for parameter in self.parameters:
            default = "" if parameter.default is None else f"={parameter.default}"
            words.append(f"{parameter.name}{'...' if parameter.rest else default}")
        return f"{self.name} {', '.join(words)}".rstrip()

    def bind(self, arguments: Sequence[str], column: int) -> dict[str, str]:
        """Return the text of each parameter in a call; Mistake when arguments are missing or too many."""
        bound: dict[str, str] = {}
        left = list(arguments)
        for parameter in self.parameters:
            if parameter.rest:
                bound[parameter.name] = ", ".join(left)
                left = []
            elif left:
                bound[parameter.name] = left.pop(0)
            elif parameter.default is not None:
                bound[parameter.name] = parameter.default
            else:
                raise Mistake(f"the argument {parameter.name} is missing: {self.signature}", column)
        if left:
            wanted = f"at most {len(self.parameters)}" if self.parameters else "no"
            raise Mistake(f"{self.signature} takes {wanted} arguments, not {len(arguments)}", column)
        return bound


def parse_header(line: Line) -> tuple[str, tuple[Parameter, ...]]:
    """Return name and parameters from the line that begins a macro; Mistake when it is malformed."""
    match = _HEADER.match(line.text)
    if match is None:
        raise Mistake("a macro begins with: macro NAME parameter, parameter=default, rest...")
    parameters: list[Parameter] = []
    for text, column in split_arguments(line.text[match.end() :], match.end() + 1):
        found = _PARAMETER.fullmatch(text)
        if found is None:
            raise Mistake(f"{text!r} is no parameter; write NAME, NAME=DEFAULT or NAME...", column)
        if parameters and parameters[-1].rest:
            raise Mistake(f"{parameters[-1].name}... takes all arguments, so it must be last", column)
        if any(parameter.name == found[1] for parameter in parameters):
            raise Mistake(f"{found[1]} is a parameter twice", column)
        default = None if found[3] is None else _without_braces(found[3])
        parameters.append(Parameter(found[1], default, rest=found[2] is not None))
    return match[1], tuple(parameters)


def split_arguments(text: str, column: int) -> list[tuple[str, int]]:
    """Return the arguments in a text with their columns: split at commas outside brackets and strings.

    An argument in braces may contain commas and loses the braces. Mistake for brackets that don't match.
    """
    arguments: list[tuple[str, int]] = []
    open_brackets: list[str] = []
    start = end = 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece[0] == ";":
            break
        end = match.end()
        if piece in _CLOSING:
            open_brackets.append(_CLOSING[piece])
        elif piece in ")]}":
            if not open_brackets or open_brackets.pop() != piece:
                raise Mistake(f'this "{piece}" closes nothing', column + match.start())
        elif piece == "," and not open_brackets:
            arguments.append(_argument(text, start, match.start(), column))
            start = end
    if open_brackets:
        raise Mistake(f'the closing "{open_brackets[-1]}" is missing', column + end)
    if arguments or text[start:end].strip():
        arguments.append(_argument(text, start, end, column))
    return arguments


def _argument(text: str, start: int, end: int, column: int) -> tuple[str, int]:
    raw = text[start:end]
    argument = raw.strip()
    at = column + start + len(raw) - len(raw.lstrip())
    if not argument:
        raise Mistake("an argument is missing before or after this comma; write {} for an empty one", at)
    return _without_braces(argument), at


def _without_braces(argument: str) -> str:
    if argument[:1] == "{" and argument[-1] == "}":
        return argument[1:-1].strip()
    return argument


def substitute(text: str, bindings: Mapping[str, str], count: int | None, expansion: int) -> str:
    """Return a line of a body with parameters replaced.

    A parameter's name is replaced where it stands as a word, and as ``{name}`` anywhere, inside strings too;
    ``%0`` is the number of arguments of a macro call, and ``%%name`` becomes a name of this expansion's own.
    """

    def paste(match: re.Match[str]) -> str:
        return bindings.get(match[1], match[0])

    def replace(match: re.Match[str]) -> str:
        token = match[0]
        if token[0] in "\"'":
            return _PASTE.sub(paste, token)
        if match["paste"]:
            return bindings.get(match["paste"], token)
        if match["own"]:
            return f"{match['own']}@{expansion}"
        if match["count"] and count is not None:
            return str(count)
        return bindings.get(token, token)

    result = _TOKEN.sub(replace, text)
    if len(result) > LONGEST_LINE:
        raise Mistake(f"with its parameters replaced this line has more than {LONGEST_LINE} characters")
    return result
