"""The exceptions that every layer shares: a person's mistake, a hypercall's error, a refused grant."""

from pvemu.abi.errno import Errno


class PvemuError(Exception):
    """What a person did wrong; the message is one line that says what is wrong and what to do."""


class HypercallError(Exception):
    """Ends a hypercall handler: the guest's result register receives ``-errno``.

    Raised inside the hypervisor only: a guest's mistake is told to the guest, never to the user.
    """

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno

    @property
    def result(self) -> int:
        """The negative number that the guest sees, as every public header words it (-EINVAL is -22)."""
        return -int(self.errno)


class GrantRefused(Exception):
    """A grant reference that can't be used, told to the service that tried.

    Attributes:
        status: a GNTST_* number, below 0 (public header grant_table.h).
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"GNTST {status}")
        self.status = status
