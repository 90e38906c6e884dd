"""The table of requests: for each message type its handler, and who may send it."""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.abi import xs_wire
from pvemu.abi.errno import Errno
from pvemu.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from pvemu.services.xenstore import permissions, watches
from pvemu.services.xenstore.c_numbers import atoi
from pvemu.services.xenstore.control import control
from pvemu.services.xenstore.domain_requests import (
    get_domain_path,
    introduce,
    is_domain_introduced,
    release,
    resume,
    set_target,
)
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.request import OK, Request
from pvemu.services.xenstore.transaction import Transaction
from pvemu.services.xenstore.wire import only_string, strings


def _one_path(request: Request) -> str:
    path = only_string(request.payload)
    if path is None:
        raise XenstoreError(Errno.EINVAL)
    return request.path(path)


# --- the tree ------------------------------------------------------------------------------------


def read(request: Request) -> bytes:
    """XS_READ: the value of a node."""
    return request.tree.node(_one_path(request)).value


def directory(request: Request) -> bytes:
    """XS_DIRECTORY: the names of a node's children."""
    return _names(request.tree.node(_one_path(request)).children)


def directory_part(request: Request) -> bytes:
    """XS_DIRECTORY_PART: generation, and names from a byte of the list on, as many as one message holds.

    An empty name says that the list ends here.
    """
    parts = request.payload.split(b"\0")
    if len(parts) != 3:
        raise XenstoreError(Errno.EINVAL)
    node = request.tree.node(request.path(parts[0]))
    start = atoi(parts[1])
    generation = b"%d\0" % node.generation
    listed = _names(node.children)
    if start >= len(listed):
        return generation + b"\0"
    end, room = start, XENSTORE_PAYLOAD_MAX - len(generation) - 1
    while end < len(listed):
        after = listed.index(b"\0", end) + 1
        if after - start > room:
            break
        end = after
    return generation + listed[start:end] + (b"\0" if end == len(listed) else b"")


def _names(children: tuple[str, ...]) -> bytes:
    return b"".join(name.encode() + b"\0" for name in children)


def write(request: Request) -> bytes:
    """XS_WRITE: give a node a value."""
    path, end, value = request.payload.partition(b"\0")
    if not end:
        raise XenstoreError(Errno.EINVAL)
    request.tree.write(request.path(path), value)
    return OK


def mkdir(request: Request) -> bytes:
    """XS_MKDIR: make a node."""
    request.tree.mkdir(_one_path(request))
    return OK


def remove(request: Request) -> bytes:
    """XS_RM: remove a node and all below it."""
    request.tree.remove(_one_path(request))
    return OK


def get_permissions(request: Request) -> bytes:
    """XS_GET_PERMS: the list of a node."""
    node = request.tree.node(_one_path(request))
    return b"".join(text + b"\0" for text in permissions.texts(node.permissions))


def set_permissions(request: Request) -> bytes:
    """XS_SET_PERMS: replace the list of a node or of a special event.

    Entries for domains that don't exist are kept, and mean nobody; an owner must exist.
    """
    path, *texts = strings(request.payload) or [b""]
    if not texts:
        raise XenstoreError(Errno.EINVAL)
    if not request.client.privileged and len(texts) > request.store.quotas.permissions:
        raise XenstoreError(Errno.ENOSPC)
    store = request.store
    entries = tuple(
        entry._replace(ignored=store.domains.learn(entry.domid, store.generation) is None)
        for entry in permissions.parse(texts)
    )
    if entries[0].ignored:
        raise XenstoreError(Errno.ENOENT)
    request.tree.set_permissions(request.path(path), entries)
    return OK


# --- watches -------------------------------------------------------------------------------------


def _path_and_token(request: Request) -> tuple[str, bytes]:
    found = strings(request.payload)
    if len(found) != 2:
        raise XenstoreError(Errno.EINVAL)
    return found[0].decode("latin-1"), found[1]


def watch(request: Request) -> bytes:
    """XS_WATCH: tell about a path from now on, and once at once."""
    path, token = _path_and_token(request)
    added = watches.add_watch(request.store, request.client, path, token)
    request.then = lambda: request.client.send_event(added.spelled(added.path), token)
    return OK


def unwatch(request: Request) -> bytes:
    """XS_UNWATCH: tell no more."""
    watches.remove_watch(request.client, *_path_and_token(request))
    return OK


def reset_watches(request: Request) -> bytes:
    """XS_RESET_WATCHES: forget all watches and transactions of the caller."""
    request.client.reset()
    return OK


# --- transactions --------------------------------------------------------------------------------


def transaction_start(request: Request) -> bytes:
    """XS_TRANSACTION_START: the number of a new transaction."""
    if request.transaction is not None:
        raise XenstoreError(Errno.EBUSY)
    client, quotas = request.client, request.store.quotas
    if not client.privileged and len(client.transactions) > quotas.transactions:
        raise XenstoreError(Errno.ENOSPC)
    limit = None if client.privileged else quotas.transaction_nodes
    return b"%d\0" % client.open(Transaction(request.store, limit))


def transaction_end(request: Request) -> bytes:
    """XS_TRANSACTION_END: commit (T) or forget (F); the transaction is over either way."""
    verdict = only_string(request.payload)
    if verdict not in (b"T", b"F"):
        raise XenstoreError(Errno.EINVAL)
    if request.transaction is None:
        raise XenstoreError(Errno.ENOENT)
    del request.client.transactions[request.message.transaction]
    if verdict == b"T":
        request.transaction.commit(
            lambda path, exactly, before: watches.fire(
                request.store, request.connections, path, exactly=exactly, permissions_before=before
            ),
            is_limited=not request.client.privileged,
        )
    return OK


# --- the table -----------------------------------------------------------------------------------


class Row(NamedTuple):
    """One type of request.

    Attributes:
        is_privileged: only domain 0 may send it, on its ring, a socket or in this process.
        heeds_transaction: its tx_id means something.
    """

    handler: Callable[[Request], bytes]
    is_privileged: bool = False
    heeds_transaction: bool = True


REQUESTS: Final[dict[int, Row]] = {
    xs_wire.XS_CONTROL: Row(control, is_privileged=True),
    xs_wire.XS_DIRECTORY: Row(directory),
    xs_wire.XS_READ: Row(read),
    xs_wire.XS_GET_PERMS: Row(get_permissions),
    xs_wire.XS_WATCH: Row(watch, heeds_transaction=False),
    xs_wire.XS_UNWATCH: Row(unwatch, heeds_transaction=False),
    xs_wire.XS_TRANSACTION_START: Row(transaction_start),
    xs_wire.XS_TRANSACTION_END: Row(transaction_end),
    xs_wire.XS_INTRODUCE: Row(introduce, is_privileged=True),
    xs_wire.XS_RELEASE: Row(release, is_privileged=True),
    xs_wire.XS_GET_DOMAIN_PATH: Row(get_domain_path),
    xs_wire.XS_WRITE: Row(write),
    xs_wire.XS_MKDIR: Row(mkdir),
    xs_wire.XS_RM: Row(remove),
    xs_wire.XS_SET_PERMS: Row(set_permissions),
    xs_wire.XS_IS_DOMAIN_INTRODUCED: Row(is_domain_introduced, is_privileged=True),
    xs_wire.XS_RESUME: Row(resume, is_privileged=True),
    xs_wire.XS_SET_TARGET: Row(set_target, is_privileged=True),
    xs_wire.XS_RESET_WATCHES: Row(reset_watches),
    xs_wire.XS_DIRECTORY_PART: Row(directory_part),
}
"""Every request that there is. XS_WATCH_EVENT and XS_ERROR are sent to clients only."""
