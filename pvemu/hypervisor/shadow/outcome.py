"""What a page fault under shadow paging came to: one of four answers."""

from typing import NamedTuple


class Fixed(NamedTuple):
    """The shadow has what the access needs now: let the guest try again."""


class GuestFault(NamedTuple):
    """The guest's own tables do not allow the access: its page fault, with this error code."""

    error_code: int


class EmulateWrite(NamedTuple):
    """A write to a guest table that is shadowed: carry the instruction out, then say `guest_wrote`.

    `address` is guest-physical. When the instruction can't be carried out, `unsync` lets the guest do it.
    """

    address: int


class Mmio(NamedTuple):
    """The access is allowed, but no memory is there, or a write meets memory that can only be read.

    `address` is guest-physical.
    """

    address: int


Outcome = Fixed | GuestFault | EmulateWrite | Mmio

FIXED = Fixed()
