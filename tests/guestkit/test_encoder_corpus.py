"""The encoder against GNU as and NASM, through the language: the same bytes for readable code."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from gnu_assembler import link, needs_gnu_as

import guestkit

_CORPUS = Path(__file__).parent.parent / "asm"


def _in_gnu_syntax(line: str) -> str:
    line = line.partition(";")[0].replace("tword", "tbyte")
    line = re.sub(r"\bst(\d)\b", r"st(\1)", line)
    return re.sub(r"\[rel ", "[rip+", line)


def _ours(bits: int, lines: list[str]) -> list[bytes]:
    """The bytes of each line as guestkit makes them, at address 0."""
    labelled = [text for number, line in enumerate(lines) for text in (f"line_{number}:", line)]
    image = guestkit.assemble("\n".join([f"bits {bits}", *labelled, f"line_{len(lines)}:"]))
    code = image.section_bytes(".text")
    places = [image.symbols[f"line_{number}"] for number in range(len(lines) + 1)]
    return [code[start:end] for start, end in pairwise(places)]


@needs_gnu_as
@pytest.mark.parametrize("bits", [32, 64])
def test_the_corpus_has_the_bytes_of_gnu_as(bits: int, tmp_path: Path) -> None:
    text = (_CORPUS / f"corpus{bits}.asm").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("bits ")]
    theirs = link(bits, [_in_gnu_syntax(line) for line in lines], tmp_path)
    differences = [
        f"{line}: {our.hex(' ')}, GNU as {their.hex(' ')}"
        for line, our, their in zip(lines, _ours(bits, lines), theirs, strict=True)
        if our != their
    ]
    assert differences == []


@pytest.mark.skipif(
    shutil.which("nasm") is None, reason="NASM is not installed (on Debian: apt install nasm)"
)
@pytest.mark.parametrize("bits", [32, 64])
def test_the_corpus_has_the_bytes_of_nasm(bits: int, tmp_path: Path) -> None:
    source, target = _CORPUS / f"corpus{bits}.nasm", tmp_path / "corpus.bin"
    subprocess.run(["nasm", "-f", "bin", "-o", str(target), str(source)], check=True)
    code = target.read_bytes()
    lines = [line for line in source.read_text().splitlines() if not line.startswith("bits ")]
    at, differences = 0, []
    for line, our in zip(lines, _ours(bits, lines), strict=True):
        their = code[at : at + len(our)]
        if our != their:
            differences.append(f"{line}: {our.hex(' ')}, NASM {their.hex(' ')}")
        at += len(our)
    assert differences == []
    assert at == len(code)
