"""What real xenstored told several clients, against what ours tells them."""

from pathlib import Path

import pytest

from tests.services.xenstore.scenario import play, read_scenario
from tests.services.xenstore.xenstore_stage import XenstoreStage

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.txt"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_replies_and_events_are_those_of_real_xenstored(path: Path, stage: XenstoreStage) -> None:
    text = path.read_text()
    expected = [line for line in text.splitlines() if not line.startswith("#")]
    got = [line for lines in play(stage, read_scenario(text)) for line in lines]
    assert got == expected
    assert stage.clients["s1"].request("CONTROL", b"check\0").type == "CONTROL"
