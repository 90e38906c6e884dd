"""What a field or an argument means, told from its name, and which values of it are good, near or hostile.

The tables of the ABI say names and types. People who name a field `remote_port` mean a port; so a hypercall
that is added to the ABI has strategies at once.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from pvemu.abi import grant_table, xen
from pvemu.memory.page_tables import NO_EXECUTE
from pvemu.testing.values import Address, Entry, Frame, Number, Peer, Slot, Value

_TOP: Final = 0xFFFFFFFF


class Choices(NamedTuple):
    """Values of one meaning: with some a call may well succeed, others are nearly so, the last are bad."""

    good: tuple[Value, ...]
    near: tuple[Value, ...]
    hostile: tuple[Value, ...]


def _numbers(*numbers: int) -> tuple[Value, ...]:
    return tuple(Number(number) for number in numbers)


def _named(*names: str) -> tuple[Value, ...]:
    return tuple(Number(getattr(xen, name), name) for name in names)


def _pages(*numbers: int) -> tuple[Frame, ...]:
    return tuple(Frame("page", number) for number in numbers)


def _entries(frames: tuple[Frame, ...], *flags: int) -> tuple[Value, ...]:
    return tuple(Entry(frame, low) for frame in frames for low in flags)


_HOSTILE_NUMBERS: Final = _numbers(_TOP, 0x80000000, 0x7FFFFFFF, 0x10000)
#: Pages that nothing maps: fit for tables, and for giving away.
_POOL: Final = _pages(8, 9, 10, 11)
_MAPPED: Final = _pages(0, 1, 2, 3)
_TABLES: Final = (Frame("l1 table"), Frame("l2 table"), Frame("l3 table"))
_SHARED: Final = (Frame("shared info"), Frame("grant table"))
_FOREIGN: Final = (*(Frame("their page", number) for number in (0, 8, 14)), Frame("their table"))
_NOBODYS: Final = (
    *(Frame("hypervisor", number) for number in (0, 1, 2)),
    *(Frame("m2p"), Frame("free"), Frame("low"), Frame("beyond"), Frame("beyond", 2)),
)
_FRAMES: Final = Choices((*_POOL, *_MAPPED), (*_TABLES, *_SHARED, *_pages(12, 13)), (*_FOREIGN, *_NOBODYS))
_RIGHTS: Final = (0x63, 0x61, 0x67, 0x25)
#: What is mapped read-only, not mapped, in the middle of a hole, or Xen's.
_BAD_ADDRESSES: Final = (
    *(Address("pages", 12 << 12), Address("pages", 8 << 12), Address("pages", 15 << 12), Number(0)),
    *(Number(0xF5800000), Number(0xF57FFFFC), Number(0xFFFFF000), Number(_TOP)),
)
_STRADDLING: Final = (Address("list", 4092), Address("list", 4090), Address("list", 4096))

_MEANINGS: Final[Mapping[str, Choices]] = {
    "peer": Choices(
        (Peer(),),
        _named("DOMID_SELF"),
        (*_named("DOMID_IO", "DOMID_XEN", "DOMID_INVALID"), *_numbers(0, 3, 0x7FEF, 0xFFFF)),
    ),
    "domid": Choices(
        (*_named("DOMID_SELF"), Peer()),
        _numbers(0, 1, 2, 3),
        (*_named("DOMID_IO", "DOMID_XEN", "DOMID_INVALID"), *_numbers(0x7FEF, 0xFFFF)),
    ),
    "foreigndom": Choices(
        _named("DOMID_SELF"),
        (*_numbers(1, 2), *_named("DOMID_IO")),
        (*_named("DOMID_XEN", "DOMID_INVALID"), *_numbers(0xFFFF, 0x7FF0 | 1 << 16)),
    ),
    # The first free port of a domain is 3.
    "port": Choices(
        _numbers(3, 3, 3, 4, 4, 5, 1, 2), _numbers(0, 6, 63, 64), (*_numbers(1023, 1024), *_HOSTILE_NUMBERS)
    ),
    "reference": Choices(
        _numbers(8, 9, 10), _numbers(0, 1, 511), (*_numbers(512, 0x4000), *_HOSTILE_NUMBERS)
    ),
    "handle": Choices(_numbers(0, 1, 2), _numbers(3, 511), _HOSTILE_NUMBERS),
    "frame": _FRAMES,
    "machine address": Choices(
        _entries((*_POOL, *_MAPPED), 0),
        _entries((*_TABLES, *_SHARED, *_pages(12, 13)), 0, 8),
        _entries((*_FOREIGN, *_NOBODYS), 0, 4),
    ),
    "entry": Choices(
        (*_entries((*_MAPPED, *_POOL), *_RIGHTS), Number(0)),
        (
            *_entries((*_TABLES, *_SHARED, *_pages(12)), 0x61, 0x63),
            *_entries(_MAPPED[:1], 0x62, 0xE7, 0xE01, 1),
        ),
        (
            *_entries((*_FOREIGN, *_NOBODYS), 0x61, 0x63),
            *(Entry(_MAPPED[0], 0x63, high) for high in (1, 1 << 30, NO_EXECUTE >> 32)),
            Number((1 << 64) - 1),
        ),
    ),
    "slot": Choices(
        (*(Slot(page) for page in range(8)), *_entries(_POOL, 0, 8)),
        (
            *(Slot(0, command) for command in (1, 2, 3)),
            *_entries(_TABLES[1:], 300 * 8, 4 * 8),
            *_entries(_POOL, 4),
        ),
        (*_entries((*_FOREIGN, *_NOBODYS), 0), *_entries(_MAPPED, 0), Number((1 << 64) - 8)),
    ),
    "page": Choices(
        tuple(Address("pages", page << 12) for page in range(8)),
        tuple(Address("pages", at) for at in (8 << 12, 9 << 12, 12 << 12, 5)),
        _BAD_ADDRESSES[3:],
    ),
    "mapping": Choices(
        tuple(Address("pages", page << 12) for page in (4, 5, 6)),
        (Slot(4), Slot(5), Address("pages", 8 << 12), Address("pages", 5)),
        (*_BAD_ADDRESSES[3:], *_entries((*_FOREIGN, *_NOBODYS), 0)),
    ),
    "pointer": Choices((Address("list"), Address("list", 512)), _STRADDLING, _BAD_ADDRESSES),
    "vcpu": Choices(_numbers(0), _numbers(1, 2), (*_numbers(31, 32, 8192), *_HOSTILE_NUMBERS)),
    "virq": Choices(_numbers(0, 1), _numbers(2, 4, 23, 24), _HOSTILE_NUMBERS),
    "pirq": Choices(_numbers(16, 17), _numbers(0, 1, 23, 55), (*_numbers(56, 207, 208), *_HOSTILE_NUMBERS)),
    "selector": Choices(
        _numbers(0xE019, 0xE021), _numbers(0xE02B, 0xE033, 0xE018), _numbers(0, 3, 0x11, 0xFFFF)
    ),
    "grant flags": Choices(
        _numbers(grant_table.GTF_permit_access, grant_table.GTF_permit_access | grant_table.GTF_readonly),
        _numbers(0, grant_table.GTF_accept_transfer),
        _numbers(3, 0x1F, 0xFFFF),
    ),
    "map flags": Choices(
        _numbers(2, 2 | 4), _numbers(1, 3, 1 | 4, 2 | 8, 2 | 16), (*_numbers(0, 4), Number(_TOP))
    ),
    "copy flags": Choices(_numbers(1, 2, 3), _numbers(0), _numbers(4, 0xFFFF)),
    "length": Choices(_numbers(16, 4), _numbers(0, 4095, 4096), _numbers(4097, 0xFFFF)),
    "count": Choices(_numbers(1, 2), _numbers(0, 3, 512), (*_numbers(8193), *_HOSTILE_NUMBERS)),
    "order": Choices(_numbers(0), _numbers(1, 2), (*_numbers(9, 30, 31, 32, 63), *_HOSTILE_NUMBERS)),
    "offset": Choices(_numbers(0, 16), _numbers(4080, 4095), (*_numbers(4096), *_HOSTILE_NUMBERS)),
    "time": Choices(_numbers(0, 1 << 40), _numbers(1, 10_000_000), _numbers((1 << 64) - 1, 1 << 63)),
    "version": Choices(_numbers(1, 2), _numbers(0, 3), _HOSTILE_NUMBERS),
    "descriptor": Choices(
        _numbers(0x00CFBB000000FFFF, 0x00CFF3000000FFFF),
        _numbers(0, 0x00CF9B000000FFFF, 0x0000EC00E0190000),
        _numbers(0x0000890000000067, 0x00AF9B000000FFFF, (1 << 64) - 1),
    ),
    "number": Choices(_numbers(0, 1, 2, 3), _numbers(4, 7, 8, 16), (*_numbers(255), *_HOSTILE_NUMBERS)),
}

#: The first pattern that is found in a name says what is meant. Names with a dot are of one structure alone.
_PATTERNS: Final = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"^mmu_update\.ptr$", "slot"),
        (r"^mmu_update\.val$|^update_va_mapping.*\.val$", "entry"),
        (r"^mmuext_op\..*(mfn|src_mfn)$", "frame"),
        (r"^mmuext_op\..*linear_addr$|^update_va_mapping.*\.va$", "page"),
        (r"^mmuext_op\..*nr_ents$", "count"),
        (
            r"^gnttab_map_grant_ref\.dom$|^grant_entry.*\.domid$|\.remote_dom$|^gnttab_transfer\.domid$",
            "peer",
        ),
        (r"^gnttab_map_grant_ref\.flags$", "map flags"),
        (r"^gnttab_copy\.flags$", "copy flags"),
        (r"^grant_entry.*flags$", "grant flags"),
        (r"^gnttab_.*(host_addr|new_addr)$", "mapping"),
        (r"^update_descriptor\.desc$", "descriptor"),
        (r"\.dev_bus_addr$|\.maddr$", "machine address"),
        (r"\.foreigndom$", "foreigndom"),
        (r"\.(domid|dom|domain|domain_id|\w+_dom|\w+_domid|domain_to_\w+)$", "domid"),
        (r"\.(port|\w+_port)$", "port"),
        (r"\.(ref|gref|ref_[ab]|\w+_ref)$", "reference"),
        (r"^gnttab_.*\.handle$", "handle"),
        (r"\.(\w*mfn|\w*gfn|\w*gmfn|\w*gpfn|frame)$", "frame"),
        (
            r"\.(\w+_list|\w+_start|buffer|buf|arrays?|h|frame_list|ports|bitmap|v|idxs|gpfns|errs|p)$",
            "pointer",
        ),
        (r"\.(vcpu|vcpuid|vcpu_id|which)$", "vcpu"),
        (r"\.virq$", "virq"),
        (r"\.(pirq|irq|gsi)$", "pirq"),
        (r"\.(ss|cs|\w*selector)$", "selector"),
        (r"\.(len|length|size)$", "length"),
        (r"\.(count|nr_\w+|entries|max_\w+|nr)$", "count"),
        (r"\.(extent_order|\w*order)$", "order"),
        (r"\.offset$", "offset"),
        (r"\.(timeout|timeout_abs_ns|period_ns)$", "time"),
        (r"\.version$", "version"),
        (r"\.\w*address$", "page"),
    )
)
#: What the types of the hypercall table mean where a name says nothing.
_TYPES: Final = {"handle": "pointer", "domid": "domid", "maddr64": "machine address", "pte64": "entry"}


def meaning_of(owner: str, name: str, type_name: str = "") -> str:
    """What a field or argument means: a key of the meanings.

    Args:
        owner: the structure's C name, or the hypercall's.
        name: the path of the field, or the argument's name.
        type_name: the argument's type in the table of hypercalls.
    """
    full = f"{owner}.{name}"
    for pattern, meaning in _PATTERNS:
        if pattern.search(full):
            return meaning
    return _TYPES.get(type_name, "number")


def choices_for(meaning: str) -> Choices:
    """The values of a meaning; raises KeyError."""
    return _MEANINGS[meaning]


def meanings() -> tuple[str, ...]:
    """All meanings."""
    return tuple(_MEANINGS)
