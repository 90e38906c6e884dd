"""Steps without a hypercall: what a domain says in memory that it shares with Xen."""

from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pvemu.abi.grant_table import GTF_permit_access
from pvemu.abi.vocabulary import structures
from pvemu.testing.program import Record, Step
from pvemu.testing.strategies import Quality, values
from pvemu.testing.values import Number, Value

_ENTRY_SIZE = 8
_REFERENCES = (8, 9, 10)
_PORTS = 8


@cache
def memory_steps(*, domain: int = 0, quality: Quality = "mixed") -> SearchStrategy[Step]:
    """Granting a page, masking event ports, and taking note of all events."""
    return st.one_of(
        grants(domain=domain, quality=quality), masks(domain=domain), st.just(takes_events(domain))
    )


def grants(*, domain: int = 0, quality: Quality = "mixed") -> SearchStrategy[Step]:
    """An entry of version 1 written into the domain's grant table."""

    def write(ref: int, flags: Value, domid: Value, frame: Value) -> Step:
        found = (("flags", flags), ("domid", domid), ("frame", frame))
        record = Record("grant_entries", ref * _ENTRY_SIZE, "grant_entry_v1", found)
        return Step(domain, None, (), (record,), f"grant {ref}")

    return st.builds(
        write,
        st.sampled_from(_REFERENCES),
        st.one_of(st.just(Number(GTF_permit_access)), _of("grant flags", quality)),
        _of("peer", quality),
        _of("frame", quality),
    )


def _of(meaning: str, quality: Quality) -> SearchStrategy[Value]:
    return values(meaning, quality)


def masks(*, domain: int = 0) -> SearchStrategy[Step]:
    """Some of the first ports masked, as a driver does that is busy."""

    def write(ports: set[int]) -> Step:
        mask = Number(sum(1 << port for port in ports))
        record = Record("shared_info_page", 0, "shared_info", (("evtchn_mask[0]", mask),), keeps=True)
        return Step(domain, None, (), (record,), "mask")

    return st.builds(write, st.sets(st.integers(1, _PORTS), min_size=1, max_size=3))


def takes_events(domain: int = 0) -> Step:
    """All pending events of the first word noticed, as a kernel's upcall handler does."""
    pending = "vcpu_info[0].evtchn_pending_sel", "vcpu_info[0].evtchn_upcall_pending", "evtchn_pending[0]"
    records = tuple(_cleared(path) for path in (pending[1], pending[0], pending[2]))
    return Step(domain, None, (), records, "take events")


def _cleared(path: str) -> Record:
    shared_info = structures()["shared_info"]
    at, size = shared_info.offset(path, 4), shared_info.field_size(path, 4)
    assert size in (1, 4)
    # The byte behind evtchn_upcall_pending is the mask, which stays set.
    value = 0 if size == 4 else 0x100
    return Record("shared_info_page", at, None, (("0", Number(value)),))
