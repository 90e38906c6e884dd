"""What bounds an exit: the same guests with handlers that do no more than let the guest go on.

Such a handler is what Python and the engine cost before the hypervisor has done anything: the exit itself, a
look at which it is, and one store. No row of `page_tables` can be below its floor; Xen's figure is beside it.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from benchmarks.promises import page_tables
from benchmarks.promises.cases import run_case, xen_nanoseconds
from benchmarks.promises.measuring import Benchmark
from pvemu import Machine
from pvemu.abi.arch_x86 import FLAT_RING1_CS
from pvemu.abi.hypercalls import BY_NAME
from pvemu.cpu import exits, flags, layout
from pvemu.hypervisor.pv.traps import HYPERCALL_VECTOR
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT

#: Puts another handler into a machine before its guest runs.
Prepare = Callable[[Machine], None]

_EIP, _ESP = layout.EIP // 8, layout.RSP
_PAGE_FAULT, _GENERAL_PROTECTION = exits.EXCEPTION + exits.PF, exits.EXCEPTION + exits.GP
_FRAME_BYTES: Final = 16


def _hypercall(name: str, *, flushes: bool = False) -> Prepare:
    """The hypercall of that name does nothing; others are carried out.

    Args:
        flushes: every second one flushes the TLB, as an entry does that is present and absent in turn.
    """
    number = BY_NAME[name].number

    def prepare(machine: Machine) -> None:
        cpu, table = machine.hypervisor.cpu, machine.domain.exits
        u32, u64, carry_out, flush = cpu.window.u32, cpu.window.u64, table[HYPERCALL_VECTOR], cpu.flush_tlb
        is_stale = False

        def handle() -> None:
            nonlocal is_stale
            if u32[0] != number:
                carry_out()
                return
            u64[0] = 0
            if flushes:
                is_stale = not is_stale
                if is_stale:
                    flush()

        table[HYPERCALL_VECTOR] = handle

    return prepare


def _step_over(exit_number: int, length: int) -> Prepare:
    """The instruction that exits so is not emulated, only left behind."""

    def prepare(machine: Machine) -> None:
        u64 = machine.hypervisor.cpu.window.u64

        def handle() -> None:
            u64[_EIP] += length

        machine.domain.exits[exit_number] = handle

    return prepare


def _bounce(machine: Machine) -> None:
    """A page fault enters the guest's handler with a frame of which nothing was worked out but EIP.

    The first one goes the whole way, and so shows where handler and stack are.
    """
    cpu, table, words = machine.hypervisor.cpu, machine.domain.exits, machine.hypervisor.ram.u32
    u32, u64, carry_out = cpu.window.u32, cpu.window.u64, table[_PAGE_FAULT]
    known: list[int] = []

    def handle() -> None:
        if not known:
            carry_out()
            frame = machine.domain.memory.frame_of(u32[2 * _ESP])
            assert frame is not None
            known.extend((u64[_EIP], frame << PAGE_SHIFT))
            return
        handler, page = known
        esp = u32[2 * _ESP] - _FRAME_BYTES
        at = (page | esp & PAGE_MASK) >> 2
        words[at], words[at + 1] = 0, u32[2 * _EIP]
        words[at + 2], words[at + 3] = FLAT_RING1_CS, flags.FIXED | flags.IF
        u64[_ESP], u64[_EIP] = esp, handler

    table[_PAGE_FAULT] = handle


#: By the letter of a case of memory.gk. The other cases have no floor of their own: their work is Python's.
_FLOORS: Final[dict[str, Prepare]] = {
    "m": _hypercall("mmu_update"),
    "u": _hypercall("update_va_mapping"),
    "v": _hypercall("update_va_mapping", flushes=True),
    "w": _step_over(_PAGE_FAULT, 2),
    "p": _bounce,
    "c": _step_over(_GENERAL_PROTECTION, 3),
}


def benchmarks() -> list[Benchmark]:
    """Each of those cases, beside its floor."""
    run = run_case("memory.gk")
    return [
        Benchmark(
            f"floor: {case.name}",
            "ns",
            ours=partial(run, command_line=case.letter),
            other=partial(run, command_line=case.letter, prepare=_FLOORS[case.letter]),
            other_name=f"floor (Xen {xen_nanoseconds(case):.0f})",
            scale=1e9 / case.operations,
        )
        for case in page_tables.CASES
        if case.letter in _FLOORS
    ]
