"""Scenarios: what several clients ask a store, one after the other, and what each is told."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from tests.services.xenstore.xenstore_clients import Client, Closed

SOCKETS: Final = ("s1", "s2")
GUESTS: Final = ("d1", "d2", "d3")
CLIENTS: Final = SOCKETS + GUESTS
_STEP: Final = re.compile(r"(?P<client>[sd]\d) (?P<kind>[A-Z_]+) (?P<transaction>\d+) (?P<payload>.*)")


class Step(NamedTuple):
    """One request; or, without a kind, something that happens to a domain."""

    client: str
    kind: str
    transaction: int
    payload: bytes

    def text(self) -> str:
        """One line."""
        return f"{self.client} {self.kind} {self.transaction} {escaped(self.payload)}"


def escaped(data: bytes) -> str:
    """Bytes as printable text, with | for NUL, and \\*100n for a hundred times n."""
    text = data.decode("latin-1").replace("\\", "\\\\").replace("|", "\\x7c").replace("\0", "|")
    text = re.sub(r"[^ -~]", lambda match: f"\\x{ord(match[0]):02x}", text)
    return re.sub(r"([a-zA-Z])\1{39,}", lambda match: f"\\*{len(match[0])}{match[1]}", text)


def unescaped(text: str) -> bytes:
    """The inverse of `escaped`."""
    return re.sub(r"\\\*\d+[a-zA-Z]|\\x[0-9a-f]{2}|\\\\|\|", _plain, text).encode("latin-1")


def _plain(match: re.Match[str]) -> str:
    text = match[0]
    if text.startswith("\\*"):
        return text[-1] * int(text[2:-1])
    return {"|": "\0", "\\\\": "\\"}.get(text) or chr(int(text[2:], 16))


def parse(line: str) -> Step:
    """A step out of its line."""
    match = _STEP.fullmatch(line)
    assert match, line
    return Step(match["client"], match["kind"], int(match["transaction"]), unescaped(match["payload"]))


def read_scenario(text: str) -> Iterator[Step]:
    """The steps of a scenario, recorded or not: the lines that don't begin with # or a space."""
    return (parse(line) for line in text.splitlines() if line and line[0] not in "# ")


class Stage(Protocol):
    """A store with its clients, all domains known to the hypervisor and none introduced."""

    clients: dict[str, Client]

    def introduced(self, name: str) -> None:
        """A guest's ring has begun anew: give it a new client."""


def play(stage: Stage, steps: Iterable[Step]) -> Iterator[list[str]]:
    """For each step its line, the reply, and the events of every client, as lines."""
    for step in steps:
        lines = [step.text()]
        client = stage.clients.get(step.client)
        if client is None:
            lines.append("  not connected")
            yield lines
            continue
        try:
            reply = client.request(step.kind, step.payload, step.transaction)
        except Closed:
            lines.append("  closed")
            del stage.clients[step.client]
        else:
            lines.append(f"  {reply.type} {escaped(reply.payload)}".rstrip(" "))
            if reply.payload == b"OK\0":
                _domain_came_or_went(stage, step)
        for name, other in stage.clients.items():
            lines += [f"  {name}: {escaped(event)}" for event in other.take_events()]
        yield lines


def _domain_came_or_went(stage: Stage, step: Step) -> None:
    if step.kind in ("INTRODUCE", "RELEASE"):
        name = f"d{int(step.payload.split(bytes(1))[0])}"
        stage.clients.pop(name, None)
        if step.kind == "INTRODUCE":
            stage.introduced(name)
