"""Edge coverage of the hypervisor: which steps from one place of its code to another have been made.

An edge is a text, "hypervisor/grant_map.py:120-131": from line to line, in the file below pvemu/. The first
line of a function comes from the line of its `def`, with a minus sign. Two ways to see them:

* from Python 3.12 on `sys.monitoring`: where a line or the second way of a branch has been seen, the
  interpreter does not tell of it any more, so that well-known code runs at full speed;
* before, `sys.settrace`, for the hypervisor's functions only.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Protocol

import pvemu
from pvemu.abi.errors import PvemuError

_ROOT: Final = f"{Path(pvemu.__file__).parent}/"
#: What is looked at, and what of it only checks the rest.
_WATCHED: Final = ("hypervisor/", "memory/", "services/")
_LEFT_OUT: Final = frozenset(("hypervisor/audit.py", "hypervisor/log.py"))


def watched_name(code: CodeType) -> str | None:
    """The file of a function that is looked at, below pvemu/; None for all others."""
    name = code.co_filename
    if not name.startswith(_ROOT):
        return None
    name = name[len(_ROOT) :]
    return name if name.startswith(_WATCHED) and name not in _LEFT_OUT else None


class Tracer(Protocol):
    """Sees edges.

    Attributes:
        name: which way it is.
    """

    name: str

    def watching(self) -> Any:
        """A context in which edges are seen."""

    def new(self) -> list[str]:
        """The edges seen since the last call that are not known yet, in order; they are known from now on."""

    def forget(self, known: Iterable[str]) -> None:
        """Begin anew: these are known, and no others."""


class SettraceTracer:
    """Edges by `sys.settrace`."""

    name = "settrace"

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._seen: set[tuple[CodeType, int, int]] = set()
        self._old: set[tuple[CodeType, int, int]] = set()
        self._watched: dict[CodeType, bool] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Only this thread is looked at."""
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _on_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        is_watched = self._watched.get(code)
        if is_watched is None:
            is_watched = self._watched[code] = watched_name(code) is not None
        if not is_watched:
            return None
        seen, before = self._seen, -code.co_firstlineno

        def on_line(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal before
            if event == "line":
                line = frame.f_lineno
                seen.add((code, before, line))
                before = line
            return on_line

        return on_line

    def new(self) -> list[str]:
        """See Tracer."""
        fresh = self._seen - self._old
        self._old |= fresh
        self._seen.clear()
        found = {f"{watched_name(code)}:{before}-{line}" for code, before, line in fresh} - self._known
        self._known |= found
        return sorted(found)

    def forget(self, known: Iterable[str]) -> None:
        """See Tracer."""
        self._known = set(known)
        self._seen.clear()
        self._old.clear()


@cache
def _tool(monitoring: Any) -> int:
    """The number under which this process looks. There are few, so all tracers have the same."""
    free = [number for number in (4, 3, 5) if monitoring.get_tool(number) is None]
    if not free:
        raise PvemuError(
            "other tools look at this Python already: leave out a debugger, profiler or coverage"
        )
    monitoring.use_tool_id(free[0], "pvemu fuzz")
    return free[0]


class MonitoringTracer:
    """Edges by `sys.monitoring`: lines that are reached, and both ways of each branch.

    Raises:
        PvemuError: other tools have all numbers that are left for such as this.
    """

    name = "sys.monitoring"

    def __init__(self) -> None:
        # Looked up by name: type checkers that take Python for older know nothing of it.
        self._monitoring: Any = getattr(sys, "monitoring")  # noqa: B009
        self._known: set[str] = set()
        self._seen: set[tuple[CodeType, int, int]] = set()
        self._ways: dict[tuple[CodeType, int], int] = {}
        self._lines: dict[CodeType, dict[int, int]] = {}
        self._tool, events = _tool(self._monitoring), self._monitoring.events
        branches = [
            getattr(events, name) for name in ("BRANCH_LEFT", "BRANCH_RIGHT") if hasattr(events, name)
        ] or [events.BRANCH]
        on_branch = self._on_branch if len(branches) == 1 else self._on_one_way
        self._callbacks = {events.LINE: self._on_line, **dict.fromkeys(branches, on_branch)}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """All threads are looked at."""
        monitoring = self._monitoring
        for event, callback in self._callbacks.items():
            if monitoring.register_callback(self._tool, event, callback) != callback:
                monitoring.restart_events()  # what another tracer has seen enough of, this one has not
        monitoring.set_events(self._tool, sum(self._callbacks))
        try:
            yield
        finally:
            self._monitoring.set_events(self._tool, 0)

    def _on_line(self, code: CodeType, line: int) -> object:
        if watched_name(code) is not None:
            self._seen.add((code, -code.co_firstlineno, line))
        return self._monitoring.DISABLE

    def _on_branch(self, code: CodeType, source: int, target: int) -> object:
        """Before Python 3.14 one event stands for both ways, and is needed until both have been seen."""
        first = self._ways.get((code, source))
        if first is None:
            if watched_name(code) is None:
                return self._monitoring.DISABLE
            self._ways[code, source] = target
        elif first == target:
            return None
        self._note(code, source, target)
        return None if first is None else self._monitoring.DISABLE

    def _on_one_way(self, code: CodeType, source: int, target: int) -> object:
        if watched_name(code) is not None:
            self._note(code, source, target)
        return self._monitoring.DISABLE

    def _note(self, code: CodeType, source: int, target: int) -> None:
        lines = self._lines.get(code)
        if lines is None:
            lines = self._lines[code] = {
                at: line or 0 for start, end, line in code.co_lines() for at in range(start, end, 2)
            }
        self._seen.add((code, lines.get(source, 0), lines.get(target, 0)))

    def new(self) -> list[str]:
        """See Tracer."""
        found = {f"{watched_name(code)}:{before}-{line}" for code, before, line in self._seen} - self._known
        self._seen.clear()
        self._known |= found
        return sorted(found)

    def forget(self, known: Iterable[str]) -> None:
        """See Tracer."""
        self._known = set(known)
        self._seen.clear()
        self._ways.clear()
        self._monitoring.restart_events()


def make_tracer() -> Tracer:
    """The faster one of those that this Python has."""
    return MonitoringTracer() if hasattr(sys, "monitoring") else SettraceTracer()
