"""Whatever domains grant, map, copy, hand over and revoke, and whoever dies: counts stay exact."""

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from answers import LONG_SLICE, OUTSIDE
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from three_domains import WINDOW_PFNS, Guest, ThreeDomains

from pvemu.abi import grant_table as abi
from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused
from pvemu.abi.memory import XENMEM_decrease_reservation, XENMEM_populate_physmap, xen_memory_reservation
from pvemu.abi.xen import DOMID_INVALID, DOMID_IO, DOMID_SELF, DOMID_XEN
from pvemu.hypervisor.audit import Auditor
from pvemu.memory.page_tables import PRESENT, WRITABLE, entry_frame

#: Machines and steps of each: some 1500 steps in every run, some 60000 in the nightly one.
IS_NIGHTLY: Final = settings.default is not None and settings.default.max_examples > 50
MACHINES, STEPS = (600, 100) if IS_NIGHTLY else (25, 60)

DOMAINS: Final = (0, 1, 2)
REFS: Final = (0, 1, 7, 8, 9, 10, 11)
TABLE_FLAGS: Final = (0x61, 0x63, 0x63, 0)
STATUSES: Final = range(abi.GNTST_no_space, abi.GNTST_okay + 1)
KNOWN_ERRORS: Final = {-int(number) for number in Errno} - {-int(Errno.ERESTART)}
#: How long a call may run before it has to stop.
SLICES: Final = (LONG_SLICE, LONG_SLICE, 0)
MAP_SIZE, COPY_SIZE = abi.gnttab_map_grant_ref.size(4), abi.gnttab_copy.size(4)

domains = st.sampled_from(DOMAINS)
named = st.sampled_from((*DOMAINS, *DOMAINS, OUTSIDE, DOMID_SELF, DOMID_INVALID, DOMID_XEN))
references = st.sampled_from((*REFS, *REFS, 511, 512, 0xFFFFFFFF))
own_references = st.sampled_from(REFS)
kinds = st.sampled_from(
    (
        "pool",
        "pool",
        "pool",
        "pool",
        "mapped",
        "root",
        "table",
        "shared",
        "theirs",
        "free",
        "hypervisors",
        "none",
    )
)
frames = st.tuples(kinds, st.integers(0, 7))
entry_flags = st.sampled_from(
    (1, 1, 1, 1, 1 | 4, 1 | 4, 2, 2, 3, 3 | 4, 0, 1 | abi.GTF_sub_page, 1 | abi.GTF_PWT, 0xFFFF)
)
map_flags = st.sampled_from((2, 2, 2, 2 | 4, 2 | 4, 1, 1 | 4, 3, 3 | 4, 2 | 8, 2 | 7 << 16, 0, 4, 0xFFFFFFEF))
windows = st.sampled_from(WINDOW_PFNS)
slices = st.sampled_from(SLICES)


class Granted(NamedTuple):
    """One thing that a domain has said at some time: who may use which frame, and only to read."""

    granter: object
    ref: int
    domid: int
    mfn: int
    readonly: bool


class Held(NamedTuple):
    """A mapping that was made."""

    handle: int
    pfn: int
    flags: int
    bus: int


class Grants(RuleBasedStateMachine):
    """Three domains whose code never runs, and a service outside; every step is a call of one of them."""

    @initialize()
    def begin(self) -> None:
        self.machine = ThreeDomains()
        self.auditor = Auditor(self.machine.hypervisor)
        self.said: set[Granted] = set()
        self.held: dict[int, list[Held]] = {domid: [] for domid in DOMAINS}
        self.reached: dict[int, set[tuple[int, bool]]] = {domid: set() for domid in DOMAINS}
        self.service: list[tuple[int, memoryview]] = []
        for guest in self.guests():
            self.learn(guest)

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.machine.hypervisor.cpu.close()

    def alive(self, domid: int) -> Guest | None:
        guest = self.machine.guests.get(domid)
        return None if guest is None or guest.domain.has_shut_down else guest

    def frame(self, guest: Guest, frame: tuple[str, int]) -> int:
        """The mfn that a choice stands for."""
        kind, number = frame
        others = [each for domid, each in sorted(self.machine.guests.items()) if each is not guest]
        hypervisor = self.machine.hypervisor
        choices: dict[str, Callable[[], int]] = {
            "pool": lambda: guest.pool[number],
            "mapped": lambda: guest.frames[60 + number],
            "root": lambda: guest.root_table,
            "table": lambda: guest.table_frame,
            "shared": lambda: guest.domain.shared_info_frame,
            "theirs": lambda: others[number % len(others)].pool[number] if others else 5,
            "free": lambda: hypervisor.heap.end - 1 - number,
            "hypervisors": lambda: hypervisor.gdt_frame,
            "none": lambda: hypervisor.frames.number + number,
        }
        return choices[kind]()

    def answer(self, guest: Guest, name: str, structure: Any, **fields: Any) -> Any:
        """A command on one structure; the structure afterwards."""
        answer = guest.single(name, structure, **fields)
        assert answer.result == 0 or answer.result in KNOWN_ERRORS
        return answer.op

    # --- granting ----------------------------------------------------------------------------------

    @rule(granter=domains, ref=own_references, domid=named, frame=frames, flags=entry_flags)
    def grant(self, granter: int, ref: int, domid: int, frame: tuple[str, int], flags: int) -> None:
        if guest := self.alive(granter):
            mfn = self.frame(guest, frame)
            part = 0x100 | 0x200 << 16
            guest.grant(ref, domid, mfn, flags, part)
            if flags & abi.GTF_type_mask == abi.GTF_permit_access:
                readonly = bool(flags & abi.GTF_readonly)
                self.said.add(Granted(guest.domain, ref, domid, mfn, readonly))

    @rule(granter=domains, ref=own_references, domid=named, to=domains, other=own_references)
    def hand_on(self, granter: int, ref: int, domid: int, to: int, other: int) -> None:
        guest = self.alive(granter)
        if guest and guest.domain.grant_table.version == 2:
            guest.grant(ref, domid, other, abi.GTF_transitive, to)

    @rule(granter=domains, version=st.sampled_from((1, 2, 2, 3)))
    def set_version(self, granter: int, version: int) -> None:
        if guest := self.alive(granter):
            self.answer(guest, "set_version", abi.gnttab_set_version, version=version)
            self.learn(guest)

    def learn(self, guest: Guest) -> None:
        """What the entries say that the domain has not written itself: its tools', and after another form."""
        table = guest.domain.grant_table
        for ref in REFS:
            if table.flags(ref) & abi.GTF_type_mask == abi.GTF_permit_access:
                readonly = bool(table.flags(ref) & abi.GTF_readonly)
                self.said.add(Granted(guest.domain, ref, table.domid(ref), table.frame(ref), readonly))

    @rule(granter=domains, first=references, second=references)
    def swap(self, granter: int, first: int, second: int) -> None:
        if guest := self.alive(granter):
            op = self.answer(
                guest, "swap_grant_ref", abi.gnttab_swap_grant_ref, ref_a=first, ref_b=second, status=77
            )
            assert op.status in STATUSES
            if op.status == abi.GNTST_okay:
                mirror = {first: second, second: first}
                self.said |= {
                    each._replace(ref=mirror[each.ref])
                    for each in self.said
                    if each.granter is guest.domain and each.ref in mirror
                }

    @rule(granter=domains, number=st.integers(0, 12))
    def grow(self, granter: int, number: int) -> None:
        if guest := self.alive(granter):
            at = guest.requests + 2048
            op = self.answer(
                guest, "setup_table", abi.gnttab_setup_table, dom=DOMID_SELF, nr_frames=number, frame_list=at
            )
            assert op.status == abi.GNTST_okay

    # --- mapping -----------------------------------------------------------------------------------

    @rule(
        mapper=domains,
        domid=named,
        ref=references,
        pfn=windows,
        flags=map_flags,
        by_entry=st.booleans(),
        address=st.sampled_from((0, 0, 0, 0, 0, 3, 1 << 32, 0x7000_0000)),
    )
    def map(
        self, mapper: int, domid: int, ref: int, pfn: int, flags: int, by_entry: bool, address: int
    ) -> None:
        if guest := self.alive(mapper):
            granter = self.machine.hypervisor.domains.get(domid)
            host = guest.entry(pfn) * 8 if by_entry else guest.virtual(pfn)
            flags |= abi.GNTMAP_contains_pte if by_entry else 0
            op = self.answer(
                guest,
                "map_grant_ref",
                abi.gnttab_map_grant_ref,
                host_addr=host + address,
                flags=flags,
                ref=ref,
                dom=domid,
                status=77,
            )
            assert op.status in STATUSES
            if op.status == abi.GNTST_okay:
                assert granter is not None
                writable = not flags & abi.GNTMAP_readonly
                mfn = op.dev_bus_addr >> 12
                assert any(
                    said.granter is granter
                    and (said.ref, said.domid, said.mfn) == (ref, mapper, mfn)
                    and not (writable and said.readonly)
                    for said in self.said
                ), f"d{mapper} maps {mfn:x} of {granter!r}, which was not granted to it so"
                self.held[mapper].append(Held(op.handle, pfn, flags, op.dev_bus_addr))
                if flags & abi.GNTMAP_host_map:
                    self.reached[mapper] |= {(mfn, False), (mfn, writable)}

    @rule(
        mapper=domains,
        number=st.integers(0, 5),
        parts=st.sampled_from((3, 3, 3, 1, 2, 0)),
        wrong=st.sampled_from((0, 0, 0, 0, 1, 4096)),
        newest=st.booleans(),
    )
    def unmap(self, mapper: int, number: int, parts: int, wrong: int, newest: bool) -> None:
        guest = self.alive(mapper)
        if guest and self.held[mapper]:
            held = self.held[mapper][-1 if newest else number % len(self.held[mapper])]
            by_entry = held.flags & abi.GNTMAP_contains_pte
            host = (guest.entry(held.pfn) * 8 if by_entry else guest.virtual(held.pfn)) + wrong
            bus = held.bus + wrong
            status = guest.unmap(held.handle, host if parts & 2 else 0, bus if parts & 1 else 0)
            assert status in STATUSES or guest.domain.has_shut_down
            if status == abi.GNTST_bad_handle:
                self.held[mapper].remove(held)

    @rule(mapper=domains, number=st.integers(0, 5), pfn=windows)
    def unmap_and_replace(self, mapper: int, number: int, pfn: int) -> None:
        guest = self.alive(mapper)
        if guest and self.held[mapper]:
            held = self.held[mapper][number % len(self.held[mapper])]
            by_entry = held.flags & abi.GNTMAP_contains_pte
            self.answer(
                guest,
                "unmap_and_replace",
                abi.gnttab_unmap_and_replace,
                host_addr=guest.entry(held.pfn) * 8 if by_entry else guest.virtual(held.pfn),
                new_addr=guest.virtual(pfn),
                handle=held.handle,
            )

    @rule(mapper=domains, domid=domains, wanted=st.lists(own_references, max_size=6), time=slices)
    def map_a_list(self, mapper: int, domid: int, wanted: list[int], time: int) -> None:
        """All at one page, so that each takes the place of the one before."""
        if guest := self.alive(mapper):
            ops = [
                abi.gnttab_map_grant_ref.pack(
                    4, host_addr=guest.virtual(WINDOW_PFNS[0]), flags=2 | 4, ref=ref, dom=domid, status=77
                )
                for ref in wanted
            ]
            at = guest.put(b"".join(ops), offset=512)
            number = abi.GNTTABOP_map_grant_ref
            assert guest.call("grant_table_op", number, at, len(ops), slice_cycles=time) == 0
            raw = guest.domain.memory.copy_from_guest(at, len(ops) * MAP_SIZE)
            for index in range(len(ops)):
                op = abi.gnttab_map_grant_ref.unpack(4, raw[index * MAP_SIZE : (index + 1) * MAP_SIZE])
                assert op.status in STATUSES
                if op.status == abi.GNTST_okay:
                    self.held[mapper].append(Held(op.handle, WINDOW_PFNS[0], 2 | 4, op.dev_bus_addr))
                    self.reached[mapper].add((op.dev_bus_addr >> 12, False))

    @rule(mapper=domains, pfn=windows, frame=frames, flags=st.sampled_from(TABLE_FLAGS))
    def overwrite(self, mapper: int, pfn: int, frame: tuple[str, int], flags: int) -> None:
        """What maps a grant is changed behind the back of the grant table."""
        if guest := self.alive(mapper):
            result = guest.show(pfn, self.frame(guest, frame) << 12 | flags if flags else 0)
            assert result == 0 or result in KNOWN_ERRORS

    @rule(mapper=domains, pfn=windows, flip=st.sampled_from((WRITABLE, PRESENT, 1 << 9, 1 << 5)))
    def flip_a_bit(self, mapper: int, pfn: int, flip: int) -> None:
        if guest := self.alive(mapper):
            entry = self.machine.hypervisor.ram.u64[guest.entry(pfn)]
            guest.show(pfn, entry ^ flip)

    # --- using frames otherwise --------------------------------------------------------------------

    @rule(
        copier=domains,
        sides=st.lists(
            st.tuples(named, references, frames, named, references, frames, st.integers(0, 3)), max_size=4
        ),
        places=st.tuples(
            st.sampled_from((0, 0x100, 0x2FC, 4095)),
            st.sampled_from((0, 0x100, 7)),
            st.sampled_from((0, 4, 64)),
        ),
        time=slices,
    )
    def copy(
        self,
        copier: int,
        sides: list[tuple[int, int, tuple[str, int], int, int, tuple[str, int], int]],
        places: tuple[int, int, int],
        time: int,
    ) -> None:
        if guest := self.alive(copier):
            ops = []
            for domid, ref, frame, to_domid, to_ref, to_frame, flags in sides:
                source = ref if flags & 1 else self.frame(guest, frame)
                to = to_ref if flags & 2 else self.frame(guest, to_frame)
                if flags & 2 == 0 and to == guest.table_frame:
                    continue  # it would grant what the model does not know of
                fields = {
                    "source": {"u": {"ref": source}, "domid": domid if flags & 1 else DOMID_SELF},
                    "dest": {"u": {"ref": to}, "domid": to_domid if flags & 2 else DOMID_SELF},
                }
                fields["source"]["offset"], fields["dest"]["offset"] = places[0], places[1]
                ops.append(abi.gnttab_copy.pack(4, **fields, len=places[2], flags=flags, status=77))
            tables = {
                each.table_frame: bytes(self.machine.bytes_of(each.table_frame)) for each in self.guests()
            }
            at = guest.put(b"".join(ops), offset=512)
            assert guest.call("grant_table_op", abi.GNTTABOP_copy, at, len(ops), slice_cycles=time) == 0
            raw = guest.domain.memory.copy_from_guest(at, len(ops) * COPY_SIZE)
            for index in range(len(ops)):
                op = abi.gnttab_copy.unpack(4, raw[index * COPY_SIZE : (index + 1) * COPY_SIZE])
                assert op.status in STATUSES
            for mfn, contents in tables.items():
                self.machine.bytes_of(mfn)[:] = contents

    def guests(self) -> list[Guest]:
        return list(self.machine.guests.values())

    @rule(giver=domains, frame=frames, domid=named, ref=references)
    def transfer(self, giver: int, frame: tuple[str, int], domid: int, ref: int) -> None:
        if guest := self.alive(giver):
            mfn = self.frame(guest, frame)
            owned = self.machine.hypervisor.frames.owner[mfn : mfn + 1] == [giver]
            op = self.answer(guest, "transfer", abi.gnttab_transfer, mfn=mfn, domid=domid, ref=ref, status=77)
            assert op.status in STATUSES
            if op.status == abi.GNTST_okay:
                assert owned
                assert self.machine.hypervisor.frames.owner[mfn] == domid
            self.refill(guest)

    @rule(giver=domains, frame=frames)
    def give_up(self, giver: int, frame: tuple[str, int]) -> None:
        if guest := self.alive(giver):
            mfn = self.frame(guest, frame)
            if frame[0] in ("pool", "theirs", "free", "none"):
                listed = guest.put(struct.pack("<I", mfn), offset=1024)
                raw = xen_memory_reservation.pack(
                    4, extent_start=listed, nr_extents=1, extent_order=0, domid=DOMID_SELF
                )
                assert guest.call("memory_op", XENMEM_decrease_reservation, guest.put(raw)) in (0, 1)
                self.refill(guest)

    def refill(self, guest: Guest) -> None:
        """Put new frames in the place of those in the pool that are gone."""
        frames = self.machine.hypervisor.frames
        for index, mfn in enumerate(guest.pool):
            if frames.owner[mfn] != guest.domid or not frames.allocated[mfn]:
                listed = guest.put(struct.pack("<I", 32 + index), offset=1024)
                raw = xen_memory_reservation.pack(
                    4, extent_start=listed, nr_extents=1, extent_order=0, domid=DOMID_SELF
                )
                if guest.call("memory_op", XENMEM_populate_physmap, guest.put(raw)) == 1:
                    guest.pool[index] = guest.domain.memory.read_u32(listed)

    @rule(domid=domains, number=st.integers(0, 7), pin=st.booleans())
    def make_a_table(self, domid: int, number: int, pin: bool) -> None:
        if guest := self.alive(domid):
            result = guest.pin_as_table(guest.pool[number], pin=pin)
            assert result == 0 or result in KNOWN_ERRORS

    # --- outside, and the end ----------------------------------------------------------------------

    @rule(domid=domains, ref=references, writable=st.booleans())
    def a_service_maps(self, domid: int, ref: int, writable: bool) -> None:
        try:
            self.service.append(self.machine.outside.map_grant(domid, ref, writable=writable))
        except GrantRefused as refused:
            assert refused.status in STATUSES

    @rule(number=st.integers(0, 9))
    def a_service_unmaps(self, number: int) -> None:
        if self.service:
            self.machine.outside.unmap_grant(self.service.pop(number % len(self.service))[0])

    @rule(domid=domains, ref=own_references, offset=st.integers(-1, 4096), size=st.sampled_from((0, 1, 8)))
    def a_service_copies(self, domid: int, ref: int, offset: int, size: int) -> None:
        try:
            assert len(self.machine.outside.copy_from_grant(domid, ref, offset, size)) == size
        except GrantRefused as refused:
            assert refused.status in STATUSES

    @precondition(lambda self: hasattr(self, "machine"))
    @rule(domid=st.sampled_from((1, 2)), chance=st.integers(0, 12))
    def die(self, domid: int, chance: int) -> None:
        if chance == 12 and domid in self.machine.guests:
            self.machine.destroy(domid)
            self.held[domid].clear()
            self.reached[domid].clear()

    @rule(domid=st.sampled_from((1, 2)))
    def live_again(self, domid: int) -> None:
        hypervisor = self.machine.hypervisor
        is_free = domid not in self.machine.guests and domid not in hypervisor.domains
        if is_free and hypervisor.heap.free_frames >= 300:
            self.learn(self.machine.make(domid))

    # --- what holds --------------------------------------------------------------------------------

    @invariant()
    def counts_are_exact(self) -> None:
        if hasattr(self, "machine"):
            self.auditor.audit()

    @invariant()
    def nobody_reaches_what_was_not_granted(self) -> None:
        if not hasattr(self, "machine"):
            return
        hypervisor = self.machine.hypervisor
        for guest in self.guests():
            if guest.domain.has_shut_down:
                continue
            # Low memory is a device's, and domain 0 may map devices.
            its_own = {guest.domid, DOMID_IO} if guest.domain.privileged else {guest.domid}
            for pfn in WINDOW_PFNS:
                entry = hypervisor.ram.u64[guest.entry(pfn)]
                mfn = entry_frame(entry)
                is_memory = mfn < hypervisor.frames.number
                if entry & PRESENT and is_memory and hypervisor.frames.owner[mfn] not in its_own:
                    assert (mfn, bool(entry & WRITABLE)) in self.reached[guest.domid]


TestGrants = Grants.TestCase
TestGrants.settings = settings(max_examples=MACHINES, stateful_step_count=STEPS)
