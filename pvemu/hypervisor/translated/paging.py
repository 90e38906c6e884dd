"""Shadow paging of an auto-translated PV guest, whose page tables hold frame numbers of its own.

The guest writes its tables as it likes. The processor walks shadows of them, below the same fourth level that
every PV guest has.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.cpu import layout
from pvemu.cpu.decode import LONGEST
from pvemu.hypervisor.address_space import set_guest_root
from pvemu.hypervisor.emulate import Emulator, InstructionFault, Unemulated
from pvemu.hypervisor.pv.inject import inject_exception, inject_page_fault, inject_single_step
from pvemu.hypervisor.shadow.outcome import EmulateWrite, Fixed, GuestFault
from pvemu.hypervisor.shadow.paging import Shadow
from pvemu.hypervisor.translated.descriptors import DescriptorPages
from pvemu.hypervisor.translated.memory import InstructionMemory, LinearMemory, TranslatedMemory
from pvemu.memory.guest_walk import GuestPageFault
from pvemu.memory.p2m import P2m
from pvemu.memory.page_tables import FAULT_FETCH, FAULT_PRESENT, FAULT_USER, FAULT_WRITE
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

_EINVAL: Final = -int(Errno.EINVAL)
_ACCESS: Final = FAULT_WRITE | FAULT_USER | FAULT_FETCH
_HFLAGS: Final = layout.HFLAGS // 4
_LOW: Final = 0xFFFFFFFF


def make_translated(domain: "Domain") -> None:
    """Make a new PV domain, whose vCPUs have never run, an auto-translated one."""
    domain.p2m = P2m()
    domain.is_translated = True
    domain.translation = TranslatedPaging(domain)
    domain.memory = TranslatedMemory(domain)
    domain.exits, domain.hypercalls = domain.hypervisor.translated_tables


class TranslatedPaging:
    """What stands between the page tables of one auto-translated guest and the processor.

    Attributes:
        shadow: the tables that the processor walks.
        descriptors: the guest's GDTs and LDTs, as the processor is given them.
        memory: what the guest has at linear addresses.
    """

    def __init__(self, domain: "Domain") -> None:
        hypervisor = domain.hypervisor
        self._domain, self._hypervisor, self._p2m = domain, hypervisor, domain.p2m
        self._emulator = Emulator(hypervisor.cpu.window)
        self.memory = LinearMemory(domain)
        self.descriptors = DescriptorPages(domain)
        self.shadow = Shadow(
            hypervisor.ram,
            domain.p2m.get,
            self.is_writable,
            pool=domain.paging_pool,
            flush_tlb=hypervisor.cpu.flush_tlb,
        )
        domain.p2m.watchers.append(self._p2m_changed)

    # --- the base pointer ------------------------------------------------------------------------

    def new_base(self, vcpu: "Vcpu", gfn: int) -> int:
        """Make a frame of the guest's the root table of a vCPU, which need not be loaded; 0 or -EINVAL.

        What is in the frame does not matter: what makes no sense there maps nothing.
        """
        mfn = self._p2m.get(gfn)
        if mfn is None or self._hypervisor.frames.owner[mfn] != self._domain.domid:
            return _EINVAL
        self.descriptors.drop_ldt(vcpu)
        self._load_root(vcpu, gfn)
        return 0

    def flush(self, vcpu: "Vcpu") -> None:
        """Whatever the guest's tables say now is in force."""
        self._load_root(vcpu, vcpu.cr3)

    def invalidate(self, vcpu: "Vcpu", address: int) -> None:
        """What the guest's tables say of an address now is in force."""
        self.shadow.invalidate(address & _LOW, vcpu.id)

    def drop_vcpu(self, vcpu: "Vcpu") -> None:
        """A vCPU has no tables any more."""
        self.descriptors.drop_ldt(vcpu)
        self.shadow.drop_root(vcpu.id)
        self._hypervisor.ram.u64[vcpu.monitor << 9] = 0
        vcpu.cr3 = 0

    def _load_root(self, vcpu: "Vcpu", gfn: int) -> None:
        root = self.shadow.set_root(self.memory.mode, gfn << PAGE_SHIFT, vcpu.id)
        set_guest_root(self._hypervisor, vcpu, root)
        vcpu.cr3 = gfn
        self._hypervisor.flush_tlb()

    # --- memory ----------------------------------------------------------------------------------

    def is_writable(self, gfn: int) -> bool:
        """Whether the guest may write a frame without anybody noticing."""
        return self._p2m.is_writable(gfn) and gfn not in self.descriptors

    def rights_changed(self, gfn: int) -> None:
        """`is_writable` has another answer for a frame."""
        if self.shadow.is_table(gfn):
            self.shadow.p2m_changed(gfn)
            return
        mfn = self._p2m.get(gfn)
        if mfn is not None and gfn in self.descriptors:
            self.shadow.tables.write_protect(mfn)
            self._hypervisor.flush_tlb()

    def open_page(self, gfn: int, *, write: bool) -> int | None:
        """Machine address of a frame that the hypervisor is to use at once for the guest; None: it may not.

        What was made of the frame's contents, shadows or descriptors, is forgotten before it is written.
        """
        mfn = self._p2m.get(gfn)
        if mfn is None:
            return None
        if write:
            self.descriptors.give_up(gfn)
            if not self._p2m.is_writable(gfn):
                return None
            if self.shadow.is_table(gfn):
                self.shadow.unshadow(gfn)
            self.shadow.mark_dirty(gfn)
        return mfn << PAGE_SHIFT

    def store(self, address: int, data: bytes) -> bool:
        """Write bytes within a frame, by guest-physical address, as the guest would; False: it can't."""
        gfn = address >> PAGE_SHIFT
        mfn = self._p2m.get(gfn)
        self.descriptors.give_up(gfn)
        if mfn is None or not self._p2m.is_writable(gfn):
            return False
        self._hypervisor.before_write(mfn)
        at = mfn << PAGE_SHIFT | address & PAGE_MASK
        self._hypervisor.ram.u8[at : at + len(data)] = data
        self.shadow.guest_wrote(gfn, address & PAGE_MASK, len(data))
        return True

    def _p2m_changed(self, gfn: int) -> None:
        self.descriptors.give_up(gfn)
        self.shadow.p2m_changed(gfn)

    # --- page faults -----------------------------------------------------------------------------

    def page_fault(self, vcpu: "Vcpu", address: int, error_code: int) -> None:
        """Make the shadow allow the access, carry out the instruction, or give the guest its page fault."""
        outcome = self.shadow.page_fault(address, error_code, vcpu.id)
        if isinstance(outcome, Fixed):
            return
        if isinstance(outcome, GuestFault):
            inject_page_fault(vcpu, outcome.error_code, address)
        elif isinstance(outcome, EmulateWrite):
            self._emulate(vcpu, outcome.address >> PAGE_SHIFT)
        elif not self.descriptors.give_up(outcome.address >> PAGE_SHIFT):
            # No memory is there, or another's that may only be read.
            is_memory = self._p2m.get(outcome.address >> PAGE_SHIFT) is not None
            inject_page_fault(vcpu, error_code & _ACCESS | (FAULT_PRESENT if is_memory else 0), address)

    def _emulate(self, vcpu: "Vcpu", gfn: int) -> None:
        """Carry out the instruction at EIP, which writes a table; or let the guest do it unnoticed."""
        user = self._hypervisor.cpu.window.u32[_HFLAGS] & layout.HF_CPL == layout.HF_CPL
        memory = InstructionMemory(self.memory, FAULT_USER if user else 0)
        try:
            steps = self._emulator.step(memory, self._fetch(memory))
        except GuestPageFault as fault:
            inject_page_fault(vcpu, fault.error_code, fault.address)
        except InstructionFault as fault:
            inject_exception(vcpu, fault.vector, fault.error_code)
        except Unemulated:
            self.shadow.unsync(gfn)
        else:
            if steps:
                inject_single_step(vcpu)

    def _fetch(self, memory: InstructionMemory) -> bytes:
        address = self._emulator.instruction_address()
        inside = min(LONGEST, PAGE_SIZE - (address & PAGE_MASK))
        code = memory.fetch(address, inside)
        if inside < LONGEST:
            with suppress(GuestPageFault):
                code += memory.fetch(address + inside, LONGEST - inside)
        return code

    # --- the end ---------------------------------------------------------------------------------

    def release(self) -> None:
        """Give back all frames; no vCPU will run any more."""
        self._p2m.watchers.remove(self._p2m_changed)
        self.descriptors.release()
        self.shadow.destroy()
