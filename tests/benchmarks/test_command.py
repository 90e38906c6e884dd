"""`pvemu bench` as a person uses it: tables, files, mistakes, and the guests beside a reference."""

import json
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from small import results

from benchmarks.reference import read_samples, run_command
from benchmarks.results import Point, read_results
from benchmarks.scaling import Curve
from pvemu.abi.errors import PvemuError
from pvemu.toolstack.cli import main

_SMALL = ["bench", "interrupts", "--quick"]


def test_a_run_shows_its_table_and_writes_every_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    assert main([*_SMALL, "--json", str(path), "--seed", "3"]) == 0
    shown = capsys.readouterr().out
    for word in ("interrupts off and on", "native", "trap", "there is no such hypercall"):
        assert word in shown
    found = read_results(path)
    assert found.settings["seed"] == 3
    cell = found.cell("interrupts", "trap")
    assert cell is not None and cell.counts is not None
    assert len(cell.samples) == found.settings["machines"] * found.settings["turns"]
    assert cell.counts.reasons == {"general protection fault": cell.counts.exits}


def test_the_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    shown = capsys.readouterr().out
    assert "thousand-entries" in shown and "batch-size" in shown


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nonsense"], "there is no benchmark nonsense"),
        (["interrupts", "--json", "/does/not/exist/a.json"], "there is no folder /does/not/exist"),
        (["--compare", "/does/not/exist", "/neither"], "can't be read"),
        (["--from", "/does/not/exist"], "say where with --html"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and complaint in lines[0]


def test_a_report_is_made_of_a_file_without_measuring(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra pvemu[bench]")
    (tmp_path / "a.json").write_text(results().to_json())
    html, figures = tmp_path / "a.html", tmp_path / "figures"
    words = ["--from", str(tmp_path / "a.json"), "--html", str(html), "--figures", str(figures)]
    assert main(["bench", *words]) == 0
    text = html.read_text()
    assert text.count("<svg") == 4 and "there is no such hypercall" in text and "&lt;a processor&gt;" in text
    assert "http" not in text.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
        "http://creativecommons.org/", ""
    ).replace("https://matplotlib.org/", "")
    assert sorted(path.name for path in figures.iterdir()) == sorted(
        f"{name}.{kind}" for name in ("curves", "exits", "times", "work") for kind in ("png", "svg")
    )


class _Document(HTMLParser):
    """Notes what opens and closes, what is named, and what is referred to by name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.references: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.names.append(value or "")
            elif value and name in ("href", "xlink:href", "clip-path"):
                self.references.add(value.removeprefix("url(").strip("#)"))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag != "meta":
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_report_is_one_whole_document_in_which_every_name_is_known_and_unique() -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra pvemu[bench]")
    from benchmarks.plots import draw_all
    from benchmarks.report import html_report

    found = results()
    document = _Document(html_report(found, draw_all(found)))
    assert document.open == []
    assert len(document.names) == len(set(document.names)) > 50
    assert document.references and document.references <= set(document.names)
    assert "<a processor>" in document.texts


def test_every_drawing_is_an_svg_and_a_png_with_what_it_is_about() -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra pvemu[bench]")
    from benchmarks.plots import draw_all

    drawings = draw_all(results())
    assert [drawing.name for drawing in drawings] == ["times", "exits", "work", "curves"]
    for drawing in drawings:
        root = ElementTree.fromstring(drawing.svg)
        assert root.tag.endswith("}svg")
        assert sum(1 for _ in root.iter("{http://www.w3.org/2000/svg}path")) > 10
        assert drawing.png.startswith(b"\x89PNG")


def test_the_same_file_makes_the_same_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra pvemu[bench]")
    (tmp_path / "a.json").write_text(results().to_json())
    for name in ("one", "two"):
        assert main(["bench", "--from", str(tmp_path / "a.json"), "--figures", str(tmp_path / name)]) == 0
    first, second = ((tmp_path / name / "times.svg").read_bytes() for name in ("one", "two"))
    assert first == second


def _command(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


def test_the_reference_runs_the_same_guests_which_time_themselves(tmp_path: Path) -> None:
    # pvemu stands for the other hypervisor.
    command = shlex.join([sys.executable, "-m", "pvemu", "run", "--tsc", "host"])
    path = tmp_path / "a.json"
    assert main([*_SMALL, "--json", str(path), "--reference-command", command]) == 0
    found = json.loads(path.read_text())["reference"]
    assert {row["route"] for row in found} == {"trap", "shared-memory"}
    assert all(len(row["samples"]) > 1 and min(row["samples"]) > 0 for row in found)


def test_cycles_become_nanoseconds_as_the_guest_was_told() -> None:
    printed = b"CLOCK 80000000 -1\nSAMPLE 0000000000000008\nSAMPLE 0000000000001000\n"
    assert read_samples(printed, 2) == [0x1000 / 4 / 2]


@pytest.mark.parametrize("program", ["", "print('CLOCK 80000000 1')", "print('SAMPLE 0000000000000001')"])
def test_a_reference_that_measures_nothing_is_refused(program: str) -> None:
    with pytest.raises(PvemuError, match="printed no measurement"):
        read_samples(run_command(_command(program), b""), 1)


def test_a_reference_that_does_not_exist_is_refused() -> None:
    with pytest.raises(PvemuError, match="can't be started"):
        run_command("/does/not/exist", b"")
    with pytest.raises(PvemuError, match="can't be started"):
        run_command("'", b"")


def test_a_point_that_the_machine_has_no_room_for_is_named_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure_point(curve: Curve, size: int, samples: int) -> Point:
        if size > 1:
            raise PvemuError("there is no room")
        return Point(curve.name, size, 1, 4, 10, [1000.0])

    monkeypatch.setattr("benchmarks.session.measure_point", measure_point)
    assert main(["bench", "ports", "--quick"]) == 0
    shown = capsys.readouterr().out
    assert "not measured: ports 64: there is no room" in shown and "1 µs" in shown
