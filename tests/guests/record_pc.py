"""Records what guests that know no Xen print on a PC: python tests/guests/record_pc.py QEMU [OPTION]...

QEMU is qemu-system-x86_64 or a script that calls it; the options go before ours (-L for the firmware, say).
The guests run on its PC without any hypervisor. What comes over the serial line is written beside the
examples and beside the guests of tests/guests/hvm, where the tests read it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from guestkit import assemble_file

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
HVM = ROOT / "tests/guests/hvm"
SECONDS = 60
PC = (
    *("-M", "pc", "-accel", "tcg", "-cpu", "max", "-m", "64", "-display", "none", "-vga", "none"),
    *("-nic", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
)

#: Source, target (None: the source says it), where the output goes.
GUESTS = (
    (EXAMPLES / "unmodified.gk", None, EXAMPLES / "expected/unmodified.txt"),
    (EXAMPLES / "unmodified64.gk", None, EXAMPLES / "expected/unmodified64.txt"),
    (HVM / "library.gk", "hvm32", HVM / "library-hvm32.txt"),
    (HVM / "library.gk", "hvm64", HVM / "library-hvm64.txt"),
)


def output_of(command: list[str], source: Path, target: str | None) -> bytes:
    """What a guest prints until the PC is off."""
    with tempfile.NamedTemporaryFile(suffix=".elf") as kernel:
        kernel.write(assemble_file(source, target=target).elf)
        kernel.flush()
        run = subprocess.run(
            [*command, *PC, "-kernel", kernel.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=SECONDS,
            check=True,
        )
    return run.stdout


def main(command: list[str]) -> None:
    """Record all of them."""
    for source, target, output in GUESTS:
        print(output.name, file=sys.stderr)
        output.write_bytes(output_of(command, source, target))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
