"""The part of a vCPU that only HVM guests have: control registers as they see them, and a local APIC."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, flags, layout
from pvemu.cpu.mode import CR0_ET, CR0_PE, CR0_TS, EFER_LMA, EFER_SVME, derive_engine_flags
from pvemu.cpu.segments import Descriptor
from pvemu.hypervisor.hvm.linear_memory import LinearMemory
from pvemu.hypervisor.hvm.msr import INITIAL, TSC
from pvemu.hypervisor.hvm.segment_registers import write_segment
from pvemu.hypervisor.hvm.vcpu_context import HvmContext
from pvemu.hypervisor.hvm.vlapic import Vlapic

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_CR: Final = layout.CR // 8
_EFER, _EFLAGS = layout.EFER // 8, layout.EFLAGS // 8

#: Segments at the PVH entry (xen-doc, misc/pvh): flat, 32 bits, and a TSS of minimal length.
_FLAT_CODE: Final = Descriptor.from_int(0x00CF9B000000FFFF)
_FLAT_DATA: Final = Descriptor.from_int(0x00CF93000000FFFF)
_TASK: Final = Descriptor.from_int(0x00008B0000000067)
_DATA_SEGMENTS: Final = (layout.ES, layout.SS, layout.DS, layout.FS, layout.GS)
#: At reset, real mode: 64 KiB segments.
_REAL_CODE: Final = 0x00009B000000FFFF
_REAL_DATA: Final = 0x000093000000FFFF
#: All flags that a processor has.
_EFLAGS_KNOWN: Final = 0x3F7FD5


@dataclass(frozen=True)
class HvmEntry:
    """The registers with which an HVM vCPU begins.

    In protected mode without paging, all segments flat (PVH's entry); or, for a vCPU that was started by a
    message, in real mode at the beginning of a page.
    """

    eip: int = 0
    eax: int = 0
    ebx: int = 0
    start_page: int | None = None  #: 4 KiB page of a real-mode start


class HvmVcpu:
    """One vCPU of an HVM guest.

    Attributes:
        msrs: model-specific registers by number, but for those that have a place of their own.
        linear_memory: what the vCPU finds at linear addresses.
        vlapic: its local APIC.
        entry: its first registers, until it gets the processor.
        mode_changes: how often CR0, CR4 or EFER were written.
        attention: something may be pending for it.
        callback_vector: of event-channel upcalls, when the guest chose one for this vCPU; else 0.
    """

    vlapic: Vlapic
    msrs: dict[int, int]

    def __init__(self, vcpu: "Vcpu") -> None:
        self._vcpu = vcpu
        self._cpu = vcpu.domain.hypervisor.cpu
        self.linear_memory = LinearMemory(vcpu)
        self.entry: HvmEntry | HvmContext | None = None
        self.attention = False
        self.mode_changes = 0
        self.callback_vector = 0
        self._reset_registers()

    # --- control registers as the guest sees them -------------------------------------------------

    @property
    def cr0(self) -> int:
        """CR0. A task switch, which the processor carries out by itself, sets TS."""
        return self._cr0 | (self._cpu.window.u64[_CR] & CR0_TS if self._is_loaded else 0)

    @cr0.setter
    def cr0(self, value: int) -> None:
        self._cr0 = value
        self._tell_engine()

    @property
    def cr2(self) -> int:
        """CR2. The vCPU must be loaded."""
        return self._cpu.window.u64[_CR + 2]

    @cr2.setter
    def cr2(self, value: int) -> None:
        self._cpu.window.u64[_CR + 2] = value

    @property
    def cr3(self) -> int:
        """CR3."""
        domain = self._vcpu.domain
        if domain.hypervisor.loaded is self._vcpu and domain.hvm.paging.has_guest_cr3:
            return self._cpu.window.u64[_CR + 3]
        return self._cr3

    @cr3.setter
    def cr3(self, value: int) -> None:
        self._cr3 = value
        if self._is_loaded and self._vcpu.domain.hvm.paging.has_guest_cr3:
            self._cpu.window.u64[_CR + 3] = value

    @property
    def cr4(self) -> int:
        """CR4."""
        return self._cr4

    @cr4.setter
    def cr4(self, value: int) -> None:
        self._cr0, self._cr4 = self.cr0, value
        self._tell_engine()

    @property
    def efer(self) -> int:
        """EFER."""
        return self._efer

    @efer.setter
    def efer(self, value: int) -> None:
        self._cr0, self._efer = self.cr0, value
        self._tell_engine()

    @property
    def is_long(self) -> bool:
        """Whether the vCPU is in long mode (64-bit or compatibility)."""
        return bool(self._efer & EFER_LMA)

    def tsc_at(self, cycle: int) -> int:
        """What the guest's time-stamp counter shows at a cycle of the machine's."""
        return cycle + self.msrs.get(TSC, 0) & (1 << 64) - 1

    # --- on and off the processor -----------------------------------------------------------------

    def enter(self) -> None:
        """The vCPU's saved state, or a pristine one, was loaded: complete it."""
        hvm = self._vcpu.domain.hvm
        self._cpu.use_exits(hvm.exits)
        if self.entry is not None:
            # All begin with vCPU 0's time-stamp counter, as it stands (Xen: hvm_vcpu_reset_state).
            tsc_offset = self._vcpu.domain.vcpus[0].hvm.msrs.get(TSC, 0)
            self._reset_registers()
            self.msrs[TSC] = tsc_offset
            self._ask_for_exits()
            if isinstance(self.entry, HvmContext):
                self._load_context(self.entry)
            else:
                self._load_entry(self.entry)
            self.entry = None
        hvm.paging.enter(self._vcpu)
        self.attention = True

    def leave(self) -> None:
        """The vCPU's state is about to be saved: keep what only the processor knew."""
        self._cr0, self._cr3 = self.cr0, self.cr3
        self._cpu.forget_interrupt_window()
        self._cpu.forget_nmi_window()

    def triple_fault(self) -> None:
        """The processor has shut down: so does the domain."""
        self._vcpu.domain.hvm.triple_fault(self._vcpu)

    # --- inside -----------------------------------------------------------------------------------

    @property
    def _is_loaded(self) -> bool:
        return self._vcpu.domain.hypervisor.loaded is self._vcpu

    def _reset_registers(self) -> None:
        self._cr0, self._cr3, self._cr4, self._efer = CR0_ET, 0, 0, 0
        self.msrs = dict(INITIAL)

    def _tell_engine(self) -> None:
        self.mode_changes += 1
        if not self._is_loaded:
            return
        u64 = self._cpu.window.u64
        paging = self._vcpu.domain.hvm.paging
        cr0, cr4, efer = paging.engine_registers(self._cr0, self._cr4, self._efer)
        u64[_CR], u64[_CR + 4], u64[_EFER] = cr0, cr4, efer | EFER_SVME
        derive_engine_flags(self._cpu.window)

    def _load_entry(self, entry: HvmEntry) -> None:
        window = self._cpu.window
        u64 = window.u64
        for register in range(16):
            u64[register] = 0
        real = entry.start_page is not None
        self._cr0 = CR0_ET | (0 if real else CR0_PE)
        u64[_CR + 2] = u64[_CR + 3] = 0
        u64[layout.RAX], u64[layout.RBX] = entry.eax, entry.ebx
        u64[layout.EIP // 8] = 0 if real else entry.eip
        flags.write_eflags(window, flags.FIXED)
        self._load_segments(entry.start_page)
        self._tell_engine()

    def _load_context(self, context: HvmContext) -> None:
        window = self._cpu.window
        control = context.control
        if not control.is_sound:
            self._vcpu.domain.crash(f"{self._vcpu} can't be run: CR0 {control.cr0:#x}, CR4 {control.cr4:#x}")
            return
        self._cr0, self._cr3, self._cr4, self._efer = control
        self.msrs[TSC] = context.tsc_offset
        for register in range(16):
            window.u64[register] = context.general[register] if register < len(context.general) else 0
        window.u64[_CR + 2], window.u64[_CR + 3] = 0, control.cr3
        window.u64[layout.EIP // 8] = context.eip
        flags.write_eflags(window, context.eflags & _EFLAGS_KNOWN | flags.FIXED)
        for number, segment in context.segments.items():
            write_segment(window, number, segment)
        self._tell_engine()

    def _load_segments(self, start_page: int | None) -> None:
        cpu = self._cpu
        code, data = _FLAT_CODE, _FLAT_DATA
        selector = 0
        if start_page is not None:
            selector = start_page << 8
            base = start_page << 12
            code = Descriptor.from_int(_REAL_CODE | (base & 0xFFFFFF) << 16)
            data = Descriptor.from_int(_REAL_DATA)
        cpu.set_segment(layout.CS, code.cached(selector))
        for register in _DATA_SEGMENTS:
            cpu.set_segment(register, data.cached(0))
        cpu.set_segment(layout.TR, _TASK.cached(0))
        for register in (layout.GDTR, layout.IDTR):
            at = layout.SEGMENTS + register * layout.SEGMENT_SIZE
            cpu.window.u64[(at + layout.BASE) // 8] = 0
            cpu.window.u32[(at + layout.LIMIT) // 4] = 0 if start_page is None else 0xFFFF

    def _ask_for_exits(self) -> None:
        """Whatever has a handler is intercepted."""
        wanted = self._vcpu.domain.hvm.wanted_exits
        u8 = self._cpu.window.u8
        for base, offset in (
            (exits.READ_CR, layout.INTERCEPT_CR_READ),
            (exits.WRITE_CR, layout.INTERCEPT_CR_WRITE),
            (exits.READ_DR, layout.INTERCEPT_DR_READ),
            (exits.WRITE_DR, layout.INTERCEPT_DR_WRITE),
        ):
            mask = sum(1 << number - base for number in wanted if 0 <= number - base < 16)
            u8[offset : offset + 2] = mask.to_bytes(2, "little")
        self._cpu.intercept(number for number in wanted if number in exits.BY_BIT)
