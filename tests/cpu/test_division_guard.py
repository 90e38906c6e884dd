"""The one division that the engine leaves to the host never ends the process; other signals are let be."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from bare_guest import CODE, BareGuest

from pvemu.cpu import exits
from pvemu.cpu.binding import Engine

_LEAST = """
        mov edx, 0x80000000
        xor eax, eax
        mov ecx, 0xffffffff
        idiv ecx
"""
_DIVISION_AT = CODE + 5 + 2 + 5
_DE = exits.EXCEPTION + exits.DE


def ends(guest: BareGuest, source: str, ring: int = 1) -> list[tuple[int, int]]:
    guest.seen.clear()
    guest.load(source, ring)
    guest.cpu.run()
    return [(seen.number, seen.eip) for seen in guest.seen]


@pytest.mark.parametrize("ring", [1, 3])
def test_the_least_number_divided_by_minus_one_is_the_guests_divide_error(
    machine_options: dict[str, str], ring: int
) -> None:
    with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
        assert ends(guest, _LEAST, ring) == [(_DE, _DIVISION_AT)]
        registers = guest.registers
        assert (registers["eax"], registers["edx"]) == (0, 0x80000000)


def test_the_guest_divides_as_before_afterwards(machine_options: dict[str, str]) -> None:
    with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
        for _ in range(3):
            assert ends(guest, _LEAST) == [(_DE, _DIVISION_AT)]
            ends(guest, "mov edx, -1\nmov eax, -7\nmov ecx, 2\nidiv ecx\nint 0x82")
            assert (guest.registers["eax"], guest.registers["edx"]) == (0xFFFFFFFD, 0xFFFFFFFF)


def test_every_thread_is_guarded(machine_options: dict[str, str]) -> None:
    def run(_number: int) -> list[tuple[int, int]]:
        with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
            return [place for _ in range(20) for place in ends(guest, _LEAST)]

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(run, range(8)))
    assert {place for result in results for place in result} == {(_DE, _DIVISION_AT)}


def test_this_computer_has_the_guard() -> None:
    engine = Engine()
    assert engine.divides_safely
    engine.close()


@pytest.mark.parametrize("before", ["", "import faulthandler; faulthandler.enable(); "])
def test_a_signal_of_anothers_division_still_ends_the_process(before: str) -> None:
    script = "import os, signal; from pvemu.cpu.binding import Engine; Engine().close(); "
    script += "os.kill(os.getpid(), signal.SIGFPE); import time; time.sleep(5)"
    ended = subprocess.run([sys.executable, "-c", before + script], capture_output=True, check=False)
    assert ended.returncode < 0
    assert (b"Fatal Python error: Floating" in ended.stderr) == bool(before)
