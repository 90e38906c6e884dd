"""The grammar of messages to xenstored: every type, transactions, watches, quotas, and what is no message."""

from collections.abc import Mapping
from typing import Final

from pvemu.abi import xs_wire
from pvemu.testing.grammar import Chooser, Quality, pick
from pvemu.testing.messages import LATEST, TYPES, Message, name_of
from pvemu.testing.program import Step

_GOOD_PATHS: Final = ("data", "data/a", "data/a/b", "data/c", "/local/domain/{own}/data", "data")
_NEAR_PATHS: Final = (
    *("/local/domain/{peer}/data", "/local/domain/{peer}/data/a", "/local/domain/{peer}"),
    *("/local/domain/{own}", "/local/domain", "/tool", "/", "device", "@introduceDomain", "@releaseDomain"),
)
_BAD_PATHS: Final = (
    *("", "data/", "data//a", "/data", "d ta", "\xe9", "@", "@none", "data/" + "d" * 2048, "x" * 3072, ".."),
    *("/local/domain/99999/data", "/local/domain/-1", "/local/domain/{own}/", "/local/domain/4294967297/x"),
)
_VALUES: Final = ("1", "text", "", "v" * 1000, "v" * 2000, "v" * 2048, "v" * 3500, "a\0b")
_TOKENS: Final = ("token", "t2", "", "t" * 200)
_RIGHTS: Final = (
    "n{own}",
    "r{own}",
    "b{own}",
    "n{own}\0r{peer}",
    "n{own}\0w{peer}",
    "n{own}\0b{peer}",
    "n{peer}",
)
_BAD_RIGHTS: Final = ("x1", "n", "", "r99999", "n{own}" + "\0r{peer}" * 6, "n-1", "b{own}\0zz")
_NUMBERS: Final = ("{own}", "{peer}", "0", "9", "x", "-1", "32752")
#: Types whose payload is one path.
_OF_A_PATH: Final = frozenset(
    (xs_wire.XS_READ, xs_wire.XS_DIRECTORY, xs_wire.XS_GET_PERMS, xs_wire.XS_MKDIR, xs_wire.XS_RM)
)
_OF_A_NUMBER: Final = frozenset(
    (xs_wire.XS_GET_DOMAIN_PATH, xs_wire.XS_IS_DOMAIN_INTRODUCED, xs_wire.XS_RELEASE, xs_wire.XS_RESUME)
)
#: What is behind the first path or number of the others: one of these.
_REST: Final[Mapping[int, tuple[str, ...]]] = {
    xs_wire.XS_TRANSACTION_START: ("\0",),
    xs_wire.XS_RESET_WATCHES: ("\0",),
    xs_wire.XS_TRANSACTION_END: ("T\0", "T\0", "F\0", "x\0", ""),
    xs_wire.XS_INTRODUCE: ("{peer}\x005\x003\0", "{own}\x001\x001\0", "99\x001\x001\0"),
    xs_wire.XS_SET_TARGET: ("{own}\0{peer}\0", "{peer}\0{own}\0"),
    xs_wire.XS_CONTROL: ("check\0", "help\0", "quota\0", "\0"),
}
#: What breaks a quota: nodes, watches, transactions, a node's permissions and size, replies to be fetched.
_MANY: Final = (
    Message(xs_wire.XS_WRITE, 0, "data/n#\0x", times=1010),
    Message(xs_wire.XS_WATCH, 0, "data/a\0t#\0", times=135),
    Message(xs_wire.XS_TRANSACTION_START, 0, "\0", times=14),
    Message(xs_wire.XS_WRITE, LATEST, "data/t#\0x", times=1030),
    Message(xs_wire.XS_MKDIR, 0, "data/" + "m" * 60 + "#\0", times=40),
)
#: Of so many messages one is one of those.
_MANY_EVERY: Final = 60
_USUAL: Final = tuple(
    number for number in TYPES.values() if number not in (xs_wire.XS_WATCH_EVENT, xs_wire.XS_ERROR)
)
_HOSTILE_TYPES: Final = (xs_wire.XS_WATCH_EVENT, xs_wire.XS_ERROR, 20, 23, 99, 0xFFFF, 0x7FFFFFFF)
_HOSTILE_LENGTHS: Final = (0, 1, 4096, 4097, 0xFFFFFFFF)


def message(chooser: Chooser, domain: int = 0, quality: Quality = "mixed") -> Step:
    """A step that says something to xenstored."""
    if not chooser.index(_MANY_EVERY):
        return _step(domain, pick(chooser, _MANY))
    wrong = _is_wrong(chooser, quality)
    number = pick(chooser, _HOSTILE_TYPES) if wrong and not chooser.index(4) else pick(chooser, _USUAL)
    payload = _payload(chooser, number, quality)
    transaction, length = pick(chooser, (0, 0, LATEST)), None
    if wrong:
        what = chooser.index(4)
        payload = (payload, payload[:-1], payload.replace("\0", ""), payload + "\0")[what]
        transaction = pick(chooser, (0, LATEST, 1, 77, 0xFFFFFFFF))
        length = None if chooser.index(8) else pick(chooser, _HOSTILE_LENGTHS)
    return _step(domain, Message(number, transaction, payload, length))


def _step(domain: int, said: Message) -> Step:
    return Step(domain, None, (), (), name_of(said.type), said)


def _is_wrong(chooser: Chooser, quality: Quality) -> bool:
    """Whether something about the message as a whole is wrong."""
    return quality != "good" and not chooser.index(2 if quality == "hostile" else 8)


def _path(chooser: Chooser, quality: Quality) -> str:
    kinds = {
        "good": (_GOOD_PATHS,),
        "near": (_GOOD_PATHS, _NEAR_PATHS),
        "hostile": (_GOOD_PATHS, _NEAR_PATHS, _BAD_PATHS),
        "mixed": (_GOOD_PATHS, _GOOD_PATHS, _NEAR_PATHS, _BAD_PATHS),
    }
    return pick(chooser, pick(chooser, kinds[quality]))


def _payload(chooser: Chooser, number: int, quality: Quality) -> str:
    if number in _REST:
        return pick(chooser, _REST[number])
    if number in _OF_A_NUMBER:
        return pick(chooser, _NUMBERS) + "\0"
    path = _path(chooser, quality) + "\0"
    if number in _OF_A_PATH:
        return path
    if number == xs_wire.XS_WRITE:
        return path + pick(chooser, _VALUES)
    if number == xs_wire.XS_SET_PERMS:
        rights = _RIGHTS if quality == "good" or chooser.index(5) else _BAD_RIGHTS
        return path + pick(chooser, rights) + "\0"
    if number == xs_wire.XS_DIRECTORY_PART:
        return path + pick(chooser, ("0", "5", "4000", "x")) + "\0"
    return path + pick(chooser, _TOKENS) + "\0"
