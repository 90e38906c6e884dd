"""Looks at xenstore before and after a message: nobody did what permissions forbid, no watch event is lost.

What is permitted is worked out here anew, from the public description of xenstore's permissions: a node's
first entry names its owner, who may do all, and says what others may; further entries are for single domains.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pvemu.abi.xs_wire import XS_DIRECTORY, XS_GET_PERMS, XS_READ, XS_WATCH
from pvemu.services.xenstore.store import Node
from pvemu.testing.program import Outcome

if TYPE_CHECKING:
    from pvemu.testing.puppet import Puppet
    from pvemu.testing.stage import Stage

_READ, _WRITE = 1, 2
_READING: Final = (XS_READ, XS_DIRECTORY, XS_GET_PERMS)


class StoreWitness:
    """The store as it was before a message."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage
        self._before = self._nodes()
        self._watches = {
            puppet.number: set(puppet.store.watches) for puppet in stage.puppets if puppet.is_alive
        }
        for puppet in stage.puppets:
            puppet.store.heard.clear()

    def check(self, outcome: Outcome) -> None:
        """Raises AssertionError: something was read or changed that must not be, or an event did not come."""
        message, result = outcome.step.message, outcome.result
        puppet = self._stage.puppets[outcome.step.domain]
        if message is None or result is None:
            return
        after = self._nodes()
        if message.type in _READING and not message.transaction and result >= 0 and message.length is None:
            path = _absolute(puppet, message.pack(puppet, 0)[16:].split(b"\0")[0].decode("latin-1"))
            node = self._before.get(path)
            assert node is not None, f"{outcome}: there is nothing at {path}"
            assert _rights(node, puppet.domid) & _READ, f"{outcome}: {path} is not for {puppet}"
        changed = list(_changed(self._before, after))
        for path in changed:
            assert self._may_change(path, puppet), f"{outcome}: {puppet} has changed {path}"
        if message.times == 1:
            self._check_events(outcome, puppet, changed, after)

    def _nodes(self) -> dict[str, Node]:
        services = self._stage.machine.services
        return {} if services is None else dict(services.xenstore.nodes)

    def _may_change(self, path: str, puppet: "Puppet") -> bool:
        """By the node, or the nearest one above that there was; or with something above that was removed."""
        while path not in self._before:
            path = _parent(path)
        while True:
            if _rights(self._before[path], puppet.domid) & _WRITE:
                return True
            if path == "/":
                return False
            path = _parent(path)
            if path in self._nodes():
                return False

    def _check_events(
        self, outcome: Outcome, speaker: "Puppet", changed: list[str], after: dict[str, Node]
    ) -> None:
        message = outcome.step.message
        assert message is not None
        for puppet in self._stage.puppets:
            if not puppet.is_alive or not puppet.store.is_open:
                continue
            puppet.store.hear_events()
            heard = set(puppet.store.heard)
            for watched, token in self._watches.get(puppet.number, set()) & puppet.store.watches:
                below = _absolute(puppet, watched.decode("latin-1"))
                for path in changed:
                    node = after.get(path) or self._before[path]
                    if not _lies_below(path, below) or not _rights(node, puppet.domid) & _READ:
                        continue
                    spelt = path if watched.startswith(b"/") else path.removeprefix(_home(puppet) + "/")
                    assert (spelt.encode(), token) in heard, (
                        f"{outcome}: {puppet} watches {below} and was not told of {path}"
                    )
        if message.type == XS_WATCH and outcome.result == 3 and message.length is None:
            watched, token, *_ = message.pack(speaker, 0)[16:].split(b"\0")
            assert (watched, token) in speaker.store.heard, f"{outcome}: a new watch does not fire"


def _changed(before: dict[str, Node], after: dict[str, Node]) -> Iterator[str]:
    """Paths whose changes are told of: new leaves, the top of what is gone, other values and permissions."""
    for path, node in after.items():
        old = before.get(path)
        if old is None:
            if not any(_join(path, name) not in before for name in node.children):
                yield path
        elif (old.value, old.permissions) != (node.value, node.permissions):
            yield path
    for path in before:
        if path not in after and _parent(path) in after:
            yield path


def _rights(node: Node, domid: int) -> int:
    owner = node.permissions[0]
    if owner.domid == domid:
        return _READ | _WRITE
    for entry in node.permissions[1:]:
        if entry.domid == domid:
            return int(entry.rights)
    return int(owner.rights)


def _home(puppet: "Puppet") -> str:
    return f"/local/domain/{puppet.domid}"


def _absolute(puppet: "Puppet", path: str) -> str:
    return path if path.startswith(("/", "@")) else f"{_home(puppet)}/{path}"


def _parent(path: str) -> str:
    return path[: path.rfind("/")] or "/"


def _join(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def _lies_below(path: str, ancestor: str) -> bool:
    return ancestor == "/" or path == ancestor or path.startswith(f"{ancestor}/")
