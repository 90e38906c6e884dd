"""All names of the ABI in two dictionaries, as an assembler or a tracer wants them."""

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, Final

from pvemu.abi import (
    arch_x86,
    blkif,
    callback,
    console,
    domctl,
    elfnote,
    event_channel,
    features,
    grant_table,
    hvm_op,
    hvm_vcpu,
    ioreq,
    memory,
    netif,
    nmi,
    physdev,
    platform,
    sched,
    start_info,
    sysctl,
    vcpu,
    version,
    xen,
    xenbus,
    xs_wire,
)
from pvemu.abi.errno import Errno
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.structure import Structure
from pvemu.abi.word import PerWord

HEADERS: Final[tuple[ModuleType, ...]] = (
    xen,
    arch_x86,
    blkif,
    callback,
    console,
    domctl,
    elfnote,
    event_channel,
    features,
    grant_table,
    hvm_op,
    hvm_vcpu,
    ioreq,
    memory,
    netif,
    nmi,
    physdev,
    platform,
    sched,
    start_info,
    sysctl,
    vcpu,
    version,
    xenbus,
    xs_wire,
)
"""The modules that hold one public header each."""


def _names(module: ModuleType) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in vars(module).items() if not name.startswith("_"))


@cache
def constants(word: int = 4) -> dict[str, int]:
    """Return every constant by Xen's name, for a guest whose long has ``word`` bytes.

    Besides the headers' these are the hypercall numbers (``__HYPERVISOR_sched_op``) and the error numbers
    (``EINVAL``, positive). Names that the headers give to one width only are there for both. Callers share
    the dictionary and must not change it.
    """
    found: dict[str, int] = {}
    for module in HEADERS:
        for name, value in _names(module):
            if isinstance(value, PerWord):
                found[name] = value.of(word)
            elif isinstance(value, int):
                found[name] = value
    found |= {f"__HYPERVISOR_{name}": row.number for name, row in BY_NAME.items()}
    found |= {name: int(value) for name, value in Errno.__members__.items()}
    return found


@cache
def structures() -> dict[str, Structure]:
    """Return every structure by its C name; callers share the dictionary and must not change it."""
    values = (value for module in HEADERS for _, value in _names(module))
    return {value.name: value for value in values if isinstance(value, Structure)}
