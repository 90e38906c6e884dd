"""The xenstore service as the toolstack sees it: domains that come and go, local clients, sockets."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pvemu.abi.errors import PvemuError
from pvemu.services.outside import Outside
from pvemu.services.privcmd import Privcmd
from pvemu.services.xenstore.daemon import Xenstored
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.local_client import LocalClient
from pvemu.services.xenstore.quotas import Quotas
from pvemu.services.xenstore.socket_server import SocketServer
from pvemu.services.xenstore.store import Node


class XenstoreService:
    """One store for all domains of a machine.

    Args:
        domain_exists: whether the hypervisor has a domain of this number. Permissions for others mean nobody,
            and none of them can own a node. Without it every number is taken for a domain's.
        quotas: the limits for guests.
    """

    def __init__(
        self,
        privcmd: Privcmd,
        *,
        domain_exists: Callable[[int], bool] = lambda domid: True,
        quotas: Quotas | None = None,
    ) -> None:
        self._xenstored = Xenstored(privcmd, domain_exists, quotas)
        self._servers: list[SocketServer] = []

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The tree by absolute path, as everybody sees it; for tests."""
        return self._xenstored.store.nodes

    def audit(self) -> list[str]:
        """What is wrong with the store: nodes that nobody lists, wrong counts; for tests."""
        return self._xenstored.store.audit()

    def introduce(self, domid: int, mfn: int, port: int) -> None:
        """Serve a new domain; @introduceDomain fires.

        Its ring begins empty, so this must happen before the domain runs. For a domain that is served
        already it binds a new port.

        Args:
            mfn: the machine frame of its ring page (start_info.store_mfn).
            port: the event channel that it offers to domain 0 (start_info.store_evtchn).

        Raises:
            PvemuError: the frame or the port can't be used.
        """
        try:
            self._xenstored.introduce(domid, mfn, port)
        except XenstoreError as error:
            raise PvemuError(
                f"xenstore can't serve domain {domid} with frame {mfn:#x} and port {port}: {error}"
            ) from None
        self._xenstored.settle()

    def release(self, domid: int) -> None:
        """Forget a domain that is gone, with all that it owns; @releaseDomain fires if it was introduced."""
        self._xenstored.release(domid)
        self._xenstored.settle()

    def shutdown(self, domid: int) -> None:
        """A domain has shut down or crashed, and still exists: @releaseDomain fires, once."""
        self._xenstored.shutdown(domid)
        self._xenstored.settle()

    def local(self) -> LocalClient:
        """A new client in this process, which speaks as domain 0."""
        return LocalClient(self._xenstored)

    def listen(self, outside: Outside, path: Path) -> SocketServer:
        """Serve programs on a Unix socket.

        Raises:
            PvemuError: the path can't be used.
        """
        server = SocketServer(self._xenstored, outside, path)
        self._servers.append(server)
        return server

    def pump(self) -> None:
        """Make the calls that local clients wait for, until none waits.

        Runs by itself after each event of a guest or a socket, and at the end of `introduce`, `release` and
        `shutdown`. To be called after requests that were made in between through local clients.
        """
        self._xenstored.settle()

    def close(self) -> None:
        """Close the sockets."""
        while self._servers:
            self._servers.pop().close()
