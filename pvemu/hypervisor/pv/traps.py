"""What each exit of a PV guest means, and the guest's trap table.

Exits come from the processor with EIP on the instruction for faults and past it for software
interrupts. Every handler here leaves the guest's next state in the state window.
"""

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pvemu.abi.arch_x86 import FLAT_RING3_CS, FLAT_RING3_SS, TI_DPL_MASK, TI_IF
from pvemu.cpu import exits, flags, layout
from pvemu.cpu.processor import EXIT_INFO_2
from pvemu.hypervisor.address_space import GDT_VIRTUAL, LDT_VIRTUAL
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hypercall import Entry, hypercall
from pvemu.hypervisor.pv.emul_gate_op import emulate_gate_op
from pvemu.hypervisor.pv.emul_inv_op import invalid_op, refuse_instruction
from pvemu.hypervisor.pv.emul_priv_op import (
    emulate_privileged_op,
    fetch,
    read_tsc,
    step_over,
)
from pvemu.hypervisor.pv.inject import (
    inject_exception,
    inject_interrupt,
    inject_page_fault,
    inject_single_step,
    kernel_mode,
)
from pvemu.hypervisor.pv.ldt import fault_in
from pvemu.hypervisor.pv.ro_page_fault import make_emulate_store
from pvemu.hypervisor.vcpu import NO_HANDLER, TRAP_VECTORS, TrapHandler, Vcpu
from pvemu.memory.page_tables import FAULT_PRESENT, FAULT_WRITE

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor

HYPERCALL_VECTOR: Final = 0x82
LINUX_SYSCALL_VECTOR: Final = 0x80

_EIP, _EIP32 = layout.EIP // 8, layout.EIP // 4
_ERROR_CODE = layout.ERROR_CODE // 4
_IDT: Final = 2  #: bit of a selector error code: it names a vector
_SELECTOR_BITS: Final = 0xFFF8
_LENGTH_OF_INT_N: Final = 2
_LENGTH_OF_SYSCALL: Final = 2
_CS_SELECTOR = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE + layout.SELECTOR) // 4
_SS_SELECTOR = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE + layout.SELECTOR) // 4
_WRITE_PROTECTED: Final = FAULT_PRESENT | FAULT_WRITE
_ICEBP: Final = "int1"
_TRAP_INFO: Final = struct.Struct("<BBHI")
#: Cycles of virtual time that one entry of a trap table takes.
_ENTRY_COST: Final = 1000

_Handle = Callable[[Vcpu], None]
_Exit = Callable[[], None]


def guest_selector(selector: int) -> int:
    """A selector with its RPL raised to the guest kernel's (Xen: fixup_guest_selector)."""
    selector &= 0xFFFF
    return selector if selector & 3 else selector | 1


class PvTraps:
    """The exits of PV guests; `install` puts them into a table for the processor."""

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor
        self._cpu = hypervisor.cpu
        self._u64, self._u32 = hypervisor.cpu.window.u64, hypervisor.cpu.window.u32
        #: Exceptions that need more than to be passed on.
        self._special = {
            exits.DB: inject_single_step,
            exits.UD: self._invalid_op,
            exits.NM: self._device_not_available,
            exits.GP: self._general_protection,
            exits.PF: self._page_fault_handler(),
        }

    def install(self, table: list[_Exit], hypercalls: Mapping[int, Entry]) -> None:
        """Fill in the handlers of every exit that a PV guest can cause."""
        for vector in range(32):
            handle = self._special.get(vector) or self._pass_on(vector)
            table[exits.EXCEPTION + vector] = self._returning(handle)
        for vector in range(TRAP_VECTORS):
            table[vector] = self._returning(self._software_interrupt(vector))
        table[exits.BP] = self._returning(self._trap(exits.BP))
        table[exits.OF] = self._returning(self._trap(exits.OF))
        table[LINUX_SYSCALL_VECTOR] = self._returning(self._int80)
        table[HYPERCALL_VECTOR] = self._hypervisor.hypercall_handler(hypercalls)
        table[exits.RDTSC] = self._returning(self._read_tsc)
        table[exits.RDPMC] = self._returning(refuse_instruction)
        # The processor says it is AMD's, on which SYSENTER does not work in compatibility mode.
        table[exits.SYSENTER] = self._returning(lambda vcpu: inject_exception(vcpu, exits.GP, 0))
        table[exits.SYSCALL] = self._returning(self._syscall)

    def refuse_hypercall(self, vcpu: Vcpu) -> None:
        """`int 0x82` outside ring 1: the gate's DPL refuses it like any other software interrupt."""
        self._software_interrupt_of(vcpu, HYPERCALL_VECTOR)

    def _returning(self, handle: _Handle) -> _Exit:
        hypervisor, u16 = self._hypervisor, self._hypervisor.ram.u16
        cycles_left = hypervisor.clock.left

        def on_exit() -> None:
            vcpu = hypervisor.current
            handle(vcpu)
            if 0 < u16[vcpu.info16] < 0x100:
                hypervisor.test_events(vcpu)
            # A handler where there is no code is a fault again, and none runs at which the clock would look.
            if cycles_left[0] < 0:
                hypervisor.reschedule()

        return on_exit

    def _pass_on(self, vector: int) -> _Handle:
        return lambda vcpu: inject_exception(vcpu, vector, self._u32[_ERROR_CODE])

    def _trap(self, vector: int) -> _Handle:
        return lambda vcpu: inject_exception(vcpu, vector)

    def _software_interrupt(self, vector: int) -> _Handle:
        return lambda vcpu: self._software_interrupt_of(vcpu, vector)

    def _software_interrupt_of(self, vcpu: Vcpu, vector: int, resume_flag: int = flags.RF) -> None:
        """`int n`: Xen's own gates have DPL 0, so the processor makes it a #GP fault, with RF set."""
        if vcpu.traps[vector].dpl >= (1 if kernel_mode(vcpu) else 3):
            inject_interrupt(vcpu, vector, resume_flag=resume_flag)
        else:
            self._u64[_EIP] = (self._u64[_EIP] - _LENGTH_OF_INT_N) & 0xFFFFFFFF
            inject_exception(vcpu, exits.GP, vector << 3 | _IDT, resume_flag=resume_flag)

    def _int80(self, vcpu: Vcpu) -> None:
        """`int 0x80` has a gate of DPL 3 in Xen: it goes straight to the guest, whose DPL does not count."""
        if vcpu.traps[LINUX_SYSCALL_VECTOR].selector & ~3:
            inject_interrupt(vcpu, LINUX_SYSCALL_VECTOR)
        else:
            self._software_interrupt_of(vcpu, LINUX_SYSCALL_VECTOR, resume_flag=0)

    def _invalid_op(self, vcpu: Vcpu) -> None:
        instruction = fetch(vcpu)
        if instruction is not None and instruction.mnemonic == _ICEBP:  # an opcode that the engine lacks
            step_over(vcpu, instruction.length)
            inject_exception(vcpu, exits.DB)
        else:
            invalid_op(vcpu)

    def _device_not_available(self, vcpu: Vcpu) -> None:
        """The guest's own TS is cleared with the exception it asked for, as Xen does."""
        asked = vcpu.task_switched
        vcpu.task_switched = False
        self._cpu.set_task_switched(False)
        if asked:
            inject_exception(vcpu, exits.NM)

    def _general_protection(self, vcpu: Vcpu) -> None:
        error_code = self._u32[_ERROR_CODE]
        if error_code:
            emulate_gate_op(vcpu, error_code)
        elif not emulate_privileged_op(vcpu):
            refuse_instruction(vcpu)

    def _page_fault_handler(self) -> _Handle:
        """Page faults are the most frequent of exceptions, so this one is a closure."""
        u32, control_block = self._u32, self._cpu.control_block
        emulate_store = make_emulate_store(self._hypervisor)

        def page_fault(vcpu: Vcpu) -> None:
            address, error_code = control_block[EXIT_INFO_2], u32[_ERROR_CODE]
            if address >= GDT_VIRTUAL:
                self._descriptor_fault(vcpu, address)
            elif error_code & _WRITE_PROTECTED != _WRITE_PROTECTED or not emulate_store(
                vcpu, address, error_code
            ):
                inject_page_fault(vcpu, error_code, address)

        return page_fault

    def _descriptor_fault(self, vcpu: Vcpu, address: int) -> None:
        """A selector named a descriptor in a page that is not mapped: one of the LDT is faulted in."""
        if address < LDT_VIRTUAL:
            inject_exception(vcpu, exits.GP, address - GDT_VIRTUAL & _SELECTOR_BITS)
        elif not fault_in(vcpu, address - LDT_VIRTUAL):
            inject_page_fault(vcpu, self._u32[_ERROR_CODE], vcpu.ldt_base + address - LDT_VIRTUAL)

    def _read_tsc(self, vcpu: Vcpu) -> None:
        if not read_tsc(vcpu):
            refuse_instruction(vcpu)

    def _syscall(self, vcpu: Vcpu) -> None:
        """SYSCALL: to the guest's callback, else #GP with RF clear (golden: fast_calls).

        Xen takes whoever executes it for a program in ring 3, and shows the flat selectors of one.
        """
        self._u32[_CS_SELECTOR], self._u32[_SS_SELECTOR] = FLAT_RING3_CS, FLAT_RING3_SS
        callback = vcpu.syscall32_callback
        if callback.selector & ~3:
            self._u64[_EIP] = (self._u64[_EIP] + _LENGTH_OF_SYSCALL) & 0xFFFFFFFF
            self._hypervisor.bounce(vcpu, callback.selector, callback.address, callback.masks_events)
        else:
            inject_exception(vcpu, exits.GP, 0, resume_flag=0)


@hypercall("set_trap_table")
def set_trap_table(vcpu: Vcpu, traps: int) -> int:
    """Take the guest's trap table: entries up to one whose address is 0; a null pointer clears all."""
    if traps == 0:
        vcpu.traps = [NO_HANDLER] * TRAP_VECTORS
        return 0
    hypervisor = vcpu.domain.hypervisor
    while True:
        if hypervisor.hypercall_preempt_check(vcpu):
            raise Continuation(traps)
        hypervisor.charge(_ENTRY_COST)
        raw = vcpu.domain.memory.copy_from_guest(traps, _TRAP_INFO.size)
        vector, trap_flags, selector, address = _TRAP_INFO.unpack(raw)
        if address == 0:
            return 0
        vcpu.traps[vector] = TrapHandler(
            guest_selector(selector), address, trap_flags & TI_DPL_MASK, bool(trap_flags & TI_IF)
        )
        traps += _TRAP_INFO.size
