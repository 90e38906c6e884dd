"""Asks real Xen about every variant and writes its answers to the golden files; no test runs this.

    python tests/toolstack/record_variants.py RUN GOLDEN [VARIANT...]

RUN is the command `run` of the Xen-in-QEMU oracle: it boots an ELF file as domain 0 with 256 MiB on Xen
4.17.5, and prints its console. GOLDEN is the directory to write notes32-more.tsv and boot-layouts32.txt to.
With names of variants, only those are asked and the answers printed. gcc and GNU ld must be there.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.toolstack.kernel_variants import LAYOUTS, MODULE, VARIANTS, WITH_MODULE

PROBE = Path(__file__).with_name("probe32.c")
REFUSALS = (
    r"(ERROR: .*)",
    r"(ELF: .*(?:overflow|not an ELF).*)",
    r"(Mismatch between Xen and DOM0 kernel)",
    r"(Kernel does not support Dom0 operation)",
    r"(Dom0 expects too high a hypervisor start address)",
    r"(Domain 0 allocation is too small for kernel image)",
    r"(DOM0 image overlaps with Xen private area\.)",
    r"(Invalid HYPERCALL_PAGE field in ELF notes\.)",
    r"(Failed to load the kernel binary)",
    r"(Dom0 requires supervisor-mode execution)",
    r"(Could not construct domain 0)",
)
BOOT = """
import sys, types
from importlib.machinery import SourceFileLoader
run, kernel, *modules = sys.argv[1:]
oracle = types.ModuleType("oracle", "run - boots a kernel")
SourceFileLoader("oracle", run).exec_module(oracle)
plain = oracle.qemu_command
def with_modules(*given):
    *options, images = plain(*given)
    return [*options, ",".join([images, *modules])]
oracle.qemu_command = with_modules
sys.argv = ["run", "--raw", kernel]
sys.exit(oracle.main())
"""
NOTES_HEADER = """\
# What real Xen 4.17.5 (as dom0, 256 MiB) says to the kernels of tests/toolstack/kernel_variants.py.
# Recorded by tests/toolstack/record_variants.py; the kernel that was started is tests/toolstack/probe32.c.
variant\tverdict\tseen
"""
LAYOUTS_HEADER = """\
# What kernels of tests/toolstack/kernel_variants.py found at their start on real Xen 4.17.5 (dom0, 256 MiB):
# fields of start_info, and the page tables with pfns in place of mfns. Recorded as notes32-more.tsv was.
"""


def probe_code(entry: int, folder: Path) -> bytes:
    """The probe, linked to run at `entry`."""
    output, flat = folder / "probe.elf", folder / "probe.bin"
    options = "-m32 -Os -ffreestanding -nostdlib -static -fno-pic -fno-stack-protector -fcf-protection=none"
    subprocess.run(
        [
            *("gcc", *options.split(), "-fno-asynchronous-unwind-tables", "-mno-sse", "-mno-mmx", str(PROBE)),
            *(f"-Wl,-Ttext={entry:#x},-N,--build-id=none,--no-warn-rwx-segments", "-o", str(output)),
        ],
        check=True,
    )
    command = [
        "objcopy",
        "-O",
        "binary",
        "--set-section-flags",
        ".bss=alloc,load,contents",
        str(output),
        str(flat),
    ]
    subprocess.run(command, check=True)
    return flat.read_bytes()


def ask(run: Path, name: str) -> str:
    """Everything on the serial line of a machine that boots this variant."""
    variant = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        code = probe_code(variant(b"").entry, Path(folder))
        kernel, module = Path(folder) / "kernel.elf", Path(folder) / "module"
        kernel.write_bytes(variant(code).build())
        module.write_bytes(MODULE)
        modules = [str(module)] if name in WITH_MODULE else []
        command = [sys.executable, "-c", BOOT, str(run), str(kernel), *modules]
        done = subprocess.run(command, capture_output=True, timeout=120)
    return (done.stdout + done.stderr).decode("latin-1").replace("\r", "")


def verdict(line: str) -> tuple[str, str]:
    """(verdict, seen) out of the serial line."""
    if seen := re.search(r"^SEEN (start_info [0-9a-f]{8}, esp [0-9a-f]{8})$", line, re.MULTILINE):
        return "boots", seen[1]
    for pattern in REFUSALS:
        if refusal := re.search(pattern, line):
            return "refused", refusal[1].strip()
    if panic := re.search(r"Panic on CPU 0:\n\(XEN\) (.*)", line):
        return "panics", panic[1]
    return "other", line.strip().splitlines()[-1]


def layout(line: str) -> str:
    """The lines of the probe after SEEN, up to DONE."""
    return line.partition("SEEN ")[2].partition("\n")[2].partition("DONE")[0]


def main() -> None:
    """Asks about the named variants, or records all."""
    run, golden, *names = sys.argv[1:]
    rows, layouts = [], []
    for name in names or VARIANTS:
        line = ask(Path(run), name)
        rows.append("\t".join([name, *verdict(line)]))
        print(rows[-1], flush=True)
        if name in LAYOUTS:
            layouts.append(f"[{name}]\n{layout(line)}")
            print(layouts[-1] if names else "", flush=True)
        if "\tother\t" in rows[-1]:
            print(*line.strip().splitlines()[-8:], sep="\n", flush=True)
    if not names:
        Path(golden, "notes32-more.tsv").write_text(NOTES_HEADER + "\n".join(rows) + "\n")
        Path(golden, "boot-layouts32.txt").write_text(LAYOUTS_HEADER + "".join(layouts))


if __name__ == "__main__":
    main()
