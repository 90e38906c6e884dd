"""Records what a bare PC prints for the guests of this folder: QEMU, which emulates the processor.

    python tests/hypervisor/hvm/processor/record.py QEMU [NAME...]

QEMU is the program qemu-system-x86_64, or a command that starts it with what it needs to find its files. The
recordings were made by QEMU 10.0.2. The files in `recorded` are written anew, without NAMEs those that are
there. control_registers.gk has no recording: QEMU refuses nothing of what it tries.
"""

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from guestkit import assemble_file

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"
_MACHINE = (
    *("-M", "pc", "-m", "64", "-accel", "tcg", "-cpu", "EPYC", "-kernel"),
    *("{elf}", "-display", "none", "-nic", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio"),
)
_SECONDS = 30
#: What a guest needs besides: options of QEMU, and constants, for a computer that does other things, too.
_MORE_OPTIONS = {"processors": ("-smp", "2")}
_CONSTANTS = {"processors": {"WHILE": 40}}


def record(qemu: list[str], name: str) -> None:
    """Boot one guest, and keep what it prints on its serial port."""
    with tempfile.NamedTemporaryFile(suffix=".elf") as file:
        file.write(assemble_file(HERE / f"{name}.gk", defines=_CONSTANTS.get(name, {})).elf)
        file.flush()
        command = qemu + [word.format(elf=file.name) for word in _MACHINE]
        command.extend(_MORE_OPTIONS.get(name, ()))
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_SECONDS, check=True
        )
    (RECORDED / f"{name}.txt").write_bytes(done.stdout.replace(b"\r", b""))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for guest in sys.argv[2:] or sorted(path.stem for path in RECORDED.glob("*.txt")):
        record(shlex.split(sys.argv[1]), guest)
