"""Runs the pvemu command as ``python -m pvemu``."""

import sys

from pvemu.toolstack.cli import main

sys.exit(main())
