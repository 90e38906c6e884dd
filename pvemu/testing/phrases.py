"""Phrases: steps of a program that belong together, as one opens what the next ones use.

Chosen one by one, steps seldom speak of the same port or grant, and by the same domains: without phrases
some two thousand programs of any hypercalls have no event that arrives.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.testing import grammar
from pvemu.testing.commands import commands_of
from pvemu.testing.grammar import Chooser
from pvemu.testing.meanings import choices_for, meaning_of
from pvemu.testing.program import Record, Step
from pvemu.testing.values import Number, Value

#: What begins so is done by the other domain.
_THEIRS: Final = "their "
#: A command of the ABI, or what a domain says in shared memory ("grant", "mask"), for each step.
PHRASES: Final[tuple[tuple[str, ...], ...]] = (
    ("EVTCHNOP_bind_ipi", "EVTCHNOP_send"),
    ("EVTCHNOP_bind_ipi", "mask", "EVTCHNOP_send", "EVTCHNOP_unmask"),
    ("EVTCHNOP_bind_ipi", "VCPUOP_register_vcpu_info", "EVTCHNOP_send"),
    ("EVTCHNOP_bind_virq", "VCPUOP_set_singleshot_timer"),
    ("EVTCHNOP_alloc_unbound", "their EVTCHNOP_bind_interdomain", "EVTCHNOP_send"),
    ("EVTCHNOP_alloc_unbound", "their EVTCHNOP_bind_interdomain", "their EVTCHNOP_send", "EVTCHNOP_close"),
    (
        "EVTCHNOP_alloc_unbound",
        "their EVTCHNOP_bind_interdomain",
        "EVTCHNOP_bind_vcpu",
        "their EVTCHNOP_send",
    ),
    ("grant", "their GNTTABOP_map_grant_ref", "their GNTTABOP_unmap_grant_ref"),
    ("grant", "their GNTTABOP_map_grant_ref", "grant"),
    ("grant", "their GNTTABOP_copy"),
    ("GNTTABOP_set_version", "grant", "their GNTTABOP_map_grant_ref"),
    ("MMUEXT_PIN_L1_TABLE", "MMUEXT_UNPIN_TABLE"),
)
#: Commands that give a domain its next port.
_OPENERS: Final = frozenset(
    ("EVTCHNOP_alloc_unbound", "EVTCHNOP_bind_interdomain", "EVTCHNOP_bind_ipi", "EVTCHNOP_bind_virq")
)
FIRST_PORT: Final = 3
"""The port that a domain gets first: 1 and 2 lead to its console and to xenstore."""
FIRST_PORT_OF_DOMAIN_0: Final = 1
#: Meanings of which all steps of a phrase have one value: any good one, or the plainest.
_AGREED: Final = frozenset(("reference", "mapping", "frame"))
_PLAINEST: Final = frozenset(("domid", "handle", "vcpu"))


@cache
def _families() -> dict[str, str]:
    """The hypercall of each command of the phrases."""
    commands = {word.removeprefix(_THEIRS) for words in PHRASES for word in words}
    return {
        command: name
        for name, row in BY_NAME.items()
        if not name.endswith("_compat")
        for command in commands_of(row)
        if command in commands
    }


@cache
def _phrases_of(families: frozenset[str]) -> tuple[tuple[str, ...], ...]:
    """Phrases whose hypercalls are all among these."""
    calls = _families()
    return tuple(
        words
        for words in PHRASES
        if {calls[word] for each in words if (word := each.removeprefix(_THEIRS)) in calls} <= families
    )


def phrase(
    chooser: Chooser,
    families: Sequence[str],
    domain: int = 0,
    peer: int | None = None,
    before: Iterable[Step] = (),
    *,
    first_port: int = FIRST_PORT,
) -> list[Step]:
    """The steps of a phrase; none where the hypercalls have no phrase.

    Args:
        families: hypercalls of which all steps are.
        domain: who begins; peer: the other one, by default the same.
        before: the steps before it, in which ports may have been opened; first_port: the first of those.
    """
    known = _phrases_of(frozenset(families) & frozenset(_families().values()))
    if not known:
        return []
    talk = _Talk(chooser, (domain, domain if peer is None else peer), list(before), first_port)
    return [talk.step(word) for word in grammar.pick(chooser, known)]


@dataclass
class _Talk:
    """What the steps of one phrase have in common.

    Attributes:
        domains: who takes part; before: the steps so far; first_port: what the first port is.
        agreed: values by meaning; ports: the port that each of the two has opened last.
    """

    chooser: Chooser
    domains: tuple[int, int]
    before: list[Step]
    first_port: int
    agreed: dict[str, Value] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports = [self.first_port] * 2

    def step(self, word: str) -> Step:
        """The step that a word of a phrase stands for."""
        who, command = int(word.startswith(_THEIRS)), word.removeprefix(_THEIRS)
        domain = self.domains[who]
        if command == "grant":
            made = grammar.grant(self.chooser, domain, "good", self._reference())
        elif command == "mask":
            made = grammar.mask(self.chooser, domain, self.ports[who])
        else:
            if command in _OPENERS:
                self.ports[who] = self._next_port(domain)
            made = grammar.call(self.chooser, BY_NAME[_families()[command]], domain, "good", command)
        made = replace(made, records=tuple(self._speaking_of_the_same(who, each) for each in made.records))
        self.before.append(made)
        return made

    def _reference(self) -> int:
        value = self._value(0, "grant_entry_v1", "ref", Number(0))
        assert isinstance(value, Number)
        return value.number

    def _next_port(self, domain: int) -> int:
        """The port that a domain gets next, if it has got all that it has asked for and closed none."""
        return self.first_port + sum(step.domain == domain and step.title in _OPENERS for step in self.before)

    def _speaking_of_the_same(self, who: int, record: Record) -> Record:
        if record.structure is None or record.keeps:
            return record
        owner = record.structure
        return replace(
            record,
            fields=tuple((path, self._value(who, owner, path, value)) for path, value in record.fields),
        )

    def _value(self, who: int, owner: str, path: str, value: Value) -> Value:
        """What a field is to be, where a phrase minds; else the value that it has."""
        meaning = meaning_of(owner, path)
        if meaning == "port":
            return Number(self.ports[1 - who if path == "remote_port" else who])
        if meaning in _PLAINEST:
            return choices_for(meaning).good[0]
        if meaning in _AGREED:
            if meaning not in self.agreed:
                self.agreed[meaning] = grammar.pick(self.chooser, choices_for(meaning).good)
            return self.agreed[meaning]
        return value
