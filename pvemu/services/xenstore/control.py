"""XS_CONTROL: what an administrator can ask the daemon itself."""

from collections.abc import Callable
from typing import Final, NamedTuple

from pvemu.abi.errno import Errno
from pvemu.services.xenstore.c_numbers import atoi, signed
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.quotas import DESCRIPTIONS
from pvemu.services.xenstore.request import OK, Request
from pvemu.services.xenstore.wire import strings


def control(request: Request) -> bytes:
    """XS_CONTROL: a command and its parameters."""
    name, *parameters = strings(request.payload) or [b""]
    command = _COMMANDS.get(name.decode("latin-1"))
    if command is None:
        raise XenstoreError(Errno.EINVAL)
    return command.handler(request, parameters)


def _check(request: Request, parameters: list[bytes]) -> bytes:
    """Look whether the tree is whole; EIO when it isn't."""
    if parameters:
        raise XenstoreError(Errno.EINVAL)
    if request.store.audit():
        raise XenstoreError(Errno.EIO)
    return OK


def _quota(request: Request, parameters: list[bytes]) -> bytes:
    match parameters:
        case []:
            return _show_quotas(request)
        case [b"set", name, value]:
            return _set_quota(request, name.decode("latin-1"), signed(atoi(value)))
        case [domid] if domid != b"set":
            return _show_domain(request, atoi(domid))
    raise XenstoreError(Errno.EINVAL)


def _show_quotas(request: Request) -> bytes:
    values = {name: getattr(request.xenstored.quotas, name.replace("-", "_")) for name in DESCRIPTIONS}
    lines = [f"{name:<17}: {values[name]:8} {text}" for name, text in DESCRIPTIONS.items()]
    return _text(["Quota settings:", *lines])


def _set_quota(request: Request, name: str, value: int) -> bytes:
    if name not in DESCRIPTIONS or value < 1:
        raise XenstoreError(Errno.EINVAL)
    setattr(request.xenstored.quotas, name.replace("-", "_"), value)
    return OK


def _show_domain(request: Request, domid: int) -> bytes:
    known = request.store.domains.find(domid)
    if known is None:
        raise XenstoreError(Errno.ENOENT)
    connection = known.ring.connection if known.ring else None
    used = {
        "nodes": known.nodes,
        "watches": len(connection.watches) if connection else 0,
        "transactions": len(connection.transactions) if connection else 0,
        "outstanding": connection.outbox.replies if connection else 0,
    }
    return _text([f"Domain {domid}:", *(f"{name:<16}: {count:8}" for name, count in used.items())])


def _help(request: Request, parameters: list[bytes]) -> bytes:
    if parameters:
        raise XenstoreError(Errno.EINVAL)
    return _text([f"{name}\t{command.parameters}" for name, command in _COMMANDS.items()])


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode() + b"\0"


class _Command(NamedTuple):
    handler: Callable[[Request, list[bytes]], bytes]
    parameters: str


_COMMANDS: Final = {
    "check": _Command(_check, ""),
    "quota": _Command(_quota, "[set <name> <val>|<domid>]"),
    "help": _Command(_help, ""),
}
