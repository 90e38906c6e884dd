"""docs/paravirtualizing.md is true: its excerpts are the examples', and show all in which these differ."""

import re
from difflib import SequenceMatcher
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/paravirtualizing.md").read_text()
UNMODIFIED, PORT = ((ROOT / f"examples/{name}.gk").read_text() for name in ("unmodified", "paravirtualized"))
PROGRAM = "; ---- the program ---"


def excerpts_of(column: int) -> list[str]:
    """What one column of the document's tables shows, from the left."""
    tables = re.findall(r"<table>.*?</table>", DOCUMENT, re.DOTALL)
    cells = [re.findall(r"<td>\n\n(.*?)\n\n</td>", table, re.DOTALL)[column] for table in tables]
    return [text for cell in cells for text in re.findall(r"```asm\n(.*?\n)```", cell, re.DOTALL)]


SIDES = {"unmodified": (UNMODIFIED, excerpts_of(0)), "paravirtualized": (PORT, excerpts_of(1))}


def code_of(text: str) -> list[str]:
    """The lines without their comments, and none that is empty then."""
    bare = (re.sub(r"\s*;.*", "", line) for line in text.splitlines())
    return [line for line in bare if line]


def lines_that_differ() -> tuple[set[str], set[str]]:
    """The lines of each source that the other has not, or not there."""
    left, right = code_of(UNMODIFIED), code_of(PORT)
    lines: tuple[set[str], set[str]] = set(), set()
    for kind, start, end, other_start, other_end in SequenceMatcher(
        None, left, right, autojunk=False
    ).get_opcodes():
        if kind != "equal":
            lines[0].update(left[start:end])
            lines[1].update(right[other_start:other_end])
    return lines


@pytest.mark.parametrize("name", SIDES)
def test_each_excerpt_stands_in_the_source(name: str) -> None:
    source, excerpts = SIDES[name]
    assert len(excerpts) > 10
    for excerpt in excerpts:
        assert f"\n{excerpt}" in source


@pytest.mark.parametrize("name", SIDES)
def test_no_line_that_differs_is_left_out(name: str) -> None:
    shown = {line for excerpt in SIDES[name][1] for line in code_of(excerpt)}
    differing = lines_that_differ()[[*SIDES].index(name)]
    # Where a section begins can be told from what is in it.
    assert {line for line in differing - shown if not line.startswith(("section", "align"))} == set()


def test_the_program_is_the_same_in_both() -> None:
    programs = [source.partition(PROGRAM)[2] for source in (UNMODIFIED, PORT)]
    assert len(code_of(programs[0])) > 40
    assert programs[0] == programs[1]


def test_every_file_that_is_linked_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", DOCUMENT):
        assert (ROOT / "docs" / link).exists(), link


def test_every_heading_that_is_linked_exists() -> None:
    headings = re.findall(r"^## (.*)$", DOCUMENT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", DOCUMENT)) == anchors
