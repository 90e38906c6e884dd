"""The audit: every reference and type count of every frame, recomputed from what really refers to it.

Counts are kept along the way, an increment here and a decrement there. Here they are found anew from the
live page tables, base pointers, pins, descriptor tables and allocations. A difference is a bug.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from pvemu.abi.grant_table import GNTMAP_device_map, GNTMAP_readonly
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

_HISTORY_LENGTH: Final = 8
_TABLES: Final = (PGT_L1, PGT_L2, PGT_L3)


class AuditError(AssertionError):
    """A frame whose counts are not what refers to it, or a mapping that must not be."""


class Auditor:
    """Audits one machine, and remembers what it saw of each frame, to tell it when something is wrong."""

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor
        self._frames, self._ram = hypervisor.frames, hypervisor.ram
        self._history: dict[int, deque[str]] = {}

    def audit(self) -> None:
        """Recompute all counts and look at all mappings.

        Raises:
            AuditError: with the frame's state, what was found, and its states at earlier audits.
        """
        self._count = [0] * self._frames.number
        self._typed = [0] * self._frames.number
        self._wanted = [PGT_NONE] * self._frames.number
        self._linear = [0] * self._frames.number
        self._xen_l2_used: set[int] = set()
        self._count_holders()
        for mfn, kind in enumerate(self._frames.type):
            if kind in _TABLES and (self._frames.type_count[mfn] or self._frames.partial[mfn]):
                self._count_table(mfn, kind)
        for mfn in range(self._frames.number):
            if self._frames.owner[mfn] != NO_OWNER or self._count[mfn]:
                self._compare(mfn)

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
        for mfn, owner in enumerate(frames.owner):
            if frames.allocated[mfn]:
                self._count[mfn] += 1
            if owner == DOMID_IO or (owner == DOMID_XEN and not hypervisor.is_special_page(mfn)):
                self._refer(mfn, PGT_NONE)
            if frames.pinned[mfn]:
                self._refer(mfn, frames.type[mfn])
        for mfn in hypervisor.page_types.demoting:
            self._refer(mfn)
        for domain in hypervisor.domains.values():
            if domain.shared_info_frame:
                self._refer(domain.shared_info_frame, PGT_WRITABLE)
            for mfn in domain.written_pages:
                self._refer(mfn, PGT_WRITABLE)
            for vcpu in domain.vcpus:
                if vcpu.cr3:
                    self._refer(vcpu.cr3, PGT_L3)
                for mfn in (*vcpu.gdt_frames, *vcpu.ldt_pages.values()):
                    self._refer(mfn, PGT_SEG_DESC)
        self._count_grants()

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
                if mapping.flags & GNTMAP_device_map:
                    mfn = granter.grant_table.active[mapping.ref].mfn
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

    def _compare(self, mfn: int) -> None:
        frames = self._frames
        kept = (frames.count[mfn], frames.type_count[mfn])
        found = (self._count[mfn], self._typed[mfn])
        if kept != found:
            raise self._error(mfn, f"found {found[0]} references and {found[1]} uses of its type")
        if found[1] and frames.type[mfn] != self._wanted[mfn]:
            raise self._error(mfn, f"used as {FrameType(self._wanted[mfn]).name}")
        if found[1] and not frames.validated[mfn]:
            raise self._error(mfn, "its type is relied on, but was never validated")
        if frames.linear[mfn] != self._linear[mfn]:
            raise self._error(mfn, f"linear count {frames.linear[mfn]}, found {self._linear[mfn]}")
        state = frames.describe(mfn)
        history = self._history.setdefault(mfn, deque(maxlen=_HISTORY_LENGTH))
        if not history or history[-1].split(" ", 1)[1] != state:
            history.append(f"{self._hypervisor.tsc()} {state}")

    def _error(self, mfn: int, verdict: str) -> AuditError:
        history = "\n  ".join(self._history.get(mfn, ()))
        return AuditError(
            f"{self._frames.describe(mfn)}: {verdict}\nAt earlier audits (cycle, state):\n  {history}"
        )
