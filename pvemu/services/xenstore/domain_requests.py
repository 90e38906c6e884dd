"""The requests by which tools tell the store about domains."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.xen import DOMID_SELF
from pvemu.services.xenstore import paths
from pvemu.services.xenstore.c_numbers import atoi
from pvemu.services.xenstore.errors import XenstoreError
from pvemu.services.xenstore.request import OK, Request
from pvemu.services.xenstore.wire import only_string, strings

_YES: Final = b"T\0"
_NO: Final = b"F\0"


def _domid(request: Request) -> int:
    text = only_string(request.payload)
    if text is None:
        raise XenstoreError(Errno.EINVAL)
    return atoi(text)


def _numbers(request: Request, count: int) -> list[int]:
    found = strings(request.payload)
    if len(found) < count:
        raise XenstoreError(Errno.EINVAL)
    return [atoi(text) for text in found[:count]]


def _guest(request: Request) -> int:
    """The domain of a message that names one: introduced, and not domain 0."""
    domid = _domid(request)
    if not domid:
        raise XenstoreError(Errno.EINVAL)
    return request.xenstored.connected(domid).domid


def introduce(request: Request) -> bytes:
    """XS_INTRODUCE: domid, machine frame of the ring page, event channel port."""
    domid, mfn, port = _numbers(request, 3)
    request.xenstored.introduce(domid, mfn, port)
    return OK


def release(request: Request) -> bytes:
    """XS_RELEASE: talk to a domain no more."""
    request.xenstored.release(_guest(request))
    return OK


def resume(request: Request) -> bytes:
    """XS_RESUME: the domain runs again; its next shutdown is told."""
    request.xenstored.connected(_guest(request)).has_shut_down = False
    return OK


def is_domain_introduced(request: Request) -> bytes:
    """XS_IS_DOMAIN_INTRODUCED: whether the store talks to a domain."""
    domid = _domid(request)
    is_known = domid == DOMID_SELF or request.store.domains.is_introduced(domid)
    return _YES if is_known else _NO


def get_domain_path(request: Request) -> bytes:
    """XS_GET_DOMAIN_PATH: where a domain's part of the store is, whether or not there is such a domain."""
    return paths.domain_path(_domid(request)).encode() + b"\0"


def set_target(request: Request) -> bytes:
    """XS_SET_TARGET: give a domain the rights of another, whose devices it emulates; domain 0 has them."""
    domid, target = _numbers(request, 2)
    ring = request.xenstored.connected(domid).ring
    request.xenstored.connected(target)
    if ring is not None:
        ring.connection.target = target
    return OK
