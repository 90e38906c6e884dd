"""Random scenarios: the same seed gives the same steps."""

import random
from collections.abc import Callable, Iterator
from typing import Final

from pvemu.abi.xs_wire import XENSTORE_PAYLOAD_MAX
from tests.services.xenstore.scenario import GUESTS, SOCKETS, Step
from tests.services.xenstore.xenstore_stage import FRAME, PORT

LENGTH: Final = 150
_CLIENTS: Final = (*SOCKETS, *GUESTS, *GUESTS)
_PATHS: Final = (
    *("/", "/a", "/a", "/a/b", "/a/b", "/a/b/c", "/a/d", "/e/f/g", "/tool", "/local", "/local/domain"),
    *(f"/local/domain/{domid}{rest}" for domid in (0, 1, 2, 3) for rest in ("", "/x", "/x/y", "/z")),
    *("x", "x", "x/y", "x/y/w", "z", "z/q"),
)
_BAD_PATHS: Final = (
    *("", "//", "/a/", "/a//b", "/a+b", "a b", "@releaseDomain", "@introduceDomain", "@other", "@", "é"),
    "/" + "n" * 2047,
    "/" + "n" * 2048,
    "/local/domain/12345/" + "n" * 2048,
    "/local/domain/123456/" + "n" * 2030,
    "n" * 2048,
    "n" * 2049,
)
_VALUES: Final = ("", "1", "value", "a\0b", "v" * 1000, "v" * 1980, "v" * 2010, "v" * 2100)
_TOKENS: Final = ("t", "t", "u", "", "token with spaces\xff")
_PERMISSIONS: Final = (
    *("n0", "n1", "n2", "n3", "r0", "r1", "b2", "w3", "r3", "b1", "n1", "n2", "n3"),
    *("r9", "n9", "x1", "n", "r0x1", "b02", "n 2", "r-1", "w1x", "r99999999999999999999"),
)
_NUMBERS: Final = ("1", "2", "3", "0", "9", "32752", "x", "-1", " 2", "+3", "4294967298")


_TIGHT_QUOTAS: Final = {
    "nodes": (2, 4, 6),
    "watches": (1, 2),
    "transactions": (1, 2),
    "transaction-nodes": (3, 6, 1024),
    "node-size": (40, 60, 100, 2048),
    "path-max": (4, 10, 2048),
    "permissions": (1, 2, 5),
}

# Real xenstored answers some mistakes with the error number of an earlier one; they are left out here: a
# missing NUL behind a path, and a special event's permissions set by who may not, or set for an unknown one.
# Nor does it let go of a domain that is another's target, so a scenario has either targets or releases.
_FOR_TOOLS: Final = ("INTRODUCE", "RELEASE", "SET_TARGET", "RESUME", "CONTROL")
_ONE_STRING: Final = ("READ", "DIRECTORY", "GET_PERMS", "MKDIR", "RM")


class Author:
    """Makes up what the clients ask."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def steps(self, length: int = LENGTH) -> Iterator[Step]:
        """All domains are introduced first, and given a home each."""
        if self.random.random() < 0.4:
            for quota, values in _TIGHT_QUOTAS.items():
                value = self.random.choice(values)
                yield Step("s1", "CONTROL", 0, f"quota\0set\0{quota}\0{value}\0".encode())
        for name in GUESTS:
            yield Step("s1", "INTRODUCE", 0, self._introduction(name[1:]))
            if self.random.random() < 0.8:
                home = f"/local/domain/{name[1:]}\0"
                yield Step("s1", "MKDIR", 0, home.encode())
                yield Step("s1", "SET_PERMS", 0, f"{home}n{name[1:]}\0".encode())
        left_out = self.random.choice(("SET_TARGET", "RELEASE"))
        kinds = [kind for kind, (weight, _) in _REQUESTS.items() if kind != left_out for _ in range(weight)]
        for _ in range(length):
            kind = self.random.choice(kinds)
            payload = _REQUESTS[kind][1](self)
            if kind not in _ONE_STRING and self.random.random() < 0.02:
                payload = payload[: self.random.randrange(len(payload) + 1)]
            client = self._client(kind)
            if kind == "SET_PERMS" and payload.startswith("@") and client not in SOCKETS:
                continue
            transaction = self.random.choice((0, 0, 0, 1, 1, 2, 3))
            if kind in ("TRANSACTION_START", "RESET_WATCHES") and self.random.random() < 0.95:
                transaction = 0
            yield Step(client, kind, transaction, payload[:XENSTORE_PAYLOAD_MAX].encode("latin-1"))

    def _client(self, kind: str) -> str:
        rarely = 0.1 if kind in _FOR_TOOLS else 1
        return self.random.choice(_CLIENTS if self.random.random() < rarely else _CLIENTS[:2])

    def _introduction(self, domid: str) -> bytes:
        return f"{domid}\0{FRAME + int(domid)}\0{PORT}\0".encode()

    def path(self) -> str:
        return self.random.choice(_BAD_PATHS if self.random.random() < 0.05 else _PATHS)

    def one_path(self) -> str:
        return self.path() + "\0"

    def write(self) -> str:
        return self.one_path() + self.random.choice(_VALUES)

    def permissions(self) -> str:
        some = self.random.choices(_PERMISSIONS, k=self.random.choice((1, 1, 2, 2, 3, 5, 6)))
        path = self.random.choice(("@releaseDomain", "@introduceDomain", *(self.path() for _ in range(8))))
        if path in ("@", "@other"):
            path = "/a"
        return f"{path}\0" + "".join(f"{each}\0" for each in some)

    def watch(self) -> str:
        path = self.random.choice(("@releaseDomain", "@introduceDomain", *(self.path() for _ in range(8))))
        return f"{path}\0{self.random.choice(_TOKENS)}\0"

    def part(self) -> str:
        return f"{self.path()}\0{self.random.choice(('0', '0', '1', '5', 'x', '-1', '4096'))}\0"

    def verdict(self) -> str:
        return self.random.choice(("T\0", "T\0", "T\0", "F\0", "X\0", ""))

    def number(self) -> str:
        return self.random.choice(_NUMBERS) + "\0"

    def introduction(self) -> str:
        domid = self.random.choice("1239")
        return f"{domid}\0{FRAME + int(domid)}\0{self.random.choice((PORT, PORT, PORT, 0))}\0"

    def guest(self) -> str:
        return self.random.choice(("1", "2", "3", "9", "0")) + "\0"

    def target(self) -> str:
        return self.guest() + self.random.choice("123") + "\0"

    def control(self) -> str:
        quota = f"quota\0set\0nodes\0{self.random.randrange(9)}\0"
        return self.random.choice(("check\0", quota, "other\0"))

    def nothing(self) -> str:
        return "\0"


_REQUESTS: Final[dict[str, tuple[int, Callable[[Author], str]]]] = {
    "READ": (10, Author.one_path),
    "DIRECTORY": (8, Author.one_path),
    "DIRECTORY_PART": (4, Author.part),
    "GET_PERMS": (6, Author.one_path),
    "WRITE": (24, Author.write),
    "MKDIR": (10, Author.one_path),
    "RM": (8, Author.one_path),
    "SET_PERMS": (14, Author.permissions),
    "WATCH": (10, Author.watch),
    "UNWATCH": (3, Author.watch),
    "TRANSACTION_START": (8, Author.nothing),
    "TRANSACTION_END": (8, Author.verdict),
    "GET_DOMAIN_PATH": (1, Author.number),
    "IS_DOMAIN_INTRODUCED": (1, Author.number),
    "INTRODUCE": (2, Author.introduction),
    "RELEASE": (2, Author.guest),
    "SET_TARGET": (1, Author.target),
    "CONTROL": (1, Author.control),
    "RESUME": (1, Author.guest),
    "RESET_WATCHES": (1, Author.nothing),
    "WATCH_EVENT": (1, Author.nothing),
}
