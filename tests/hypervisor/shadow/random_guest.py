"""A guest under shadow paging that does anything at random, and knows what every access has to come to."""

import struct
from random import Random
from typing import Final

from paging_cases import SLOTS
from shadowed_guest import GUEST_FRAMES, Allowed, ShadowedGuest

from pvemu.hypervisor.shadow.outcome import EmulateWrite
from pvemu.memory.guest_walk import PagingMode
from pvemu.memory.page_tables import (
    FAULT_FETCH,
    FAULT_USER,
    FAULT_WRITE,
    FOUR_LEVEL,
    PAE,
    TWO_LEVEL,
    PagingFormat,
)
from pvemu.memory.ram import PAGE_SIZE

VCPUS: Final = (0, 1)
#: Every mode that makes a difference: format, CR0.WP, EFER.NXE, CR4.PSE.
MODES: Final = (
    PagingMode(None),
    *(PagingMode(TWO_LEVEL, wp, False, pse) for wp in (True, False) for pse in (True, False)),
    *(
        PagingMode(form, wp, nx, True)
        for form in (PAE, FOUR_LEVEL)
        for wp in (True, False)
        for nx in (True, False)
    ),
)
#: The slots of each table that have entries from the start.
_FILLED: Final = (0, 1, 2, 3, 4, 508, 511, 1023)
_RIGHTS: Final = (7,) * 12 + (0x67, 0x67, 0x27, 5, 3, 1, 0)
_NOWHERE: Final = (0, 0x100, 0xFFFFF)
_ACCESSES: Final = (0, FAULT_WRITE, FAULT_WRITE, FAULT_FETCH)
#: The smallest number of frames with which two processors can make any single access.
_LEAST, _MOST = 6, 40


class RandomGuest:
    """Two virtual processors, and a dozen frames that are tables and data at once.

    Attributes:
        stale: whether a table was changed since all roots were loaded: old translations may be in use.
        written: the frames written since the dirty log was cleaned, while there is one.
    """

    def __init__(self, random: Random, mode: PagingMode) -> None:
        self.guest = ShadowedGuest(random.randint(_LEAST, _MOST))
        self.stale = False
        self.written: set[int] | None = None
        tree = random.random() < 0.7
        self._fill(random, mode, tree)
        self._roots = GUEST_FRAMES[:2] if tree else GUEST_FRAMES
        for vcpu in VCPUS:
            own = random.choice(MODES) if vcpu and random.random() < 0.3 else mode
            self.guest.load_root(own, random.choice(self._roots) << 12, vcpu)

    def check(self) -> None:
        """The laws that hold after every operation."""
        self.guest.shadow.check()
        if self.written is not None:
            log = self.guest.shadow.log
            assert log is not None and log.frames == self.written

    def close(self) -> None:
        self.guest.shadow.destroy()
        assert self.guest.pool.spare == len(self.guest.pool)
        self.guest.pool.release()
        assert len(set(self.guest.free_frames)) == len(self.guest.free_frames) == self.guest.shadow_frames

    def _fill(self, random: Random, mode: PagingMode, tree: bool) -> None:
        """Tables that mostly lead on to each other; in a tree two of each level, and L1s that map all."""
        size, levels = (mode.form.entry_size, len(mode.form.levels)) if mode.form else (8, 3)
        for gfn, frame in self.guest.memory.items():
            level = (gfn - GUEST_FRAMES[0]) // 2
            if tree and level >= levels:
                continue
            below = (
                GUEST_FRAMES[2 * level + 2 : 2 * level + 4] if tree and level < levels - 1 else GUEST_FRAMES
            )
            for slot in _FILLED:
                if (slot + 1) * size > PAGE_SIZE:
                    continue
                value = random.choice(below) << 12 | random.choice(_RIGHTS)
                if random.random() < 0.1:
                    value = random.choice((0, 0, gfn << 12)) | 0x80 | random.choice((7, 0x67, 5, 3))
                if mode.form is PAE and tree and level == 0:
                    value = value & -PAGE_SIZE | 1
                elif mode.no_execute and random.random() < 0.1:
                    value |= 1 << 63
                struct.pack_into("<I" if size == 4 else "<Q", frame, slot * size, value)

    # --- what processors do ----------------------------------------------------------------------

    def load_root(self, random: Random) -> None:
        """Load CR3, in the same mode or another."""
        vcpu = random.choice(VCPUS)
        mode = random.choice(MODES) if random.random() < 0.2 else self.guest.mode(vcpu)
        low = random.choice((0, 0, 0, 0x20, 0xFE0))
        self.guest.load_root(mode, random.choice(self._roots) << 12 | low, vcpu)

    def load_garbage(self, random: Random) -> None:
        """Load CR3 with what is no table at all."""
        vcpu = random.choice(VCPUS)
        cr3 = random.choice((0, 0xFFFFF000, 0xFF_FFFF_F000, 0x100000, 0x2F018))
        self.guest.load_root(self.guest.mode(vcpu), cr3, vcpu)

    def reload_roots(self, _random: Random) -> None:
        """Both processors load CR3 again, and so all edits are in force."""
        for vcpu in VCPUS:
            self.guest.load_root(self.guest.mode(vcpu), self.guest.cr3(vcpu), vcpu)
        self.stale = False

    def work(self, random: Random) -> None:
        """A stretch of accesses to a few pages, with stores that often change tables."""
        if random.random() < 0.5:
            self.reload_roots(random)
        places = [(vcpu, self._mapped_address(random, vcpu)) for vcpu in VCPUS for _ in range(3)]
        for _ in range(random.randint(1, 20)):
            vcpu, address = random.choice(places)
            if random.random() < 0.1:
                self._write_out_of_sync(random)
            form = self.guest.mode(vcpu).form or PAE
            access = random.choice(_ACCESSES) | random.choice((0, FAULT_USER))
            offset = random.choice(SLOTS[form]) * form.entry_size + random.choice((0, 0, 0, 0, 1))
            value = self._entry(random, form) if access & FAULT_WRITE else b""
            self._access(address | offset & PAGE_SIZE - 1, access, vcpu, value)

    def work_hastily(self, random: Random) -> None:
        """Without INVLPG after an edit, old translations may be used; but never other people's memory."""
        for _ in range(random.randint(1, 8)):
            vcpu = random.choice(VCPUS)
            access = random.choice((0, FAULT_FETCH)) | random.choice((0, FAULT_USER))
            result = self.guest.access(self._address(random, vcpu), access, vcpu)
            if isinstance(result, Allowed):
                assert result.frame in dict(self.guest.p2m).values()
        if self.written is not None:
            # Which entries it marked can't be told from outside.
            assert self.guest.shadow.log is not None
            self.written |= self.guest.shadow.log.frames

    def invalidate(self, random: Random) -> None:
        """INVLPG."""
        vcpu = random.choice(VCPUS)
        self.guest.shadow.invalidate(self._address(random, vcpu), vcpu)

    def _address(self, random: Random, vcpu: int) -> int:
        """A page."""
        form = self.guest.mode(vcpu).form
        if form is None:
            return random.choice((*GUEST_FRAMES, *_NOWHERE)) << 12
        address = 0
        for level in form.levels:
            slots = [slot for slot in SLOTS[form] if slot < level.entries]
            # Large pages that begin at 0 hold the guest's frames in their midst.
            own = level.number == 1 and random.random() < 0.3
            address |= random.choice(GUEST_FRAMES if own else slots) << level.shift
        return address | 0xFFFF << 48 if form is FOUR_LEVEL and address >> 47 else address

    def _mapped_address(self, random: Random, vcpu: int) -> int:
        """A page, preferably one that is there."""
        for _ in range(6):
            address = self._address(random, vcpu)
            if isinstance(self.guest.expected(address, 0, vcpu)[0], Allowed):
                break
        return address

    def _entry(self, random: Random, form: PagingFormat) -> bytes:
        """An entry that mostly makes sense."""
        value = random.choice(GUEST_FRAMES) << 12 | random.choice(_RIGHTS)
        if random.random() < 0.1:
            value = random.choice((*GUEST_FRAMES, *_NOWHERE)) << 12 | random.choice((0x87, 0xE7, 0x67))
        if form.entry_size == 8 and random.random() < 0.1:
            value |= random.choice((1 << 63, 1 << 63, 1 << 40, 1 << 52))
        return value.to_bytes(8, "little")[: form.entry_size]

    def _access(self, address: int, access: int, vcpu: int, data: bytes) -> None:
        """An access, after INVLPG if need be: result, memory and marks are those of the plain walk."""
        guest = self.guest
        if self.stale:
            guest.shadow.invalidate(address, vcpu)
        wanted, memory, marked = guest.expected(address, access, vcpu)
        result = guest.access(address, access, vcpu)
        data = data[: PAGE_SIZE - (address & PAGE_SIZE - 1)]
        if isinstance(wanted, Allowed) and data:
            gfn = guest.gfn_of(wanted.frame)
            marked.add(gfn)
            self.stale |= guest.shadow.is_table(gfn)
            memory[gfn][wanted.offset : wanted.offset + len(data)] = data
            if isinstance(result, EmulateWrite):
                assert (result.address >> 12, result.address & PAGE_SIZE - 1) == (gfn, wanted.offset)
                result = wanted
                guest.write(gfn, wanted.offset, data)
            else:
                assert not guest.shadow.guest.is_protected(gfn), "a table in sync was written unnoticed"
                guest.memory[gfn][wanted.offset : wanted.offset + len(data)] = data
        assert result == wanted
        assert guest.copy() == memory
        if self.written is not None:
            self.written |= marked

    def _write_out_of_sync(self, random: Random) -> None:
        """The guest changes a table that it may write, by a mapping that it has anywhere."""
        tables = [
            gfn
            for gfn in self.guest.shadow.out_of_sync
            if self.guest.p2m.is_writable(gfn) and (self.written is None or gfn in self.written)
        ]
        if tables:
            form = self.guest.mode(0).form or PAE
            offset = random.choice(SLOTS[form]) * form.entry_size
            frame = self.guest.memory[random.choice(tables)]
            frame[offset : offset + form.entry_size] = self._entry(random, form)
            self.stale = True

    # --- what happens to its memory --------------------------------------------------------------

    def emulated_write(self, random: Random) -> None:
        """A write of some size to some frame, table or not."""
        gfn = random.choice(GUEST_FRAMES)
        form = self.guest.mode(random.choice(VCPUS)).form or PAE
        offset = random.choice(SLOTS[form]) * form.entry_size + random.choice((0, 0, 0, 4, 2, 1))
        data = self._entry(random, form)[: random.choice((8, 8, 4, 2, 1))]
        if random.random() < 0.2:
            data = bytes(random.randint(1, 64))
        if self.guest.p2m.is_writable(gfn) and offset + len(data) <= PAGE_SIZE:
            self.guest.write(gfn, offset, data)
            self._note(gfn)

    def change_p2m(self, random: Random) -> None:
        """A frame goes, comes, moves, or becomes read-only."""
        guest, gfn, how = self.guest, random.choice(GUEST_FRAMES), random.randrange(4)
        if random.random() < 0.3:
            gfn = guest.cr3() >> 12 if guest.cr3() >> 12 in GUEST_FRAMES else gfn
        mfn = guest.p2m.get(gfn)
        if how == 0 and len(guest.p2m) > len(GUEST_FRAMES) - 3:
            guest.p2m.clear(gfn)
            if mfn is not None:
                guest.free_machine_frames.insert(0, mfn)
            return
        if mfn is None or how == 1:
            new = guest.free_machine_frames.pop()
            guest.ram.frame(new)[:] = bytes(PAGE_SIZE) if mfn is None else bytes(guest.ram.frame(mfn))
            if mfn is not None:
                guest.free_machine_frames.insert(0, mfn)
            mfn = new
        guest.p2m.set(gfn, mfn, writable=how != 2)
        self._note(gfn)

    def unshadow(self, random: Random) -> None:
        """Somebody thinks that a frame is no table any more."""
        gfn = random.choice(GUEST_FRAMES)
        assert self.guest.shadow.unshadow(gfn) is not self.guest.shadow.is_table(gfn)

    def unsync(self, random: Random) -> None:
        """A store to a frame can't be emulated."""
        self.guest.shadow.unsync(random.choice(GUEST_FRAMES))

    def resize_pool(self, random: Random) -> None:
        """Shadows get more or fewer frames."""
        self.guest.shadow.resize_pool(random.randint(_LEAST, _MOST))

    # --- the dirty log ---------------------------------------------------------------------------

    def start_log(self, _random: Random) -> None:
        """Begin to note writes."""
        self.guest.shadow.start_log()
        self.written = set()

    def clean_log(self, _random: Random) -> None:
        """See and forget what was written."""
        assert self.guest.shadow.clean_log() == (self.written or set())
        self.written = None if self.written is None else set()

    def stop_log(self, _random: Random) -> None:
        """Note writes no more."""
        self.guest.shadow.stop_log()
        self.written = None

    def _note(self, gfn: int) -> None:
        self.stale = True
        if self.written is not None:
            self.written.add(gfn)


#: Every operation, and how often it should come.
OPERATIONS: Final = {
    RandomGuest.work: 12,
    RandomGuest.load_root: 3,
    RandomGuest.load_garbage: 1,
    RandomGuest.reload_roots: 2,
    RandomGuest.work_hastily: 2,
    RandomGuest.invalidate: 1,
    RandomGuest.emulated_write: 5,
    RandomGuest.change_p2m: 2,
    RandomGuest.unshadow: 1,
    RandomGuest.unsync: 2,
    RandomGuest.resize_pool: 1,
    RandomGuest.start_log: 1,
    RandomGuest.clean_log: 1,
    RandomGuest.stop_log: 1,
}
