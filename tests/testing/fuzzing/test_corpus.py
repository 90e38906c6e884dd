"""A corpus keeps each program once, merges with others, and says which of its files is damaged."""

from pathlib import Path

import pytest

from pvemu.abi.errors import PvemuError
from pvemu.testing.fuzzing.corpus import Corpus, read_file
from pvemu.testing.program import Program
from pvemu.testing.program_text import read_program

TEXTS = tuple(
    f'program of 2 domains\nd0 "v" xen_version({command}, 0)\n'
    for command in ("XENVER_version", "XENVER_extraversion", "XENVER_pagesize")
)


def program(number: int) -> Program:
    return read_program(TEXTS[number])


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_program_is_kept_once_and_read_back(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.programs() == []
    assert corpus.add(program(0)) and corpus.add(program(1))
    assert not corpus.add(program(0))
    assert sorted(map(str, corpus.programs())) == sorted(map(str, (program(0), program(1))))


def test_merging_takes_in_what_is_new_in_any_order(tmp_path: Path) -> None:
    one, other = Corpus(tmp_path / "one"), Corpus(tmp_path / "other")
    for number in (0, 1):
        one.add(program(number))
    for number in (1, 2):
        other.add(program(number))
    assert one.merge(other) == 1
    assert other.merge(one) == 1
    assert contents(one.path) == contents(other.path)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no program"),
        (b"\xff\xfe", "no text"),
        (b"program of 2 domains\n", "without steps"),
        (b'program of 2 domains\nd0 "x" nothing_op(1)\n', "line 2"),
        (b'program of 2 domains\nd0 "v" xen_version(XENVER_ver', "line 2"),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_lost(tmp_path: Path, raw: bytes, said: str) -> None:
    corpus = Corpus(tmp_path)
    corpus.add(program(0))
    (tmp_path / "0.steps").write_bytes(raw)
    before = contents(tmp_path)
    with pytest.raises(PvemuError, match=rf"0\.steps .*{said}"):
        corpus.programs()
    assert contents(tmp_path) == before


def test_a_file_that_is_missing_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PvemuError, match="can't be read: No such file"):
        read_file(tmp_path / "none.steps")


def test_a_file_in_the_place_of_the_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("")
    with pytest.raises(PvemuError, match="is no directory"):
        Corpus(tmp_path / "corpus")


def test_only_what_is_needed_stays(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(3):
        corpus.add(program(number))
    assert corpus.keep_only([program(1)]) == 2
    assert corpus.programs() == [program(1)]
