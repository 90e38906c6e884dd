"""Xen's architecture in one Python process: a machine, a hypervisor, and the domains that run on them.

>>> from pvemu import Machine
>>> with Machine(open("kernel.elf", "rb").read()) as machine:    # doctest: +SKIP
...     print(machine.run().outcome)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pvemu.abi.errors import PvemuError
    from pvemu.toolstack.machine import Machine, Outcome, Result

__all__ = ["Machine", "Outcome", "PvemuError", "Result", "__version__"]

_HOMES = {
    "Machine": "pvemu.toolstack.machine",
    "Outcome": "pvemu.toolstack.machine",
    "PvemuError": "pvemu.abi.errors",
    "Result": "pvemu.toolstack.machine",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562): guestkit needs pvemu.abi, and no engine."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
