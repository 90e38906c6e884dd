"""What has to hold after every step, whoever asked for what; each raises AssertionError when it does not."""

from typing import Final

from pvemu.abi.event_channel import EVTCHN_2L_NR_CHANNELS
from pvemu.abi.grant_table import GNTMAP_host_map, GNTMAP_readonly
from pvemu.abi.xen import DOMID_IO, DOMID_XEN, shared_info, vcpu_info
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.core import Hypervisor
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.event_2l import TwoLevel
from pvemu.hypervisor.event_ports import State
from pvemu.memory.frames import NO_OWNER
from pvemu.memory.page_tables import PRESENT, WRITABLE, entry_frame
from pvemu.memory.ram import PAGE_SIZE
from pvemu.testing.puppet import Puppet
from pvemu.testing.secrets import SECRET_PAGE, SECRET_SIZE, secret_of
from pvemu.toolstack.machine import Machine

_WORD: Final = 4
_LEVELS: Final = 32
#: evtchn_upcall_mask, in a word that has evtchn_upcall_pending below it.
_MASKED: Final = 0x100
_SELECTOR: Final = vcpu_info.offset("evtchn_pending_sel", _WORD)
_PENDING: Final = shared_info.offset("evtchn_pending", _WORD)
_MASK: Final = shared_info.offset("evtchn_mask", _WORD)
_WORDS: Final = EVTCHN_2L_NR_CHANNELS.of(_WORD) // _LEVELS


class Invariants:
    """The invariants of one machine, all at once by `check`, or each by itself.

    What the hypervisor keeps for itself (the low part of the machine-to-physical map, its GDT) is
    compared with what it was when this was made.

    Args:
        puppets: the domains of a stage, whose secrets are looked for elsewhere.
        remembers: whether what is said of a frame tells what it was at earlier checks.
    """

    def __init__(
        self, machine: Machine, puppets: "list[Puppet] | None" = None, *, remembers: bool = True
    ) -> None:
        self._machine, self._puppets = machine, puppets or []
        self._auditor = Auditor(machine.hypervisor, remembers=remembers)
        self._own = self._hypervisors_memory()

    @property
    def hypervisor(self) -> Hypervisor:
        """The machine's."""
        return self._machine.hypervisor

    def check(self) -> None:
        """Check all of them."""
        self.counts_are_exact()
        self.nobody_maps_what_was_not_granted()
        self.no_event_is_lost()
        self.secrets_are_kept()
        self.the_hypervisors_memory_is_untouched()
        self.xenstore_is_consistent()

    def counts_are_exact(self) -> None:
        """Every reference and type count is what really refers to the frame (hypervisor/audit.py)."""
        self._auditor.audit()

    def nobody_maps_what_was_not_granted(self) -> None:
        """Every L1 in use leads to frames of its owner, to grants that it has mapped, or to the m2p."""
        frames, ram = self.hypervisor.frames, self.hypervisor.ram
        granted = {domid: _granted_to(domain) for domid, domain in self.hypervisor.domains.items()}
        for table, owner in frames.l1_owner.items():
            domain = self.hypervisor.domains.get(owner)
            if domain is None:
                continue
            for entry in ram.u64[table << 9 : (table + 1) << 9].tolist():
                if entry & PRESENT:
                    self._check_entry(domain, entry, granted[owner])

    def _check_entry(self, domain: Domain, entry: int, granted: set[tuple[int, bool]]) -> None:
        mfn, frames = entry_frame(entry), self.hypervisor.frames
        writable = bool(entry & WRITABLE)
        if mfn >= frames.number or frames.owner[mfn] == DOMID_IO:
            assert domain.privileged, f"{domain} maps {mfn:x}, which is no memory"
            return
        owner = frames.owner[mfn]
        if owner == domain.domid or (mfn, writable) in granted:
            return
        is_m2p = owner == DOMID_XEN and not self.hypervisor.is_special_page(mfn)
        assert is_m2p and not writable, (
            f"{domain} maps a frame that is not its and was not granted to it "
            f"{'to write' if writable else 'to read'}: {frames.describe(mfn)}"
        )

    def no_event_is_lost(self) -> None:
        """A port that is pending and not masked is selected, and its vCPU has an upcall pending.

        And no vCPU sleeps that is to be called up. Of domains with events in two levels whose vcpu_info is
        where it was at first, and that have written there themselves only to take note of events. A guest
        that was stopped within its own handler, which clears one thing after the other, is left alone.
        """
        puppets = {puppet.domid: puppet for puppet in self._puppets}
        for domain in self.hypervisor.domains.values():
            if domain.vcpus and isinstance(domain.events, TwoLevel) and not domain.is_hvm:
                puppet = puppets.get(domain.domid)
                if puppet is None or not (puppet.may_forge_events or puppet.is_taking_events):
                    self._check_events(domain)
                    self._check_that_nobody_oversleeps(domain)

    def _check_events(self, domain: Domain) -> None:
        u8, u32 = self.hypervisor.ram.u8, self.hypervisor.ram.u32
        first = domain.shared_info >> 2
        for index in range(_WORDS):
            raised = u32[first + (_PENDING >> 2) + index] & ~u32[first + (_MASK >> 2) + index]
            while raised:
                port = index * _LEVELS + raised.bit_length() - 1
                raised &= ~(1 << port % _LEVELS)
                if port >= len(domain.channels) or domain.channels[port].state is State.FREE:
                    continue
                vcpu = domain.vcpus[domain.channels[port].vcpu]
                if vcpu.info_frame is not None:
                    continue
                assert u32[vcpu.info + _SELECTOR >> 2] >> index & 1, f"{domain}: port {port} is not selected"
                assert u8[vcpu.info], f"{domain}: port {port} is pending, and no upcall is"

    def _check_that_nobody_oversleeps(self, domain: Domain) -> None:
        for vcpu in domain.vcpus:
            due = vcpu.info_frame is None and 0 < self.hypervisor.ram.u16[vcpu.info16] < _MASKED
            assert not (vcpu.blocked and due), f"{vcpu}: it sleeps, and an upcall is due"

    def secrets_are_kept(self) -> None:
        """No domain's secret page has changed, and nothing of it is in a frame of anybody else.

        A domain that is alone has nobody to keep it from, and may change it itself.
        """
        if len(self._puppets) < 2:
            return
        frames, ram = self.hypervisor.frames, self.hypervisor.ram
        places = {puppet.frame_of("page", SECRET_PAGE): puppet for puppet in self._puppets}
        for puppet in self._puppets:
            mfn = puppet.frame_of("page", SECRET_PAGE)
            if frames.owner[mfn] != puppet.domid or self.hypervisor.domains.get(puppet.domid) is None:
                continue
            secret = secret_of(puppet.number)
            assert bytes(ram.frame(mfn)) == secret * (PAGE_SIZE // SECRET_SIZE), (
                f"{puppet}'s secret was changed"
            )
            for other in self._readable_frames(puppet.domid) - places.keys():
                assert secret not in bytes(ram.frame(other)), (
                    f"{puppet}'s secret is in {frames.describe(other)}"
                )

    def _readable_frames(self, but: int) -> set[int]:
        """Frames that steps of other domains write into."""
        return {
            puppet.frame_of(kind, number)
            for puppet in self._puppets
            if puppet.domid != but
            for kind, numbers in (("page", range(12)), ("request", (0,)), ("list", (0,)))
            for number in numbers
            if self.hypervisor.frames.owner[puppet.frame_of(kind, number)] not in (but, NO_OWNER)
        }

    def the_hypervisors_memory_is_untouched(self) -> None:
        """What belongs to nobody but the hypervisor is as it was."""
        assert self._hypervisors_memory() == self._own, "the hypervisor's own memory was changed by a guest"

    def _hypervisors_memory(self) -> tuple[bytes, ...]:
        hypervisor = self.hypervisor
        # Of the m2p the entries for low memory and for itself: they never change.
        m2p = bytes(hypervisor.ram.frame(hypervisor.m2p.first)[: 4 * hypervisor.heap.first])
        return m2p, *(
            bytes(hypervisor.ram.frame(mfn)) for mfn in (hypervisor.gdt_frame, hypervisor.zero_frame)
        )

    def xenstore_is_consistent(self) -> None:
        """Every node is listed by its parent, once, and the counts of owners are right."""
        services = self._machine.services
        wrong = [] if services is None else services.xenstore.audit()
        assert not wrong, "; ".join(wrong)


def _granted_to(domain: Domain) -> set[tuple[int, bool]]:
    """Frames that a domain has mapped by grants, and whether it may write."""
    found = set[tuple[int, bool]]()
    for granter, mapping in domain.grant_table.maptrack.in_use():
        if mapping.flags & GNTMAP_host_map and granter.domid in domain.hypervisor.domains:
            mfn = granter.grant_table.active[mapping.ref].mfn
            found.add((mfn, False))
            if not mapping.flags & GNTMAP_readonly:
                found.add((mfn, True))
    return found
