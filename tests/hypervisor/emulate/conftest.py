"""Makes the rig and the samples beside this file importable; one rig for all tests of the emulator."""

from collections.abc import Iterator
from typing import Any

import pytest
from native_rig import NativeRig


@pytest.fixture(scope="session")
def rig(machine_options: dict[str, Any]) -> Iterator[NativeRig]:
    rig = NativeRig(machine_options["window"])
    yield rig
    rig.close()
