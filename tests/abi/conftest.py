"""A C compiler as the judge of numbers and layouts."""

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pvemu.abi.word import WORDS

Compiler = Callable[..., str]
HEADERS = Path("/usr/include/xen")
FLAGS = ("-std=gnu11", "-ffreestanding", "-x", "c", "-")


def compile_c(source: str, word: int, *options: str) -> str:
    """Give C source to gcc for a guest word; return its output, fail with its complaints."""
    command = ["gcc", f"-m{word * 8}", *(options or ("-fsyntax-only",)), *FLAGS]
    run = subprocess.run(command, input=source, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[:4000]
    return run.stdout


@cache
def compiles(word: int) -> bool:
    command = ["gcc", f"-m{word * 8}", "-fsyntax-only", *FLAGS]
    source = "#include <stdint.h>\n#include <stddef.h>\n"
    return subprocess.run(command, input=source, capture_output=True, text=True, timeout=60).returncode == 0


@pytest.fixture(scope="session")
def gcc() -> Compiler:
    if shutil.which("gcc") is None or not all(compiles(word) for word in WORDS):
        pytest.skip("needs gcc for 32-bit and 64-bit x86 to judge the layouts")
    return compile_c


@pytest.fixture(scope="session")
def gcc_with_headers(gcc: Compiler) -> Compiler:
    if not (HEADERS / "xen.h").exists():
        pytest.skip(f"needs Xen's public headers in {HEADERS} (Debian: libxen-dev) to compare with")
    return gcc
