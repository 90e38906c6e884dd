"""One guest's code, run by pvemu as a domain and by a plain Unicorn engine of the binding."""

from collections.abc import Callable
from typing import Final

import unicorn
from unicorn import x86_const as x86

from benchmarks.promises.measuring import seconds_of
from guestkit import Image, assemble
from pvemu import Machine
from pvemu.abi.hypercalls import BY_NAME
from pvemu.toolstack.machine import Outcome

_HYPERCALL: Final = 0x82
_SCHED_OP: Final = BY_NAME["sched_op"].number
_MEMORY: Final = 16
_BASE: Final = 0xC0000000
#: Argument registers of a hypercall on x86_32.
_ARGUMENTS: Final = (
    x86.UC_X86_REG_EBX,
    x86.UC_X86_REG_ECX,
    x86.UC_X86_REG_EDX,
    x86.UC_X86_REG_ESI,
    x86.UC_X86_REG_EDI,
)

_END: Final = """
finish: mov eax, __HYPERVISOR_sched_op
        mov ebx, SCHEDOP_shutdown
        mov ecx, zero
        int 0x82
        jmp $
section .data
zero:   dd 0
        align 4096
data:   reserve 0x40000
        reserve 0x1000
stack:
"""


def program(body: str) -> Image:
    """A guest that runs `body` once and shuts down; `data` is 256 KiB that it may use.

    It brings its stack along. The engine's stores cost a sixth more in the 4 MiB around translated code than
    elsewhere, so two engines are only alike if all that the guest writes is at the same address in both.
    """
    return assemble(f'guest "benchmark"\nsection .text\nstart:\n        mov esp, stack\n{body}\n{_END}')


def run_on_pvemu(
    image: Image,
    *,
    memory: int = _MEMORY,
    privileged: bool = False,
    command_line: str = "",
    prepare: Callable[[Machine], None] = lambda machine: None,
) -> float:
    """Seconds that the guest runs as a domain, with so many MiB; `prepare` gets its machine before."""
    with Machine(image.elf, memory=memory, privileged=privileged, command_line=command_line) as machine:
        prepare(machine)

        def run() -> None:
            outcome = machine.run().outcome
            assert outcome is Outcome.POWEROFF, machine.log_lines

        return seconds_of(run)


def run_on_unicorn(image: Image) -> float:
    """Seconds that the same code runs on a plain engine; reg_read and reg_write answer its hypercalls."""
    engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    engine.mem_map(_BASE, _MEMORY << 20)
    for segment in image.segments:
        engine.mem_write(segment.address, segment.data)

    def on_interrupt(uc: unicorn.Uc, number: int, _data: object) -> None:
        assert number == _HYPERCALL
        if uc.reg_read(x86.UC_X86_REG_EAX) == _SCHED_OP:
            uc.emu_stop()
            return
        for register in _ARGUMENTS:
            uc.reg_read(register)
        uc.reg_write(x86.UC_X86_REG_EAX, 0x40011)

    engine.hook_add(unicorn.UC_HOOK_INTR, on_interrupt)
    return seconds_of(lambda: engine.emu_start(image.entry, 0))
