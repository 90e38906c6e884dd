"""Runs the guestkit command as ``python -m guestkit``."""

from guestkit.cli import main

main()
