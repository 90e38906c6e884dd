"""docs/benchmark.md is true: its table of exits is what the guests have, and what it refers to exists."""

import re
from pathlib import Path

import pytest

from benchmarks.costs import profile_names
from benchmarks.counting import count
from benchmarks.jobs import Job
from benchmarks.routes import Route
from benchmarks.session import OPERATIONS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/benchmark.md").read_text()
_BY_NAME = {operation.name: operation for operation in OPERATIONS}


def exits_by_operation() -> dict[str, dict[Route, str]]:
    """The document's table of exits."""
    table = DOCUMENT.partition("## Exits of one operation")[2].partition("##")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line[:1] == "|"
    ]
    routes = [Route(word) for word in rows[0][1:]]
    return {row[0].strip("`"): dict(zip(routes, row[1:], strict=True)) for row in rows[2:]}


TABLE = exits_by_operation()


@pytest.mark.parametrize("operation", TABLE)
def test_the_exits_in_the_table_are_those_of_the_guests(operation: str) -> None:
    found = {}
    for route in TABLE[operation]:
        if route in _BY_NAME[operation].routes:
            counts = count(Job(_BY_NAME[operation], route, 3))
            found[route] = f"{counts.exits / counts.operations:.2f}".rstrip("0").rstrip(".")
        else:
            found[route] = "—"
    assert found == TABLE[operation]


def test_every_route_and_every_profile_is_explained() -> None:
    for route in Route:
        assert f"`{route.value}`" in DOCUMENT or f"`-{route.value.partition('-')[2]}`" in DOCUMENT
    for name in profile_names():
        assert f"`{name}`" in DOCUMENT


def test_every_plot_that_is_shown_exists() -> None:
    plots = re.findall(r"\]\((benchmark/[^)]+)\)", DOCUMENT)
    assert len(plots) == 4
    for plot in plots:
        assert (ROOT / "docs" / plot).exists(), plot
