"""What each exit of an HVM guest means, and what is looked at on the way back into it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.cpu import exits, layout
from pvemu.cpu.processor import EXIT_INFO_2
from pvemu.hypervisor.emulate import Emulator, InstructionFault
from pvemu.hypervisor.hvm.event import Event
from pvemu.hypervisor.hvm.event_delivery import deliver
from pvemu.hypervisor.hvm.instruction_fetch import fetch, operand_address, retire
from pvemu.hypervisor.hvm.instructions import HANDLERS, raise_exception
from pvemu.hypervisor.hvm.mmio import InstructionEmulation
from pvemu.hypervisor.hvm.paging import SHADOW_EXITS
from pvemu.hypervisor.hvm.pending import test_interrupts
from pvemu.hypervisor.hvm.vmcall import make_hypercall
from pvemu.memory.ram import PAGE_SHIFT

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.vcpu import Vcpu

_ERROR_CODE: Final = layout.ERROR_CODE // 4
_LINEAR: Final = 0xFFFFFFFF
#: Registers whose reads and writes exit only under shadow paging.
_SHADOW_ONLY: Final = frozenset(SHADOW_EXITS)

_Handle = Callable[["Vcpu"], None]


class HvmTraps:
    """The exits of HVM guests.

    Attributes:
        emulation: of instructions that can't be left to the processor.
        table: a handler for each exit number, for `Processor.use_exits`.
    """

    def __init__(self, hypervisor: "Hypervisor") -> None:
        self._hypervisor = hypervisor
        self.emulation = InstructionEmulation(Emulator(hypervisor.cpu.window))
        self._handlers: dict[int, _Handle] = {
            **HANDLERS,
            exits.EXCEPTION + exits.PF: self._page_fault,
            exits.NESTED_PAGE_FAULT: self._nested_page_fault,
            exits.INVLPG: self._invalidate_page,
            exits.VMMCALL: make_hypercall,
            exits.SHUTDOWN: lambda vcpu: vcpu.hvm.triple_fault(),
        }
        self.table: list[Callable[[], None]] = list(hypervisor.cpu.exits)
        for number, handle in self._handlers.items():
            self.table[number] = self._returning(handle)

    def wanted_exits(self, *, shadow: bool) -> frozenset[int]:
        """The exits to ask for: those that have a handler."""
        wanted = frozenset(self._handlers)
        return wanted if shadow else wanted - _SHADOW_ONLY

    def _returning(self, handle: _Handle) -> Callable[[], None]:
        hypervisor, cycles_left = self._hypervisor, self._hypervisor.clock.left

        def on_exit() -> None:
            vcpu = hypervisor.current
            hvm = vcpu.hvm
            if hvm.attention:
                vcpu.domain.hvm.upcalls.left_guest()
            handle(vcpu)
            if hvm.attention:
                test_interrupts(vcpu)
            # The clock looks at its deadline when code runs; a guest may go from exit to exit without any.
            if cycles_left[0] < 0:
                hypervisor.reschedule()

        return on_exit

    def _page_fault(self, vcpu: "Vcpu") -> None:
        cpu = self._hypervisor.cpu
        address, error_code = cpu.control_block[EXIT_INFO_2], cpu.window.u32[_ERROR_CODE]
        if not vcpu.hvm.is_long:
            # Linear addresses have 32 bits; the engine forgets that when it adds the base of CS and EIP.
            address &= _LINEAR
        if not vcpu.domain.hvm.paging.page_fault(vcpu, address, error_code):
            deliver(vcpu, Event(exits.PF, error_code=error_code, address=address))

    def _nested_page_fault(self, vcpu: "Vcpu") -> None:
        """An address that is no memory, or not to be written; or that has become memory since."""
        if vcpu.domain.hvm.paging.nested_page_fault(vcpu):
            return
        cpu = self._hypervisor.cpu
        gfn = cpu.control_block[EXIT_INFO_2] >> PAGE_SHIFT
        if self._hypervisor.tlb_is_stale and vcpu.domain.p2m.is_writable(gfn):
            self._hypervisor.flush_stale_tlb()
        else:
            self.emulation.access_device(vcpu)

    def _invalidate_page(self, vcpu: "Vcpu") -> None:
        window = self._hypervisor.cpu.window
        instruction = fetch(vcpu)
        if instruction is None:
            raise_exception(vcpu, exits.UD)
            return
        try:
            address = operand_address(window, instruction, instruction.operands[0], 1)
        except InstructionFault:
            pass  # beyond its segment there is nothing to forget, and no fault either
        else:
            vcpu.domain.hvm.paging.invalidate(vcpu, address)
        retire(vcpu, instruction.length)
