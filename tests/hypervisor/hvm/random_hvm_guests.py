"""HVM guests made of a seed. A program, run in a process of its own.

    python random_hvm_guests.py PAGING SEED COUNT WINDOW CLOCK

Prints a line for each seed before it runs, so that one that ends the process is known, and one with what
came of it. The exit status is 0 when every guest went on, shut down or was crashed with a reason.
"""

import sys
from pathlib import Path
from typing import Final

from random_code import Chance

from guestkit import Image, assemble_file
from pvemu import Machine
from pvemu.hypervisor.audit import Auditor
from pvemu.hypervisor.hvm.shadow_paging import ShadowPaging
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

GUEST: Final = Path(__file__).parents[2] / "guests/hvm/random_code.gk"
#: Virtual seconds that a guest may run.
LIMIT: Final = 0.005
MEMORY, MACHINE_MEMORY = 4, 32


def write_memory(machine: Machine, address: int, data: bytes) -> None:
    """Write guest-physical memory before the guest runs."""
    while data:
        offset = address & PAGE_MASK
        mfn = machine.domain.p2m.get(address >> PAGE_SHIFT)
        assert mfn is not None
        piece = data[: PAGE_SIZE - offset]
        machine.hypervisor.ram.frame(mfn)[offset : offset + len(piece)] = piece
        address, data = address + len(piece), data[len(piece) :]


def run_guest(paging: Paging, seed: int, image: Image, window: str, clock: str) -> str:
    """Run the guest of one seed; what came of it. Raises AssertionError where a promise was broken."""
    chance = Chance(seed, image.symbols)
    config = GuestConfig(image.elf, memory=MEMORY, paging=paging)
    with Machine([config], machine_memory=MACHINE_MEMORY, window=window, clock=clock) as machine:  # type: ignore[arg-type]
        write_memory(machine, image.symbols["records"], chance.records())
        write_memory(machine, image.symbols["spare_descriptors"], chance.descriptors())
        result = machine.run(LIMIT)
        Auditor(machine.hypervisor).audit()
        how = machine.domain.hvm.paging
        if isinstance(how, ShadowPaging):
            how.shadow.check()
        if result.outcome is Outcome.CRASH:
            assert machine.log_lines, "a domain was crashed without a reason"
        return result.outcome.value


def main(paging: str, seed: str, count: str, window: str, clock: str) -> None:
    """Run guests of consecutive seeds."""
    image = assemble_file(GUEST)
    for number in range(int(seed), int(seed) + int(count)):
        print(f"{paging} seed {number}:", end=" ", flush=True)
        print(run_guest(Paging(paging), number, image, window, clock), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
