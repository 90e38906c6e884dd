"""Who may do what with a node: its owner, and the rights it gives to other domains."""

from collections.abc import Iterable
from enum import IntFlag
from typing import Final, NamedTuple, Protocol

from pvemu.abi.errno import Errno
from pvemu.services.xenstore.c_numbers import signed, strtoul
from pvemu.services.xenstore.errors import XenstoreError


class Rights(IntFlag):
    """What a domain may do with a node."""

    NONE = 0
    READ = 1
    WRITE = 2
    OWNER = 4


ALL_RIGHTS: Final = Rights.READ | Rights.WRITE | Rights.OWNER
_LETTERS: Final = {
    b"n": Rights.NONE,
    b"r": Rights.READ,
    b"w": Rights.WRITE,
    b"b": Rights.READ | Rights.WRITE,
}
_LETTER_OF: Final = {rights: letter for letter, rights in _LETTERS.items()}


class Permission(NamedTuple):
    """One entry of a node's list. That of the first says who owns it and what everybody else may do.

    Attributes:
        ignored: the domain is gone, or another one has its number now. The list still reads as written.
    """

    domid: int
    rights: Rights
    ignored: bool = False


Permissions = tuple[Permission, ...]


class Subject(Protocol):
    """On whose behalf a request is made."""

    domid: int
    privileged: bool
    target: int | None
    """The domain whose rights it has as well (XS_SET_TARGET)."""


def parse(texts: Iterable[bytes]) -> Permissions:
    """Entries out of strings like `r5`.

    Raises:
        XenstoreError: EINVAL.
    """
    found = []
    for text in texts:
        rights, domid = _LETTERS.get(text[:1]), strtoul(text[1:])
        if rights is None or domid is None:
            raise XenstoreError(Errno.EINVAL)
        found.append(Permission(domid, rights))
    return tuple(found)


def texts(permissions: Permissions) -> list[bytes]:
    """Entries as strings, the inverse of `parse`."""
    return [_LETTER_OF[entry.rights] + str(signed(entry.domid)).encode() for entry in permissions]


def rights_of(subject: Subject, permissions: Permissions) -> Rights:
    """What someone may do with a node: all for domain 0 and the owner, else the first entry that fits."""
    owner = permissions[0]
    if subject.privileged or owner.domid in (subject.domid, subject.target):
        return ALL_RIGHTS
    for entry in permissions[1:]:
        if not entry.ignored and entry.domid in (subject.domid, subject.target):
            return entry.rights
    return owner.rights


def owned_by(permissions: Permissions, domid: int) -> Permissions:
    """The same list with another owner."""
    return permissions[0]._replace(domid=domid), *permissions[1:]


def without(permissions: Permissions, domid: int) -> Permissions:
    """The list after a domain has gone: what it owned is domain 0's."""
    if permissions[0].domid == domid:
        permissions = owned_by(permissions, 0)
    return permissions[0], *(entry for entry in permissions[1:] if entry.domid != domid)
