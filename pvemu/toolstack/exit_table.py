"""Why guests left the processor: exits by reason, how often, and how much of the host's time each took.

The host's time is measured around the handlers and told to people alone: nothing in the machine sees it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.table import Table

from pvemu.abi.hypercalls import BY_NUMBER
from pvemu.cpu import exits, layout
from pvemu.hypervisor.pv.traps import HYPERCALL_VECTOR
from pvemu.toolstack.machine import Machine

#: Rows that are shown to a person; the JSON has all.
_SHOWN: Final = 40
#: Different values (MSRs, say) that get rows of their own: a guest can't fill memory by inventing more.
_MOST_DETAILS: Final = 4096
_PV_KERNEL_RING: Final = 1

Detail = Callable[[], str]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Row:
    """One reason: `nanoseconds` of host time in all its exits, and their share of the whole run's, 0 to 1."""

    reason: str
    count: int
    nanoseconds: int
    share: float


class _Sum:
    """Of one reason, so far."""

    __slots__ = ("count", "nanoseconds")

    def __init__(self) -> None:
        self.count = self.nanoseconds = 0


class ExitTable:
    """Counts a machine's exits and times them, from `with` on; `rows` tells what was found.

    An exit inside of another one (an instruction that is gone to one by one, say) is counted as its own, and
    its time is not the outer one's.
    """

    def __init__(self, machine: Machine) -> None:
        cpu = machine.hypervisor.cpu
        self._hypervisor = machine.hypervisor
        self._u32 = cpu.window.u32
        self._sums: dict[str, _Sum] = {}
        self._inner = 0
        self._begin = self._end = time.perf_counter_ns()
        self._details: Mapping[int, Detail] = {
            HYPERCALL_VECTOR: self._software_interrupt,
            exits.VMMCALL: self._hypercall,
            exits.MSR: self._msr,
        }
        self._words = [exits.describe(number) for number in range(exits.EXIT_NUMBERS)]
        cpu.surround(self._around)
        port_in, port_out = cpu.port_in, cpu.port_out
        cpu.port_in = lambda port, size: self._timed(f"port in 0x{port:x}", lambda: port_in(port, size))
        cpu.port_out = lambda port, size, value: self._timed(
            f"port out 0x{port:x}", lambda: port_out(port, size, value)
        )

    def __enter__(self) -> "ExitTable":
        self._begin = self._end = time.perf_counter_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end = time.perf_counter_ns()

    @property
    def nanoseconds(self) -> int:
        """Host time of the whole run."""
        return self._end - self._begin

    def rows(self) -> list[Row]:
        """The reasons, the most frequent first."""
        whole = max(self.nanoseconds, 1)
        found = (
            Row(reason, row.count, row.nanoseconds, row.nanoseconds / whole)
            for reason, row in self._sums.items()
        )
        return sorted(found, key=lambda row: (-row.count, row.reason))

    def as_json(self) -> dict[str, Any]:
        """All of it: times in nanoseconds, shares of the whole run's host time from 0 to 1."""
        return {
            "host_nanoseconds": self.nanoseconds,
            "by_reason": [
                {
                    "exit": row.reason,
                    "count": row.count,
                    "host_nanoseconds": row.nanoseconds,
                    "share": round(row.share, 6),
                }
                for row in self.rows()
            ],
        }

    def show(self, console: Console) -> None:
        """Print the table: the most frequent reasons, their sum, and the rest of the time."""
        table = Table("exit", "count", "host ms", "share", "µs each")
        for column in table.columns[1:]:
            column.justify = "right"
        for cells in self._lines():
            table.add_row(*cells)
        console.print(table)

    def _lines(self) -> Iterator[tuple[str, ...]]:
        rows = self.rows()
        whole = max(self.nanoseconds, 1)
        for row in rows[:_SHOWN]:
            yield _line(row)
        if len(rows) > _SHOWN:
            yield _line(_added(f"{len(rows) - _SHOWN} other reasons", rows[_SHOWN:]))
        every = _added("all exits", rows)
        yield _line(every)
        rest = self.nanoseconds - every.nanoseconds
        yield ("guest code, services, scheduling", "", f"{rest / 1e6:.1f}", f"{rest / whole:.1%}", "")

    # --- at each exit ----------------------------------------------------------------------------

    def _around(self, number: int, handle: Callable[[], None]) -> None:
        detail = self._details.get(number)
        self._timed(self._words[number] if detail is None else detail(), handle)

    def _timed(self, reason: str, handle: Callable[[], Answer]) -> Answer:
        total = self._sums.get(reason)
        if total is None:
            if len(self._sums) >= _MOST_DETAILS:
                reason = "other values"
            total = self._sums.setdefault(reason, _Sum())
        inner_before, self._inner = self._inner, 0
        begin = time.perf_counter_ns()
        try:
            return handle()
        finally:
            spent = time.perf_counter_ns() - begin
            total.count += 1
            total.nanoseconds += spent - self._inner
            self._inner = inner_before + spent

    def _software_interrupt(self) -> str:
        if self._u32[layout.HFLAGS // 4] & layout.HF_CPL != _PV_KERNEL_RING:
            return self._words[HYPERCALL_VECTOR]
        return self._hypercall()

    def _hypercall(self) -> str:
        row = BY_NUMBER.get(self._u32[2 * layout.RAX])
        return f"hypercall {row.name}" if row is not None else "hypercall that does not exist"

    def _msr(self) -> str:
        access = "write" if self._u32[layout.ERROR_CODE // 4] else "read"
        return f"{access} MSR 0x{self._u32[2 * layout.RCX]:x}"


def _added(reason: str, rows: list[Row]) -> Row:
    return Row(
        reason,
        sum(row.count for row in rows),
        sum(row.nanoseconds for row in rows),
        sum(row.share for row in rows),
    )


def _line(row: Row) -> tuple[str, ...]:
    each = row.nanoseconds / max(row.count, 1) / 1000
    return (row.reason, str(row.count), f"{row.nanoseconds / 1e6:.1f}", f"{row.share:.1%}", f"{each:.1f}")
