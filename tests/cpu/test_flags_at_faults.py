"""The flags that an exit shows are those of the instruction before, whatever the faulting one does."""

from collections.abc import Callable
from typing import Final

import pytest
from bare_guest import ABSENT, READ_ONLY, BareGuest

from pvemu.cpu import exits, flags

MakeGuest = Callable[..., BareGuest]
STATUS: Final = 0x8D5

#: Instructions after each of which the engine knows the flags in another form.
BEFORE: Final = (
    *("cmp eax, ebx", "add eax, ebx", "adc eax, ebx", "sbb eax, ebx", "inc eax", "dec ebx", "neg eax"),
    *("and eax, ebx", "test eax, eax", "shl eax, 3", "shr ebx, 1", "sar ebx, 1", "rol ebx, 1", "rcl eax, 1"),
    *("imul eax, ebx", "mul ebx", "bt eax, 0", "bsf edx, eax", "xadd eax, ebx", "cmpxchg ebx, eax", "stc"),
    *("cmp al, bl", "add ax, bx", "sahf"),
)
FAULTING: Final = (
    *(f"mov [{ABSENT}], eax", f"adc [{ABSENT}], eax", f"inc dword [{READ_ONLY}]", f"cmp eax, [{ABSENT}]"),
    *(f"setb [{ABSENT}]", f"setz [{READ_ONLY}]", f"cmovl eax, [{ABSENT}]", f"shl dword [{READ_ONLY}], cl"),
    *(f"xadd [{READ_ONLY}], eax", f"cmpxchg [{READ_ONLY}], ebx", f"lock neg dword [{READ_ONLY}]"),
    *(f"push dword [{ABSENT}]", f"call [{ABSENT}]", "mov eax, cr0", "cli", "ud2"),
)


#: What the registers hold, and CF set, in front of the instruction whose flags are to be seen.
PREPARED: Final = "mov eax, 1\nmov ebx, 0xffffff83\nmov ecx, 3\nxor edx, edx\nstc"


def status_flags(guest: BareGuest, before: str, last: str) -> int:
    """The status flags at the exit that `last` causes."""
    guest.load(f"{PREPARED}\n{before}\n{last}\nint 0x82")
    guest.cpu.run()
    return flags.read_eflags(guest.cpu.window) & STATUS


@pytest.mark.parametrize("clock", ["block", "count"])
@pytest.mark.parametrize("faulting", FAULTING)
def test_a_fault_shows_the_flags_of_the_instruction_before(
    make_guest: MakeGuest, clock: str, faulting: str
) -> None:
    guest = make_guest(clock=clock)
    seen = {before: status_flags(guest, before, faulting) for before in BEFORE}
    assert seen == {before: status_flags(guest, before, "int 0x82") for before in BEFORE}


@pytest.mark.parametrize("clock", ["block", "count"])
@pytest.mark.parametrize("before", BEFORE)
def test_a_single_step_shows_the_flags_of_the_instruction_that_it_is_behind(
    make_guest: MakeGuest, clock: str, before: str
) -> None:
    guest = make_guest(clock=clock)
    step = f"pushf\nor dword [esp], {flags.TF}\npopf\n{before}"
    seen = status_flags(guest, step, "nop")
    assert guest.seen[-1].number == exits.EXCEPTION + exits.DB
    assert seen == status_flags(guest, before, "int 0x82")


@pytest.mark.parametrize("clock", ["block", "count"])
@pytest.mark.parametrize("before", BEFORE)
def test_the_interrupt_window_shows_the_flags_of_the_instruction_that_it_is_behind(
    make_guest: MakeGuest, clock: str, before: str
) -> None:
    guest = make_guest(clock=clock)
    expected = status_flags(guest, before, "int 0x82")
    guest.load(f"{PREPARED}\nsti\n{before}\nint 0x82")
    flags.write_eflags(guest.cpu.window, flags.IOPL)
    record = guest.cpu.exits[exits.INTERRUPT_WINDOW]

    def end() -> None:
        guest.cpu.forget_interrupt_window()
        record()

    guest.cpu.intercept([exits.INTERRUPT_WINDOW])
    guest.cpu.exits[exits.INTERRUPT_WINDOW] = end
    guest.cpu.await_interrupt_window()
    guest.cpu.run()
    assert guest.seen[-1].number == exits.INTERRUPT_WINDOW
    assert flags.read_eflags(guest.cpu.window) & STATUS == expected
