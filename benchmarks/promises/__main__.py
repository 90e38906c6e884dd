"""Runs the benchmarks; exit status 1 says that a promised ratio is not reached."""

import argparse
import dataclasses
import json
import sys
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.promises import channels, floors, guest_code, null_hypercall, page_tables, services
from benchmarks.promises.measuring import REPETITIONS, Row, measure

#: One module a group of benchmarks, in the order of the table.
GROUPS: Final = (null_hypercall, guest_code, page_tables, floors, channels, services)


def _table(rows: list[Row]) -> Table:
    table = Table("", "pvemu", "other", "which is", "faster", "promised")
    for row in rows:
        promised = "" if row.goal is None else f"{row.goal:.2f} {'kept' if row.reached else 'BROKEN'}"
        other = "" if row.other is None else f"{row.other:.0f} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.name, f"{row.ours:.0f} {row.unit}", other, row.other_name, ratio, promised)
    return table


def main(arguments: list[str]) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.promises", description="What things cost on this computer."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only benchmarks whose name has this in it")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    parser.add_argument(
        "--repetitions", type=int, default=REPETITIONS, help="measurements of each (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    wanted = [
        benchmark
        for group in GROUPS
        for benchmark in group.benchmarks()
        if not options.names or any(name in benchmark.name for name in options.names)
    ]
    if not wanted or options.repetitions < 1:
        parser.error("there is nothing to measure")
    rows = [measure(benchmark, options.repetitions) for benchmark in wanted]
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        Console().print(_table(rows))
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
