"""On what a run was made: the computer and the versions of all that has a part in the figures."""

import os
import platform
from pathlib import Path
from typing import Any

from pvemu import __version__
from pvemu.cpu.binding import library_version


def describe_machine() -> dict[str, Any]:
    """The computer, as far as it says what it is."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_mib": _memory(),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
    }


def describe_versions() -> dict[str, str]:
    """Versions by name."""
    return {
        "pvemu": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "unicorn": str(library_version()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
