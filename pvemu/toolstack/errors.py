"""The errors that the tools report to the person who uses them."""

from pvemu.abi.errors import PvemuError


class KernelRefused(PvemuError):
    """A kernel that cannot be started, or not in the domain that was asked for.

    `reason` is the sentence real Xen prints when it refuses the same kernel (or our own where Xen
    has none); the message adds what to do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason
        self.remedy = remedy


class CommandLineTooLong(PvemuError):
    """A kernel command line that does not fit into start_info."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the command line has {size} bytes, a kernel takes at most {limit}: shorten --cmdline"
        )
