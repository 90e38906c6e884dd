"""The reference of the language: every example in it is a program that assembles."""

import re
from pathlib import Path

import pytest

from guestkit import assemble
from guestkit.statements.table import DIRECTIVES

_DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "language.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"^```asm\n(.*?)^```$", _DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda example: example.split("\n")[0][:30])
def test_an_example_of_the_reference_assembles(example: str, tmp_path: Path) -> None:
    (tmp_path / "terminal.gk").write_text("terminal: nop\n")
    (tmp_path / "logo.bin").write_bytes(bytes(32))
    assemble(example, include_paths=[tmp_path])


@pytest.mark.parametrize(
    "keyword", [*DIRECTIVES, "times", "macro", "rept", "if", "elif", "else", "ifdef", "include"]
)
def test_every_directive_is_in_an_example(keyword: str) -> None:
    assert any(re.search(rf"\b{keyword}\b", example) for example in _EXAMPLES)
