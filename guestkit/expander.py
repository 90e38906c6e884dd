"""Unfolds macros, repetitions, conditions and included files into the plain lines of a program."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guestkit.errors import Fatal, Mistake
from guestkit.evaluator import Evaluator
from guestkit.library import find, read_text
from guestkit.macros import Macro, parse_header, split_arguments, substitute
from guestkit.parser import parse_line
from guestkit.program import Place
from guestkit.source import Line, Step, split_lines
from guestkit.syntax import Directive, Text
from guestkit.x86.encoder import mnemonics

_MOST_LINES = 1 << 17
"""Lines and repetitions that are looked at, so that a small text can't keep the assembler busy for ever."""
_DEEPEST = 64
_WORD = re.compile(r"\s*([A-Za-z_]\w*)(?![\w.@]|[ \t]*:)")
_LABELS = re.compile(r"\s*(?:[A-Za-z_.][\w.@]*[ \t]*:[ \t]*)+")

_BLOCKS = {"macro": "endmacro", "rept": "endrept"}
_CONDITIONS = frozenset({"if", "ifdef", "ifndef"})


@dataclass
class _Condition:
    """An if that is open: ``settled`` once a branch was taken, or no branch may be."""

    line: Line
    active: bool
    settled: bool
    had_else: bool = False


class Expander:
    """Gives the lines of a program one by one, so that what a line defines decides how later ones unfold."""

    def __init__(
        self,
        evaluator: Evaluator,
        macros: dict[str, Macro],
        place: Callable[[Line], Place],
        report: Callable[[Mistake, Line], None],
        include_paths: Sequence[Path],
    ) -> None:
        self._evaluator = evaluator
        self._macros = macros
        self._place = place
        self._report = report
        self._include_paths = include_paths
        self._expansions = 0
        self._budget = _MOST_LINES

    def expand(self, lines: Sequence[Line]) -> Iterator[Line]:
        """Give the plain lines that a block of lines stands for; mistakes in control lines are reported."""
        conditions: list[_Condition] = []
        index = 0
        while index < len(lines):
            line = lines[index]
            index += 1
            self._spend(line)
            match = _WORD.match(line.text)
            word = match[1].lower() if match else ""
            if word in _CONDITIONS:
                conditions.append(self._condition(word, line, all(one.active for one in conditions)))
            elif word in ("elif", "else", "endif"):
                self._next_branch(word, line, conditions)
            elif not all(one.active for one in conditions):
                continue
            elif word in _BLOCKS:
                body, index = self._block(lines, index, word)
                yield from self._guarded(self._repeat if word == "rept" else self._define, line, body)
            elif word == "include":
                yield from self._guarded(self._include, line, ())
            elif word in _BLOCKS.values():
                self._report(Mistake(f"this {word} has no {word.removeprefix('end')} above it"), line)
            else:
                yield from self._plain(line)
        for one in conditions:
            self._report(Mistake("this condition has no endif"), one.line)

    def _spend(self, line: Line) -> None:
        self._budget -= 1
        if self._budget < 0:
            raise Fatal(f"the program unfolds to more than {_MOST_LINES} lines", line=line)

    def _guarded(
        self, unfold: Callable[[Line, Sequence[Line]], Iterator[Line]], line: Line, body: Sequence[Line]
    ) -> Iterator[Line]:
        """Unfold; a mistake about ``line`` itself is reported and the block left out."""
        try:
            yield from unfold(line, body)
        except Fatal:
            raise
        except Mistake as mistake:
            self._report(mistake, line)

    def _block(self, lines: Sequence[Line], index: int, word: str) -> tuple[Sequence[Line], int]:
        """Return the lines of the block that begins before ``index``, and the index behind its end."""
        depth = 1
        for end in range(index, len(lines)):
            match = _WORD.match(lines[end].text)
            found = match[1].lower() if match else ""
            depth += (found == word) - (found == _BLOCKS[word])
            if not depth:
                return lines[index:end], end + 1
        self._report(Mistake(f"this {word} has no {_BLOCKS[word]}"), lines[index - 1])
        return (), len(lines)

    # ---- conditions ----

    def _condition(self, word: str, line: Line, outside: bool) -> _Condition:
        if not outside:
            return _Condition(line, active=False, settled=True)
        try:
            active = self._decide(word, line)
        except Mistake as mistake:
            self._report(mistake, line)
            return _Condition(line, active=False, settled=True)
        return _Condition(line, active, settled=active)

    def _decide(self, word: str, line: Line) -> bool:
        directive = _directive(line)
        if word in ("ifdef", "ifndef"):
            return self._evaluator.is_defined(directive.name, self._place(line)) == (word == "ifdef")
        (expression,) = directive.values
        assert expression is not None
        return bool(self._evaluator.constant(expression, self._place(line), "a condition"))

    def _next_branch(self, word: str, line: Line, conditions: list[_Condition]) -> None:
        try:
            if not conditions:
                raise Mistake(f"this {word} has no if above it")
            condition = conditions[-1]
            directive = _directive(line) if word != "elif" or not condition.settled else None
            if word == "endif":
                conditions.pop()
                return
            if condition.had_else:
                raise Mistake(f"this {word} comes after else")
            condition.had_else = word == "else"
            condition.active = False
            if not condition.settled:
                assert directive is not None
                condition.active = word == "else" or self._decide(word, line)
                condition.settled = condition.active
        except Mistake as mistake:
            self._report(mistake, line)

    # ---- blocks ----

    def _define(self, line: Line, body: Sequence[Line]) -> Iterator[Line]:
        name, parameters = parse_header(line)
        if name.lower() in mnemonics():
            raise Mistake(f"{name} is an instruction, so it can't be a macro; choose another name")
        earlier = self._macros.get(name)
        if earlier is not None:
            place = f"{earlier.line.filename}:{earlier.line.number}"
            raise Mistake(f"the macro {name} is already defined at {place}; choose another name")
        self._macros[name] = Macro(name, parameters, tuple(body), line)
        return iter(())

    def _repeat(self, line: Line, body: Sequence[Line]) -> Iterator[Line]:
        directive = _directive(line)
        (expression,) = directive.values
        assert expression is not None
        count = self._evaluator.constant(expression, self._place(line), "the number of repetitions")
        if not 0 <= count <= _MOST_LINES:
            raise Mistake(f"a block is repeated 0 to {_MOST_LINES} times, not {count}", expression.column)
        origin = self._step("in repetition", line)
        for number in range(count):
            self._spend(line)
            bindings = {directive.name: str(number)} if directive.name else {}
            yield from self._unfold(body, bindings, None, origin)

    def _plain(self, line: Line) -> Iterator[Line]:
        """Give the line itself, or, when it calls a macro, what that stands for."""
        labels = _LABELS.match(line.text)
        match = _WORD.match(line.text, labels.end() if labels else 0)
        macro = self._macros.get(match[1]) if match else None
        if macro is None or match is None:
            yield line
            return
        if labels:
            yield line.with_text(labels[0], line.origin)
        try:
            arguments = [text for text, _ in split_arguments(line.text[match.end() :], match.end() + 1)]
            bindings = macro.bind(arguments, match.start(1) + 1)
            origin = self._step(f"in expansion of {macro.name}", line)
        except Mistake as mistake:
            self._report(mistake, line)
            return
        yield from self._unfold(macro.body, bindings, len(arguments), origin)

    def _unfold(
        self, body: Sequence[Line], bindings: Mapping[str, str], count: int | None, origin: Step
    ) -> Iterator[Line]:
        self._expansions += 1
        lines = []
        for line in body:
            try:
                text = substitute(line.text, bindings, count, self._expansions)
            except Mistake as mistake:
                self._report(mistake, line.with_text(line.text, origin))
                continue
            lines.append(line.with_text(text, origin))
        yield from self.expand(lines)

    def _step(self, what: str, line: Line) -> Step:
        if line.depth() >= _DEEPEST:
            raise Mistake(f"macros, repetitions and included files are nested more than {_DEEPEST} deep here")
        return Step(what, line)

    def _include(self, line: Line, _: Sequence[Line]) -> Iterator[Line]:
        (name,) = _directive(line).values
        assert isinstance(name, Text)
        origin = self._step("included", line)
        path = find(name.text, line.folder, self._include_paths, self._evaluator.target, name.column)
        text = read_text(path, name.column)
        yield from self.expand(split_lines(text, str(path), path.parent, origin))


def _directive(line: Line) -> Directive:
    statement = parse_line(line.text).statement
    assert isinstance(statement, Directive)
    return statement
