"""`python -m benchmarks`: as `pvemu bench`."""

import sys

from pvemu.toolstack.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
