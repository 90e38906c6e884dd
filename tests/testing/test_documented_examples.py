"""The examples of docs/testing.md, copied into an empty directory, are tests that pass."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = dict(
    re.findall(r"```python\n# (test_\w+\.py)\n(.*?)```", (ROOT / "docs/testing.md").read_text(), re.DOTALL)
)


def test_there_are_three_examples() -> None:
    assert list(EXAMPLES) == ["test_guest.py", "test_hypercalls.py", "test_any.py"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_stranger_can_copy_the_example(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(EXAMPLES[name])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pvemu.testing.plugin", "--strict-markers", name]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
