"""Records what real Xen prints for the examples and for the probes of this folder.

    python tests/guests/record.py RUN [NAME...]

RUN is a command that boots an ELF file on real Xen as domain 0, or with --domu as an unprivileged domain,
prints what the guest wrote to its console (with --raw also Xen's own log), and leaves with 0 after a poweroff
and 3 after a crash. Both kinds of domain must print the same, unless the guest is for domain 0 alone. The
files in examples/expected and tests/golden/guests are written anew, without NAMEs those that are there.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from guestkit import AssemblyError, assemble_file

ROOT = Path(__file__).resolve().parents[2]
PROBES = ROOT / "tests/guests"
EXAMPLES = ROOT / "examples"
GOLDEN = ROOT / "tests/golden/guests"
#: Sources with a number of cases, each of which ends the domain.
FATAL = ("fatal", "xsa-183")
#: Sources that want more than one vCPU.
VCPUS = {"smp": 2, "own_vcpus": 2}
#: Sources that want what RUN has not: a xenstore that knows more than a domain's number, disks, a PC.
SERVED = ("disk", "xenbus", "unmodified", "unmodified64")
#: Sources that are a domain 0 and nothing else.
DOM0 = ("logdirty",)

POWEROFF, CRASH = 0, 3
# What Xen logs about a domain that it ends: a trap without a handler, or the place in its source.
_REASONS = (
    re.compile(r"Unhandled: (vec \d+, \S+)\["),
    re.compile(r"domain_crash called from (\S+):\d+"),
    re.compile(r"domain_crash_sync called from (\S+): fault at \S+ (?:\S+#)?(\w+)\+"),
)


def boot(run: str, elf: bytes, *options: str) -> tuple[int, str]:
    """Boot a kernel; return the exit status and what was printed, without blanks at the end."""
    with tempfile.NamedTemporaryFile(suffix=".elf") as file:
        file.write(elf)
        file.flush()
        done = subprocess.run([run, *options, file.name], stdout=subprocess.PIPE, check=False)
    return done.returncode, done.stdout.decode("ascii").replace("\r", "").rstrip("\n") + "\n"


def record_text(run: str, source: Path, target: Path) -> None:
    """Record a guest that powers off."""
    elf = assemble_file(source).elf
    options = ("--vcpus", str(VCPUS.get(source.stem, 1)))
    status, text = boot(run, elf, *options)
    alike = source.stem in DOM0 or (status, text) == boot(run, elf, *options, "--domu")
    if not alike or status != POWEROFF:
        sys.exit(f"{source.name}: domain 0 and domU differ, or the guest did not power off")
    target.write_text(text)


def record_kinds(run: str, source: Path, target: Path) -> None:
    """Record a guest that is answered otherwise as domain 0 than as a domU: a file for each."""
    elf = assemble_file(source, include_paths=[PROBES]).elf
    for kind, options in (("dom0", ()), ("domu", ("--domu",))):
        status, text = boot(run, elf, *options)
        if status != POWEROFF:
            sys.exit(f"{source.name} as {kind}: no poweroff")
        target.with_name(f"{source.stem}-{kind}.txt").write_text(text)


def record_two_vcpus(run: str, source: Path, target: Path) -> None:
    """Record a guest that has two vCPUs."""
    elf = assemble_file(source, include_paths=[PROBES]).elf
    status, text = boot(run, elf, "--vcpus", "2")
    if (status, text) != boot(run, elf, "--vcpus", "2", "--domu") or status != POWEROFF:
        sys.exit(f"{source.name}: domain 0 and domU differ, or the guest did not power off")
    target.write_text(text)


def record_fatal(run: str, source: Path, target: Path) -> None:
    """Record every case of the guest that is ended by Xen: its number, its name, and what Xen logged."""
    lines = ["case\tname\treason\n"]
    while True:
        case = len(lines) - 1
        try:
            elf = assemble_file(source, defines={"CASE": case}).elf
        except AssemblyError as error:
            if "there are" not in str(error):
                raise
            break
        logs = [boot(run, elf, *options, "--raw") for options in ((), ("--domu",))]
        reasons = {_reason(text) for _, text in logs}
        status, name = boot(run, elf, "--domu")
        if {status, logs[0][0], logs[1][0]} != {CRASH} or len(reasons) != 1:
            sys.exit(f"{source.name}, case {case}: no crash, or not the same one: {reasons}")
        lines.append(f"{case}\t{name.strip()}\t{reasons.pop()}\n")
    target.write_text("".join(lines))


def _reason(log: str) -> str:
    for pattern in _REASONS:
        match = pattern.search(log)
        if match is not None:
            return ", ".join(match.groups())
    return "nothing"


#: Folders of guests that are recorded in a way of their own.
FOLDERS = {"by_kind": record_kinds, "two_vcpus": record_two_vcpus}


def main(run: str, names: list[str]) -> None:
    """Record what is named, or all that has been recorded before."""
    for source in [*EXAMPLES.glob("*.gk"), *PROBES.rglob("*.gk")]:
        in_probes = source.is_relative_to(PROBES)
        folder = GOLDEN / source.parent.relative_to(PROBES) if in_probes else EXAMPLES / "expected"
        target = folder / f"{source.stem}.{'tsv' if source.stem in FATAL else 'txt'}"
        if source.stem in SERVED:
            continue
        known = target.exists() or target.with_name(f"{source.stem}-dom0.txt").exists()
        if source.stem in names or (not names and known):
            print(source.name, file=sys.stderr)
            record = record_fatal if source.stem in FATAL else FOLDERS.get(source.parent.name, record_text)
            record(run, source, target)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
