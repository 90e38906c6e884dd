"""The guard before the engine's abort() knows whose engine has tripped, and lets other aborts be."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from bare_guest import CODE, BareGuest

from pvemu.cpu import exits

TRIPS = b"\x43\xf0\x0f\xb3\xc1"  # inc ebx ; lock btr ecx, eax
UD = exits.EXCEPTION + exits.UD


def trip(guest: BareGuest) -> list[tuple[int, int]]:
    guest.load("nop")
    guest.put(CODE, TRIPS)
    guest.enter(1)
    guest.cpu.run()
    return [(seen.number, seen.eip) for seen in guest.seen]


def test_each_thread_gets_its_own_engines_exit(machine_options: dict[str, str]) -> None:
    def run(_number: int) -> list[tuple[int, int]]:
        with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
            return [place for _ in range(20) for place in trip(guest)]

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(run, range(8)))
    assert {place for result in results for place in result} == {(UD, CODE + 1)}


def test_a_processor_that_runs_in_anothers_handler_trips_alone(machine_options: dict[str, str]) -> None:
    with BareGuest(**machine_options) as outer, BareGuest(**machine_options) as inner:  # type: ignore[arg-type]
        outer.cpu.exits[0x82] = lambda: (trip(inner), None)[1]
        outer.load("int 0x82\nnop")
        outer.put(CODE + 2, TRIPS)
        outer.cpu.run()
        assert [(seen.number, seen.eip) for seen in outer.seen] == [(UD, CODE + 3)]
        assert [(seen.number, seen.eip) for seen in inner.seen] == [(UD, CODE + 1)]


def test_an_abort_that_is_no_engines_still_ends_the_process() -> None:
    script = "import os, unicorn; from pvemu.cpu.binding import Engine; Engine().close(); os.abort()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode < 0
