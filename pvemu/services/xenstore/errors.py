"""The exception that ends a xenstore request."""

from pvemu.abi.errno import Errno


class XenstoreError(Exception):
    """A request was refused: a client gets an XS_ERROR message with the error's name.

    Attributes:
        errno: one of `pvemu.abi.xs_wire.xsd_errors`; another is told as EINVAL.
    """

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno
