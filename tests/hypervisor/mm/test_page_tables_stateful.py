"""Whatever two domains ask of direct paging, counts stay exact and nobody reaches what is not his."""

import struct
from collections.abc import Sequence
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from live_tables import check_door, check_isolation
from two_domains import MOST, PAGES, READ_ONLY_PFNS, Guest, TwoDomains

from pvemu.abi import xen
from pvemu.abi.errno import Errno
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.memory import (
    XENMEM_decrease_reservation,
    XENMEM_exchange,
    XENMEM_increase_reservation,
    XENMEM_populate_physmap,
    xen_memory_exchange,
    xen_memory_reservation,
)
from pvemu.hypervisor.address_space import FIRST_XEN_L2_SLOT
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.pv.ldt import fault_in
from pvemu.hypervisor.scheduler import TIME_SLICE
from pvemu.memory.frames import NO_OWNER
from pvemu.memory.page_tables import NO_EXECUTE

#: Machines and steps of each: some 1200 steps in every run, some 60000 in the nightly one.
IS_NIGHTLY: Final = settings.default is not None and settings.default.max_examples > 50
MACHINES, STEPS = (600, 100) if IS_NIGHTLY else (20, 60)

POOL: Final = 12
#: Few frames for the L3s and L2s of address spaces, so that spaces often want the same ones.
ROOTS, L2S = (0, 1, 2), (4, 5, 6, 7)
#: In the place of a number in the pool: the table that is made.
ITSELF: Final = -1
DATA_PFN: Final = 60
KNOWN_ERRORS: Final = {-int(number) for number in Errno} - {-int(Errno.ERESTART)}
UNREACHABLE: Final = (0xF5800000, 0xFFFFF000, 0, 0x1000, 0x40000000)

Frame = tuple[str, int]
Request = tuple[Frame, int, int, Frame, int]

#: Kinds of frames by how useful they are: (kind, how often).
KINDS: Final = {
    "pool": 14, "data": 2, "read-only": 3, "boot table": 4, "root": 2, "other pool": 2, "other table": 1,
    "shared": 1, "hypervisor": 2, "m2p": 1, "free": 1, "low": 1, "beyond": 1,
}  # fmt: skip
BEYOND: Final = (0xFFFFF, 0xFEC00, (1 << 28) - 1, (1 << 40) - 1)
FLAGS: Final = (
    0x01, 0x01, 0x21, 0x21, 0x25, 0x61, 0x03, 0x63, 0x63, 0x67, 0x67, 0x27, 0x07, 0, 0, 0x66, 0x02,
    0xE7, 0x81, 0x83, 0x09, 0x11, 0x101, 0x163, 0xE01, 0x863, NO_EXECUTE | 0x63, NO_EXECUTE | 0x21,
    1 << 52 | 0x67, 1 << 62 | 0x01, 1 << 51 | 0x67,
)  # fmt: skip
FOREIGN: Final = (
    *([xen.DOMID_SELF] * 10), 0, 1, 2, xen.DOMID_IO, xen.DOMID_XEN, xen.DOMID_INVALID,
    xen.DOMID_SELF | 1 << 16, xen.DOMID_SELF | 2 << 16, 1 | 2 << 16,
)  # fmt: skip
OPERATIONS: Final = (
    *([xen.MMUEXT_PIN_L1_TABLE, xen.MMUEXT_PIN_L2_TABLE, xen.MMUEXT_PIN_L3_TABLE] * 2),
    *([xen.MMUEXT_UNPIN_TABLE] * 4), xen.MMUEXT_NEW_BASEPTR, xen.MMUEXT_NEW_BASEPTR,
    xen.MMUEXT_PIN_L4_TABLE, xen.MMUEXT_CLEAR_PAGE, xen.MMUEXT_COPY_PAGE, xen.MMUEXT_TLB_FLUSH_LOCAL,
    xen.MMUEXT_INVLPG_ALL, xen.MMUEXT_TLB_FLUSH_MULTI, xen.MMUEXT_NEW_USER_BASEPTR, 99,
)  # fmt: skip
DESCRIPTORS: Final = (
    0, 0x00CFBB000000FFFF, 0x00CFF3000000FFFF, 0x0000E20000000000, 0x0000EC00E0190000, 0x0000890000000067,
    0x00AF9B000000FFFF, 0x00C0930000001000,
)  # fmt: skip
#: Stores to [edi]: mov of 1, 2 and 4 bytes, xchg, or, and, btr, add, cmpxchg, cmpxchg8b, stosd.
STORES: Final = [
    bytes.fromhex(code)
    for code in (
        "8807", "668907", "8907", "8907", "8907", "8707", "0907", "2107", "0fba3700", "0107", "f00fb11f",
        "f00fc70f", "ab",
    )
]  # fmt: skip

guests = st.integers(0, 1)
frames = st.tuples(
    st.sampled_from([kind for kind, often in KINDS.items() for _ in range(often)]), st.integers(0, 11)
)
pool = st.integers(0, POOL - 1)
flags = st.sampled_from(FLAGS) | st.integers(0, 0xFFF)
indexes = st.sampled_from((0, 1, 2, 3, 4, 5, 0x1AB, 0x1AC, 0x1AD, 511)) | st.integers(0, 511)
#: How long a hypercall may take, in cycles, before it has to stop, and how often the guest goes on with it.
LONG: Final = (TIME_SLICE, MOST)
slices = st.sampled_from((*[LONG] * 6, (25_000, MOST), (-1, MOST), (-1, 1), (-1, 30), (-1, 600)))
commands = st.sampled_from((0, 0, 0, 0, 0, 1, 2, 2, 3, 4, 7))
requests = st.lists(st.tuples(frames, indexes, commands, frames, flags), min_size=1, max_size=6)
operations = st.lists(st.tuples(st.sampled_from(OPERATIONS), frames, frames), min_size=1, max_size=4)


class PageTables(RuleBasedStateMachine):
    """One machine with a domain 0 and a domU; a rule is one hypercall, or a store that faulted."""

    machine: TwoDomains

    @initialize()
    def boot(self) -> None:
        self.machine = TwoDomains(POOL)
        self.auditor = Auditor(self.machine.hypervisor)
        kind = xen.VMASST_TYPE_writable_pagetables
        for guest in self.machine.guests:
            assert self.machine.call(guest, "vm_assist", xen.VMASST_CMD_enable, kind) == 0

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.machine.close()

    @invariant()
    def counts_are_exact_and_nobody_reaches_what_is_not_his(self) -> None:
        if hasattr(self, "machine"):
            self.auditor.audit()
            check_isolation(self.machine)
            check_door(self.machine)

    # --- words of the rules ----------------------------------------------------------------------

    def mfn(self, guest: Guest, frame: Frame) -> int:
        kind, number = frame
        machine = self.machine
        hypervisor, other = machine.hypervisor, machine.guests[1 - guest.domain.domid]
        tables = guest.built.layout.page_tables.pfn
        match kind:
            case "pool":
                return guest.pool[number % POOL]
            case "data":
                return guest.frames[DATA_PFN + number]
            case "read-only":
                return guest.frames[READ_ONLY_PFNS[number % 4]]
            case "boot table":
                return guest.frames[tables + number % 6]
            case "root":
                return guest.vcpu.cr3
            case "other pool":
                return other.pool[number % POOL]
            case "other table":
                return other.frames[other.built.layout.page_tables.pfn + number % 6]
            case "shared":
                return guest.domain.shared_info_frame
            case "hypervisor":
                mine = (
                    hypervisor.gdt_frame,
                    hypervisor.zero_frame,
                    guest.vcpu.monitor,
                    other.vcpu.descriptor_l1,
                )
                return mine[number % 4]
            case "m2p":
                return hypervisor.m2p.first + number
            case "free":
                return next(
                    (mfn for mfn, owner in enumerate(hypervisor.frames.owner) if owner == NO_OWNER), 0
                )
            case "low":
                return number
        return BEYOND[number % 4]

    def entry(self, guest: Guest, frame: Frame, low: int) -> int:
        return (self.mfn(guest, frame) << 12 | low) & (1 << 64) - 1

    def updates(self, guest: Guest, wanted: Sequence[Request]) -> bytes:
        return b"".join(
            struct.pack(
                "<QQ",
                self.mfn(guest, table) << 12 & (1 << 64) - 1 | index << 3 | command,
                self.mfn(guest, target) if command == 1 else self.entry(guest, target, low),
            )
            for table, index, command, target, low in wanted
        )

    def call(self, guest: Guest, name: str, *words: int, time: tuple[int, int] = LONG) -> int | None:
        cycles, patience = time
        result = self.machine.call(guest, name, *words, slice_cycles=cycles, patience=patience)
        assert result is None or result >= 0 or result in KNOWN_ERRORS, f"{name} returned {result}"
        return result

    def alive(self, number: int) -> Guest | None:
        guest = self.machine.guests[number]
        return None if guest.domain.has_shut_down else guest

    # --- single entries --------------------------------------------------------------------------

    @rule(number=guests, wanted=requests, foreign=st.sampled_from(FOREIGN), time=slices)
    def mmu_update(self, number: int, wanted: list[Request], foreign: int, time: tuple[int, int]) -> None:
        if guest := self.alive(number):
            at = self.machine.put(guest, self.updates(guest, wanted))
            done = self.machine.put(guest, bytes(4), offset=4088)
            result = self.call(guest, "mmu_update", at, len(wanted), done, foreign, time=time)
            assert result is None or result <= 0

    @rule(
        number=guests,
        page=st.integers(0, PAGES - 1) | st.sampled_from(UNREACHABLE),
        frame=frames,
        low=flags,
        flush=st.sampled_from((0, 1, 2, 4, 5)),
        domid=st.sampled_from((None, None, *FOREIGN[9:16])),
    )
    def update_va_mapping(
        self, number: int, page: int, frame: Frame, low: int, flush: int, domid: int | None
    ) -> None:
        guest = self.alive(number)
        if guest is None or page in (
            guest.requests - guest.virtual(0) >> 12,
            guest.code - guest.virtual(0) >> 12,
        ):
            return
        value = self.entry(guest, frame, low)
        address = page if page >= PAGES else guest.virtual(page)
        words = (address, value & 0xFFFFFFFF, value >> 32, flush)
        if domid is None:
            self.call(guest, "update_va_mapping", *words)
        else:
            self.call(guest, "update_va_mapping_otherdomain", *words, domid)

    @rule(
        number=guests,
        table=st.integers(0, 5),
        index=st.integers(PAGES, 511) | st.integers(0, 511),
        offset=st.sampled_from((0, 0, 0, 4, 1)),
        code=st.sampled_from(STORES),
        frame=frames,
        low=flags,
    )
    def store(
        self, number: int, table: int, index: int, offset: int, code: bytes, frame: Frame, low: int
    ) -> None:
        if guest := self.alive(number):
            slots = {guest.requests - guest.virtual(0) >> 12, guest.code - guest.virtual(0) >> 12}
            if index & 255 in slots:
                return
            address = guest.virtual(guest.built.layout.page_tables.pfn + table) + index * 8 + offset
            value = self.entry(guest, frame, low)
            eax, ecx = value & 0xFFFFFFFF, value >> 32
            self.machine.store(guest, address, code, (eax, ecx, 0, eax, guest.requests, 0, 0, address))

    # --- whole tables ----------------------------------------------------------------------------

    @rule(number=guests, wanted=operations, foreign=st.sampled_from(FOREIGN[:16]), time=slices)
    def mmuext_op(
        self, number: int, wanted: list[tuple[int, Frame, Frame]], foreign: int, time: tuple[int, int]
    ) -> None:
        if guest := self.alive(number):
            raw = b"".join(
                struct.pack(
                    "<3I", each, self.mfn(guest, first) & 0xFFFFFFFF, self.mfn(guest, second) & 0xFFFFFFFF
                )
                for each, first, second in wanted
            )
            at = self.machine.put(guest, raw)
            result = self.call(guest, "mmuext_op", at, len(wanted), 0, foreign, time=time)
            assert result is None or result <= 0

    @rule(
        number=guests,
        table=pool,
        fills=st.lists(st.tuples(indexes, frames, flags), max_size=5),
        time=slices,
    )
    def make_an_l1(
        self, number: int, table: int, fills: list[tuple[int, Frame, int]], time: tuple[int, int]
    ) -> None:
        if guest := self.alive(number):
            self.make_and_pin(guest, table, xen.MMUEXT_PIN_L1_TABLE, fills, time)

    @rule(
        number=guests,
        table=pool,
        fills=st.lists(
            st.tuples(indexes, pool | st.just(ITSELF), st.sampled_from((0x67, 0x67, 0x25, 0x25))), max_size=5
        ),
        time=slices,
    )
    def make_an_l2(
        self, number: int, table: int, fills: list[tuple[int, int, int]], time: tuple[int, int]
    ) -> None:
        if guest := self.alive(number):
            wanted = [
                (index, ("pool", table if target == ITSELF else target), low) for index, target, low in fills
            ]
            self.make_and_pin(guest, table, xen.MMUEXT_PIN_L2_TABLE, wanted, time)

    @rule(
        number=guests,
        root=st.sampled_from(ROOTS),
        l2s=st.permutations(L2S),
        boots=st.booleans(),
        time=slices,
    )
    def make_an_address_space(
        self, number: int, root: int, l2s: list[int], boots: bool, time: tuple[int, int]
    ) -> None:
        """An L3 whose last L2 maps what the boot tables do; perhaps it becomes the root."""
        if guest := self.alive(number):
            top, *below = (guest.pool[each] for each in (root, *l2s))
            boot_l2 = guest.frames[guest.built.layout.page_tables.pfn + 2]
            u64 = self.machine.hypervisor.ram.u64
            same = [
                (below[3] << 12 | slot << 3, u64[(boot_l2 << 9) + slot])
                for slot in range(FIRST_XEN_L2_SLOT)
                if u64[(boot_l2 << 9) + slot] & 1
            ]
            slots = [(top << 12 | slot << 3, each << 12 | 1) for slot, each in enumerate(below)]
            raw = b"".join(struct.pack("<QQ", *each) for each in same[:100] + slots)
            at = self.machine.put(guest, raw)
            self.call(guest, "mmu_update", at, len(raw) // 16, 0, xen.DOMID_SELF, time=time)
            then = xen.MMUEXT_NEW_BASEPTR if boots else xen.MMUEXT_PIN_L3_TABLE
            at = self.machine.put(guest, struct.pack("<3I", then, top, 0))
            self.call(guest, "mmuext_op", at, 1, 0, xen.DOMID_SELF, time=time)

    def make_and_pin(
        self,
        guest: Guest,
        table: int,
        operation: int,
        targets: list[tuple[int, Frame, int]],
        time: tuple[int, int],
    ) -> None:
        wanted = [(("pool", table), index, 0, target, low) for index, target, low in targets]
        at = self.machine.put(guest, self.updates(guest, wanted))
        self.call(guest, "mmu_update", at, len(wanted), 0, xen.DOMID_SELF, time=time)
        at = self.machine.put(guest, struct.pack("<3I", operation, guest.pool[table], 0))
        self.call(guest, "mmuext_op", at, 1, 0, xen.DOMID_SELF, time=time)

    @rule(
        number=guests,
        page=st.sampled_from(READ_ONLY_PFNS) | st.integers(0, 70),
        entries=st.sampled_from((0, 1, 512, 8192, 8193)),
        offset=st.integers(0, 3),
    )
    def set_ldt(self, number: int, page: int, entries: int, offset: int) -> None:
        if guest := self.alive(number):
            raw = struct.pack("<3I", xen.MMUEXT_SET_LDT, guest.virtual(page), entries)
            at = self.machine.put(guest, raw)
            self.call(guest, "mmuext_op", at, 1, 0, xen.DOMID_SELF)
            fault_in(guest.vcpu, offset << 12)

    @rule(number=guests, page=st.integers(0, 15))
    def use_the_ldt(self, number: int, page: int) -> None:
        if guest := self.alive(number):
            self.machine.hypervisor.switch_to(guest.vcpu)
            fault_in(guest.vcpu, page << 12)

    @rule(
        number=guests,
        wanted=st.lists(frames, max_size=3),
        entries=st.sampled_from((0, 1, 512, 513, 1025, 7168, 7169)),
    )
    def set_gdt(self, number: int, wanted: list[Frame], entries: int) -> None:
        if guest := self.alive(number):
            listed = [self.mfn(guest, each) & 0xFFFFFFFF for each in wanted] + [0] * 14
            at = self.machine.put(guest, struct.pack("<14I", *listed[:14]))
            self.call(guest, "set_gdt", at, entries)

    @rule(
        number=guests,
        frame=frames,
        index=indexes,
        value=st.sampled_from(DESCRIPTORS),
        offset=st.sampled_from((0, 0, 4)),
    )
    def update_descriptor(self, number: int, frame: Frame, index: int, value: int, offset: int) -> None:
        if guest := self.alive(number):
            address = self.mfn(guest, frame) << 12 & (1 << 64) - 1 | index << 3 | offset
            words = (address & 0xFFFFFFFF, address >> 32, value & 0xFFFFFFFF, value >> 32)
            self.call(guest, "update_descriptor", *words)

    # --- frames that come and go -----------------------------------------------------------------

    @rule(
        number=guests,
        command=st.sampled_from(
            (XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_populate_physmap)
        ),
        wanted=st.lists(frames, min_size=1, max_size=3),
        order=st.sampled_from((0, 0, 0, 1, 9, 13)),
        domid=st.sampled_from(FOREIGN[9:16]),
        time=slices,
    )
    def memory_op(
        self, number: int, command: int, wanted: list[Frame], order: int, domid: int, time: tuple[int, int]
    ) -> None:
        if guest := self.alive(number):
            listed = [self.mfn(guest, each) & 0xFFFFFFFF for each in wanted]
            at = self.machine.put(guest, struct.pack(f"<{len(listed)}I", *listed), offset=256)
            raw = xen_memory_reservation.pack(
                4, extent_start=at, nr_extents=len(listed), extent_order=order, domid=domid
            )
            at = self.machine.put(guest, raw)
            self.call(guest, "memory_op", command, at, time=time)

    @rule(
        number=guests,
        wanted=st.lists(frames, min_size=1, max_size=4),
        orders=st.sampled_from(((0, 0), (0, 0), (0, 1), (1, 0), (0, 2))),
        domid=st.sampled_from(FOREIGN[9:16]),
        time=slices,
    )
    def exchange(
        self, number: int, wanted: list[Frame], orders: tuple[int, int], domid: int, time: tuple[int, int]
    ) -> None:
        if guest := self.alive(number):
            listed = [self.mfn(guest, each) & 0xFFFFFFFF for each in wanted]
            given = self.machine.put(guest, struct.pack(f"<{len(listed)}I", *listed), offset=256)
            new = self.machine.put(guest, struct.pack("<16I", *range(16)), offset=512)
            out = len(listed) << orders[0] >> orders[1]
            raw = xen_memory_exchange.pack(
                4,
                **{
                    "in": {
                        "extent_start": given,
                        "nr_extents": len(listed),
                        "extent_order": orders[0],
                        "domid": domid,
                    }
                },
                out={"extent_start": new, "nr_extents": out, "extent_order": orders[1], "domid": domid},
            )
            at = self.machine.put(guest, raw)
            if self.call(guest, "memory_op", XENMEM_exchange, at, time=time) == 0:
                fresh = struct.unpack(f"<{out}I", guest.domain.memory.copy_from_guest(new, 4 * out))
                if guest.domain.is_self(domid):
                    replaced = zip(listed, fresh, strict=False)
                    for old, mfn in replaced:
                        guest.pool[:] = [mfn if each == old else each for each in guest.pool]

    # --- several at once, and the end ------------------------------------------------------------

    @rule(number=guests, wanted=requests, then=operations, frame=frames, low=flags, time=slices)
    def multicall(
        self,
        number: int,
        wanted: list[Request],
        then: list[tuple[int, Frame, Frame]],
        frame: Frame,
        low: int,
        time: tuple[int, int],
    ) -> None:
        if guest := self.alive(number):
            updates = self.machine.put(guest, self.updates(guest, wanted), offset=1024)
            raw = b"".join(
                struct.pack(
                    "<3I", each, self.mfn(guest, first) & 0xFFFFFFFF, self.mfn(guest, second) & 0xFFFFFFFF
                )
                for each, first, second in then
            )
            more = self.machine.put(guest, raw, offset=2048)
            value = self.entry(guest, frame, low)
            calls = (
                ("mmu_update", updates, len(wanted), 0, xen.DOMID_SELF),
                ("mmuext_op", more, len(then), 0, xen.DOMID_SELF),
                ("update_va_mapping", guest.virtual(DATA_PFN), value & 0xFFFFFFFF, value >> 32, 0),
                ("multicall", updates, 1, 0, 0),
            )
            entries = (struct.pack("<8I", BY_NAME[name].number, 0, *words, 0, 0) for name, *words in calls)
            at = self.machine.put(guest, b"".join(entries))
            assert self.call(guest, "multicall", at, len(calls), time=time) in (None, 0, -int(Errno.EFAULT))

    @precondition(lambda self: hasattr(self, "machine"))
    @rule(chance=st.integers(0, 30))
    def the_domu_ends(self, chance: int) -> None:
        if chance == 30:
            self.machine.guests[1].domain.shutdown(0)


TestPageTables = PageTables.TestCase
TestPageTables.settings = settings(max_examples=MACHINES, stateful_step_count=STEPS)
