"""Tests of hypercalls: strategies, a stateful machine, snapshots, and fixtures for pytest (docs/testing.md).

Hypothesis comes with `pip install 'pvemu[testing]'`. Each name is imported when it is first used.
"""

from importlib import import_module
from typing import Any, Final

_HOMES: Final = {
    "HypercallMachine": "hypercall_machine",
    "Invariants": "invariants",
    "Program": "program",
    "Puppet": "puppet",
    "Snapshot": "snapshot",
    "Stage": "stage",
    "Step": "program",
    "make_hypercall": "puppet",
    "programs": "program_strategies",
    "shrink": "shrinking",
    "steps": "strategies",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
