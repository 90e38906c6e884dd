"""What live page tables really let a domain reach, found without any of the hypervisor's counts."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from two_domains import PAGES, VIRT_BASE, Guest, TwoDomains

from pvemu.abi.xen import DOMID_IO, DOMID_XEN
from pvemu.hypervisor.address_space import FIRST_XEN_L2_SLOT
from pvemu.memory.guest import GuestFault
from pvemu.memory.page_tables import COMPAT, LARGE, PRESENT, WRITABLE, entry_frame, walk
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

_SLOTS: Final = 512
_L3_SLOTS: Final = 4
_XEN_L3_SLOT: Final = 3


class Mapping(NamedTuple):
    """A page that a domain can reach, and whether it can write there."""

    mfn: int
    writable: bool


class Reach(NamedTuple):
    """All that hangs below one root: its tables, and what they map, the hypervisor's own slots left out."""

    tables: set[int]
    mappings: set[Mapping]


def reach(machine: TwoDomains, root: int) -> Reach:
    """Follow every entry from a root table, in three steps, as the processor does."""
    tables, mappings = {root}, set[Mapping]()
    followed: set[tuple[int, bool]] = set()
    for slot, l3_entry in _present(machine, root, _L3_SLOTS):
        l2 = entry_frame(l3_entry)
        tables.add(l2)
        own_slots = FIRST_XEN_L2_SLOT if slot == _XEN_L3_SLOT else _SLOTS
        for _, l2_entry in _present(machine, l2, own_slots):
            assert not l2_entry & LARGE, f"the L2 {l2:x} maps a large page"
            step = entry_frame(l2_entry), bool(l2_entry & l3_entry & WRITABLE)
            if step not in followed:
                followed.add(step)
                tables.add(step[0])
                for _, entry in _present(machine, step[0], _SLOTS):
                    mappings.add(Mapping(entry_frame(entry), step[1] and bool(entry & WRITABLE)))
    return Reach(tables, mappings)


def _present(machine: TwoDomains, table: int, slots: int) -> Iterator[tuple[int, int]]:
    ram = machine.hypervisor.ram
    assert table < ram.frames, f"a table at frame {table:x}, where no memory is"
    for slot, entry in enumerate(ram.u64[table << 9 : (table << 9) + slots].tolist()):
        if entry & PRESENT:
            yield slot, entry


def check_isolation(machine: TwoDomains) -> None:
    """Nobody reaches the hypervisor, a domU reaches only itself, and nobody can write to a table."""
    reaches = [reach(machine, guest.vcpu.cr3) for guest in machine.guests]
    protected = {
        mfn
        for guest in machine.guests
        for mfn in (guest.vcpu.monitor, guest.vcpu.descriptor_l1, *guest.vcpu.gdt_frames)
    }
    protected.update(*(each.tables for each in reaches))
    for guest in machine.guests:
        protected.update(guest.vcpu.ldt_pages.values())
    for guest, each in zip(machine.guests, reaches, strict=True):
        for mapping in each.mappings:
            _check_mapping(machine, guest, mapping)
            if mapping.writable:
                assert mapping.mfn not in protected, f"{guest.domain} can write to the table {mapping.mfn:x}"


def _check_mapping(machine: TwoDomains, guest: Guest, mapping: Mapping) -> None:
    frames = machine.hypervisor.frames
    privileged = guest.domain.privileged
    if mapping.mfn >= frames.number:
        assert privileged, f"{guest.domain} maps {mapping.mfn:x}, where no memory is"
        return
    owner = frames.owner[mapping.mfn]
    allowed = {guest.domain.domid} | ({1, DOMID_IO} if privileged else set())
    if owner == DOMID_XEN and privileged and not mapping.writable:
        allowed.add(DOMID_XEN)  # the machine-to-physical map, for its tools
        assert not machine.hypervisor.is_special_page(mapping.mfn)
    # An L2 in the place of an L1 shows the hypervisor's entries in it: the m2p, which every guest may read.
    if owner == DOMID_XEN and not mapping.writable and not machine.hypervisor.is_special_page(mapping.mfn):
        allowed.add(DOMID_XEN)
    assert owner in allowed, f"{guest.domain} maps {frames.describe(mapping.mfn)}"


def check_door(machine: TwoDomains) -> None:
    """What the hypervisor remembers of the running guest's pages is what the tables say now."""
    hypervisor = machine.hypervisor
    assert hypervisor.loaded is not None
    root, memory = hypervisor.loaded.cr3, hypervisor.loaded.domain.memory
    for address in range(VIRT_BASE, VIRT_BASE + PAGES * PAGE_SIZE, PAGE_SIZE):
        found = walk(hypervisor.ram, COMPAT, root, address)
        reachable = found is not None and found.address < hypervisor.ram.size
        frame = found.address >> PAGE_SHIFT if found is not None and reachable else None
        assert memory.frame_of(address) == frame, f"{address:x} is remembered at another frame"
        try:
            memory.copy_to_guest(address, memory.copy_from_guest(address, 1))
            is_writable = True
        except GuestFault:
            is_writable = False
        may_be = found is not None and reachable and bool(found.rights & WRITABLE)
        assert is_writable == may_be, f"{address:x} is remembered with other rights"
