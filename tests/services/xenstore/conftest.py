"""A store on a stage for every test that wants one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.xenstore.xenstore_stage import XenstoreStage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[XenstoreStage]:
    """Two programs on the store's socket; guests come when they are introduced."""
    made = XenstoreStage(tmp_path / "socket")
    yield made
    made.close()
