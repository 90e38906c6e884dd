"""Records what real Xen answers to the guests of random_requests.py.

    python tests/guests/record_requests.py RUN [SEED...]

RUN is the command that record.py takes too. The files SEED-dom0.txt and SEED-domu.txt in
tests/golden/guests/requests are written anew, without SEEDs those that are there.
"""

import sys

from random_requests import image
from record import GOLDEN, POWEROFF, boot

REQUESTS = GOLDEN / "requests"


def record(run: str, seed: int) -> None:
    """Record a seed's guest in both kinds of domain."""
    elf = image(seed)
    for kind, options in (("dom0", ()), ("domu", ("--domu",))):
        status, text = boot(run, elf, *options)
        if status != POWEROFF:
            sys.exit(f"seed {seed}, {kind}: the guest did not power off")
        (REQUESTS / f"{seed}-{kind}.txt").write_text(text)


def main(run: str, seeds: list[str]) -> None:
    """Record the seeds that are named, or all that have been recorded before."""
    REQUESTS.mkdir(exist_ok=True)
    for seed in seeds or sorted({path.stem.partition("-")[0] for path in REQUESTS.glob("*.txt")}):
        print(f"seed {seed}", file=sys.stderr)
        record(run, int(seed))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
