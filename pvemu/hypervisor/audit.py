"""The audit: every reference and type count of every frame, recomputed from what really refers to it.

Counts are kept along the way, an increment here and a decrement there. Here they are found anew from the
live page tables, base pointers, pins, descriptor tables and allocations. A difference is a bug.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from pvemu.abi.grant_table import GNTMAP_device_map, GNTMAP_host_map, GNTMAP_readonly
from pvemu.abi.xen import DOMID_IO, DOMID_XEN
from pvemu.hypervisor.address_space import FIRST_XEN_L2_SLOT
from pvemu.hypervisor.grant_map import pin_increment
from pvemu.memory.frames import (
    NO_OWNER,
    PGT_L1,
    PGT_L2,
    PGT_L3,
    PGT_NONE,
    PGT_SEG_DESC,
    PGT_WRITABLE,
    FrameType,
)
from pvemu.memory.page_tables import PRESENT, WRITABLE, entry_frame

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

_HISTORY_LENGTH: Final = 8
#: Owner, references, type, uses of the type, whether it is validated, and whether it is pinned.
_State = tuple[int, int, int, int, int, int]
_TABLES: Final = (PGT_L1, PGT_L2, PGT_L3)


class AuditError(AssertionError):
    """A frame whose counts are not what refers to it, or a mapping that must not be."""


class Auditor:
    """Audits one machine, and remembers what it saw of each frame, to tell it when something is wrong.

    Args:
        remembers: False saves a sixth of the time, and makes what is told depend on the moment alone.
    """

    def __init__(self, hypervisor: "Hypervisor", *, remembers: bool = True) -> None:
        self._remembers = remembers
        self._hypervisor = hypervisor
        self._frames, self._ram = hypervisor.frames, hypervisor.ram
        self._first: tuple[int, list[_State]] | None = None
        self._states: list[_State] = []
        self._history: dict[int, deque[tuple[int, _State]]] = {}

    def audit(self) -> None:
        """Recompute all counts and look at all mappings.

        Raises:
            AuditError: with the frame's state, what was found, and its states at earlier audits.
        """
        # The allocation holds one reference.
        self._count = list(self._frames.allocated)
        self._typed = [0] * self._frames.number
        self._wanted = [PGT_NONE] * self._frames.number
        self._linear = [0] * self._frames.number
        self._xen_l2_used: set[int] = set()
        self._count_holders()
        for mfn, kind in enumerate(self._frames.type):
            if kind in _TABLES and (self._frames.type_count[mfn] or self._frames.partial[mfn]):
                self._count_table(mfn, kind)
        for mfn in self._suspects():
            self._compare(mfn)
        for mfn, owner in self._frames.l1_owner.items():
            if owner != self._frames.owner[mfn] or self._wanted[mfn] != PGT_L1 or not self._typed[mfn]:
                raise self._error(mfn, f"taken for an L1 of domain {owner}")
        if self._remembers:
            self._remember()

    # --- what refers to a frame ------------------------------------------------------------------

    def _refer(self, mfn: int, kind: int | None = None) -> None:
        self._count[mfn] += 1
        if kind is not None:
            if self._typed[mfn] and self._wanted[mfn] != kind:
                both = f"{FrameType(kind).name} and {FrameType(self._wanted[mfn]).name}"
                raise self._error(mfn, f"used as {both} at once")
            self._typed[mfn] += 1
            self._wanted[mfn] = kind

    def _count_holders(self) -> None:
        """Everything but page-table entries."""
        frames, hypervisor = self._frames, self._hypervisor
        shared = [mfn for mfn, owner in enumerate(frames.owner) if owner in (DOMID_IO, DOMID_XEN)]
        for mfn in shared:
            is_m2p = mfn >= hypervisor.heap.end and not hypervisor.is_special_page(mfn)
            if is_m2p or frames.owner[mfn] == DOMID_IO:
                self._refer(mfn, PGT_NONE)
        for mfn, is_pinned in enumerate(frames.pinned):
            if is_pinned:
                self._refer(mfn, frames.type[mfn])
        for mfn in hypervisor.page_types.demoting:
            self._refer(mfn)
        for domain in hypervisor.domains.values():
            if domain.shared_info_frame:
                self._refer(domain.shared_info_frame, PGT_WRITABLE)
            for mfn in domain.written_pages:
                self._refer(mfn, PGT_WRITABLE)
            for vcpu in () if domain.is_translated else domain.vcpus:
                if vcpu.cr3:
                    self._refer(vcpu.cr3, PGT_L3)
                for mfn in (*vcpu.gdt_frames, *vcpu.ldt_pages.values()):
                    self._refer(mfn, PGT_SEG_DESC)
            if domain.is_translated:
                self._check_physmap(domain)
        self._count_grants()

    def _check_physmap(self, domain: "Domain") -> None:
        """Every frame of a translated domain's map is its own, at one gfn, or a grant that it has mapped."""
        frames, hypervisor = self._frames, self._hypervisor
        mapped = {
            granter.grant_table.active[mapping.ref].mfn
            for granter, mapping in domain.grant_table.maptrack.in_use()
            if mapping.flags & GNTMAP_host_map and hypervisor.domains.get(granter.domid) is granter
        }
        for gfn, mfn in domain.p2m:
            if gfn in domain.p2m.grants:
                if mfn not in mapped:
                    raise self._error(mfn, f"at GFN {gfn:#x} of {domain}, which has not mapped it")
            elif frames.owner[mfn] != domain.domid or not frames.count[mfn] or hypervisor.m2p.get(mfn) != gfn:
                raise self._error(mfn, f"at GFN {gfn:#x} of {domain}, where it does not belong")

    def _count_grants(self) -> None:
        """The frames of grant tables, and what is mapped by handles other than through page tables."""
        domains = self._hypervisor.domains
        pins: dict[tuple[int, int], int] = {}
        for domain in domains.values():
            table = domain.grant_table
            for mfn in (*table.frames, *table.status_frames):
                self._refer(mfn, PGT_WRITABLE)
            for granter, mapping in table.maptrack.in_use():
                if domains.get(granter.domid) is not granter:
                    continue
                entry = (granter.domid, mapping.ref)
                pins[entry] = pins.get(entry, 0) + pin_increment(mapping.flags)
                held = mapping.flags & (GNTMAP_device_map | (GNTMAP_host_map if domain.is_translated else 0))
                mfn = granter.grant_table.active[mapping.ref].mfn
                for _ in range(held.bit_count()):
                    self._refer(mfn, None if mapping.flags & GNTMAP_readonly else PGT_WRITABLE)
        kept = {
            (domain.domid, ref): entry.pin
            for domain in domains.values()
            for ref, entry in domain.grant_table.active.items()
        }
        if kept != pins:
            different = sorted(kept.items() ^ pins.items())
            raise AuditError(f"grants are pinned otherwise than they are mapped: {different}")

    def _count_table(self, table: int, kind: int) -> None:
        frames = self._frames
        slots = {PGT_L1: 512, PGT_L2: FIRST_XEN_L2_SLOT if frames.xen_l2[table] else 512, PGT_L3: 4}[kind]
        if frames.partial[table]:
            slots = frames.validated_entries[table]
        for entry in self._ram.u64[table << 9 : (table << 9) + slots].tolist():
            if entry & PRESENT:
                self._count_entry(table, kind, entry)

    def _count_entry(self, table: int, kind: int, entry: int) -> None:
        frames, mfn = self._frames, entry_frame(entry)
        if kind != PGT_L1:
            is_linear = kind == PGT_L2 and frames.type[mfn] == PGT_L2
            if is_linear and entry & WRITABLE:
                raise self._error(mfn, f"writable through a linear entry of {table:x}")
            if is_linear and mfn == table:
                return
            if kind == PGT_L3 and frames.xen_l2[mfn]:
                if mfn in self._xen_l2_used:
                    raise self._error(mfn, "its hypervisor's entries are below two L3s")
                self._xen_l2_used.add(mfn)
            if is_linear:
                self._linear[table] += 1
                self._linear[mfn] -= 1
            self._refer(mfn, PGT_L2 if kind == PGT_L3 or is_linear else PGT_L1)
        elif mfn < frames.number and frames.owner[mfn] != DOMID_IO:
            if frames.owner[mfn] == NO_OWNER or (frames.owner[mfn] == DOMID_XEN and entry & WRITABLE):
                raise self._error(mfn, f"mapped by a guest, in the L1 {table:x}")
            self._refer(mfn, PGT_WRITABLE if entry & WRITABLE else None)

    # --- verdicts --------------------------------------------------------------------------------

    def _suspects(self) -> list[int]:
        """Frames to be looked at one by one: all with a count that differs, or with a type in use."""
        frames = self._frames
        columns = zip(
            *(frames.owner, frames.count, self._count, frames.type_count, self._typed),
            *(frames.linear, self._linear),
            strict=True,
        )
        return [
            mfn
            for mfn, (owner, count, found, uses, typed, linear, found_linear) in enumerate(columns)
            if (typed or count != found or uses or linear != found_linear) and (owner != NO_OWNER or found)
        ]

    def _compare(self, mfn: int) -> None:
        frames = self._frames
        kept = (frames.count[mfn], frames.type_count[mfn])
        found = (self._count[mfn], self._typed[mfn])
        if kept != found:
            raise self._error(mfn, f"found {found[0]} references and {found[1]} uses of its type")
        if found[1] and frames.type[mfn] != self._wanted[mfn]:
            raise self._error(mfn, f"used as {FrameType(self._wanted[mfn]).name}")
        if found[1] and frames.type[mfn] == PGT_L1 and mfn not in frames.l1_owner:
            raise self._error(mfn, "not known as the L1 that it is")
        if found[1] and not frames.validated[mfn]:
            raise self._error(mfn, "its type is relied on, but was never validated")
        if frames.linear[mfn] != self._linear[mfn]:
            raise self._error(mfn, f"linear count {frames.linear[mfn]}, found {self._linear[mfn]}")

    def _remember(self) -> None:
        """Note the state of each frame that is not as it was; of the first audit all at once."""
        frames, now = self._frames, self._hypervisor.tsc()
        columns = (
            frames.owner,
            frames.count,
            frames.type,
            frames.type_count,
            frames.validated,
            frames.pinned,
        )
        states = list(zip(*columns, strict=True))
        if self._first is None:
            self._first = now, states
        else:
            for mfn, (state, before) in enumerate(zip(states, self._states, strict=True)):
                if state != before:
                    history = self._history.setdefault(mfn, deque(maxlen=_HISTORY_LENGTH))
                    history.append((now, state))
        self._states = states

    def _error(self, mfn: int, verdict: str) -> AuditError:
        seen: list[tuple[int, _State]] = []
        if self._first is not None and mfn < self._frames.number:
            seen = [(self._first[0], self._first[1][mfn]), *self._history.get(mfn, ())]
        if not self._remembers:
            return AuditError(f"{self._frames.describe(mfn)}: {verdict}")
        history = "\n  ".join(f"{cycle} {_describe(state)}" for cycle, state in seen)
        return AuditError(
            f"{self._frames.describe(mfn)}: {verdict}\nAt earlier audits (cycle, state):\n  {history}"
        )


def _describe(state: _State) -> str:
    owner, count, kind, uses, validated, pinned = state
    marks = "V" * bool(validated) + "P" * bool(pinned)
    return f"owner {owner:#x}, {count} references, {FrameType(kind).name} x{uses} {marks}".rstrip()
