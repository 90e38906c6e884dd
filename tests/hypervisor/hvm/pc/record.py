"""Ask a bare PC (QEMU's) what the reads of a transcript give, and write the answers into it.

Those here are of QEMU 10.0.2 with SeaBIOS.

record.py QEMU [QEMU-OPTION...] -- TRANSCRIPT...
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from transcript import WORDS, parse, parse_line

from guestkit import assemble_file

HERE = Path(__file__).parent
#: COM1 and COM2 are there with nobody at the other end; what the guest prints comes out of its debug port.
PC = "-M pc -accel tcg -m 64 -display none -vga none -nic none -monitor none -no-reboot -debugcon stdio"
PORTS = "-serial null -serial null -device isa-debug-exit,iobase=0xf4,iosize=1"


def answers(qemu: list[str], path: Path) -> list[str]:
    rows = [f"    dd {WORDS.index(each.word)}, {each.place}, {each.value}" for each in parse(path)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "list.gk").write_text("\n".join(rows) + "\n")
        kernel = Path(folder) / "ports.elf"
        kernel.write_bytes(assemble_file(HERE / "ports.gk", include_paths=[Path(folder)]).elf)
        command = [*qemu, *PC.split(), *PORTS.split(), "-kernel", str(kernel)]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60)
    return [line for line in run.stdout.decode().splitlines() if len(line) in (2, 4, 8)]


def record(qemu: list[str], path: Path) -> None:
    given = iter(answers(qemu, path))
    lines = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        access = parse_line(number, line)
        if access is not None and access.reads:
            value, digits = int(next(given), 16) & access.mask, 2 * access.size
            remark = line.partition("#")[2]
            mask = "" if access.mask == 0xFFFF_FFFF else f" & {access.mask:x}"
            line = f"{access.word} {access.place:x}{mask} = {value:0{digits}x}"
            if access.differing is not None:
                line += f" but {access.differing:0{digits}x}"
            line += f"  #{remark}" if remark else ""
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    end = sys.argv.index("--")
    for name in sys.argv[end + 1 :]:
        record(sys.argv[1:end], Path(name))
