"""Several clients and their transactions against a model: a plain dictionary."""

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pvemu.abi.errno import Errno
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.local_client import Keys, LocalTransaction
from pvemu.services.xenstore.service import XenstoreService
from tests.services.xenstore.xenstore_stage import Domains

Answer = bytes | tuple[str, ...] | Errno | None
CLIENTS = 3
_PATH = st.sampled_from(["/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/f/g"])
_OPERATION = st.sampled_from(["read", "write", "mkdir", "rm", "list"])
_CLIENT = st.integers(0, CLIENTS - 1)


class Request(NamedTuple):
    operation: str
    path: str
    value: bytes

    def ask(self, keys: Keys) -> Answer:
        """The store's answer."""
        try:
            match self.operation:
                case "read":
                    return keys.read(self.path)
                case "list":
                    return tuple(sorted(keys.list(self.path)))
                case "write":
                    keys.write(self.path, self.value)
                case "mkdir":
                    keys.mkdir(self.path)
                case "rm":
                    keys.rm(self.path)
        except XenstoreError as error:
            return error.errno
        return None

    def apply(self, nodes: dict[str, bytes]) -> Answer:
        """The model's answer: nodes by path, whose parents are all there."""
        path, parent = self.path, self.path.rpartition("/")[0]
        match self.operation:
            case "read":
                return nodes.get(path, Errno.ENOENT)
            case "list":
                below = [other[len(path) + 1 :] for other in nodes if other.startswith(f"{path}/")]
                return (
                    tuple(sorted(name for name in below if "/" not in name))
                    if path in nodes
                    else Errno.ENOENT
                )
            case "rm":
                if path not in nodes:
                    return None if not parent or parent in nodes else Errno.ENOENT
                for other in [each for each in nodes if each == path or each.startswith(f"{path}/")]:
                    del nodes[other]
            case _:
                parts = path.split("/")[1:]
                for depth in range(1, len(parts) + 1):
                    nodes.setdefault("/" + "/".join(parts[:depth]), b"")
                if self.operation == "write":
                    nodes[path] = self.value
        return None


class Open(NamedTuple):
    """A transaction, what was asked in it, and how the store was at its beginning."""

    keys: LocalTransaction
    log: list[tuple[Request, Answer]]
    changes_before: int


class Xenstore(RuleBasedStateMachine):
    @initialize()
    def boot(self) -> None:
        self.service = XenstoreService(Domains())
        self.clients = [self.service.local() for _ in range(CLIENTS)]
        self.open: dict[int, Open] = {}
        self.nodes: dict[str, bytes] = {}
        self.changes = 0
        self.watched: set[str] = set()
        self.told: set[str] = set()
        watcher = self.service.local()
        watcher.watch("/a", self.told.add)
        self.service.pump()
        self.told.clear()

    def carry_out(self, request: Request) -> Answer:
        before = dict(self.nodes)
        answer = request.apply(self.nodes)
        self.changes += self.nodes != before or request.operation == "write"
        changed = {
            path for path in before.keys() | self.nodes.keys() if before.get(path) != self.nodes.get(path)
        }
        # A removal is told for the node that was asked for; a new node for itself, not for its new parents.
        if request.path in changed and request.path.startswith("/a"):
            self.watched.add(request.path)
        return answer

    @rule(client=_CLIENT, operation=_OPERATION, path=_PATH, value=st.binary(max_size=2))
    def ask(self, client: int, operation: str, path: str, value: bytes) -> None:
        request = Request(operation, path, value)
        assert request.ask(self.clients[client]) == self.carry_out(request)

    @rule(client=_CLIENT)
    def start(self, client: int) -> None:
        if client not in self.open:
            self.open[client] = Open(self.clients[client].transaction(), [], self.changes)

    @rule(client=_CLIENT, operation=_OPERATION, path=_PATH, value=st.binary(max_size=2))
    def ask_in_transaction(self, client: int, operation: str, path: str, value: bytes) -> None:
        if client in self.open:
            request = Request(operation, path, value)
            self.open[client].log.append((request, request.ask(self.open[client].keys)))

    @rule(client=_CLIENT)
    def abort(self, client: int) -> None:
        if client in self.open:
            transaction = self.open.pop(client)
            transaction.keys.__exit__(ValueError, None, None)

    @rule(client=_CLIENT)
    def commit(self, client: int) -> None:
        """A commit that succeeds is as if all its requests were made now; one that fails was overtaken."""
        if client not in self.open:
            return
        transaction = self.open.pop(client)
        try:
            transaction.keys.__exit__(None, None, None)
        except XenstoreError as error:
            assert error.errno is Errno.EAGAIN
            assert self.changes > transaction.changes_before
            return
        for request, answer in transaction.log:
            assert answer == self.carry_out(request)

    @invariant()
    def the_tree_is_the_models(self) -> None:
        if hasattr(self, "nodes"):
            reader = self.clients[0]
            assert {path: reader.find(path) for path in ("/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/f")} == {
                path: self.nodes.get(path) for path in ("/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/f")
            }
            assert reader.control("check") == "OK"

    @invariant()
    def every_change_that_was_made_was_told(self) -> None:
        if hasattr(self, "nodes"):
            self.service.pump()
            lasting = {path for path in self.watched if path not in self.told}
            assert not lasting
            self.watched.clear()
            self.told.clear()


TestXenstore = Xenstore.TestCase
TestXenstore.settings = settings(max_examples=40, stateful_step_count=40)
