"""Paths of the store: which are valid, what is a child of what."""

import re
from typing import Final

_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-/_@]*")
# What scanf's %5u takes: up to five characters, a sign among them.
_BELOW_A_DOMAIN: Final = re.compile(r"/local/domain/(?:-[0-9]{1,4}|[0-9]{1,5})/")
ROOT: Final = "/"


def domain_path(domid: int) -> str:
    """Where a domain's part of the store is."""
    return f"/local/domain/{domid}"


def is_special(path: str) -> bool:
    """Whether a path names an event and no node: @introduceDomain, @releaseDomain."""
    return path.startswith("@")


def absolute(path: str, base: str) -> str:
    """A path as seen from the root, for a client whose relative paths begin at `base`."""
    return path if path.startswith(("/", "@")) else f"{base}/{path}"


def is_valid(path: str, longest: int) -> bool:
    """Whether a path may name a node.

    Args:
        longest: bytes that it may have, not counting a leading /local/domain/<domid>/.
    """
    if not path.startswith("/") or (path.endswith("/") and path != ROOT) or "//" in path:
        return False
    below = _BELOW_A_DOMAIN.match(path)
    return len(path) <= longest + (below.end() if below else 0) and bool(_CHARACTERS.fullmatch(path))


def parent(path: str) -> str:
    """The path above; the root is its own."""
    return path[: path.rfind("/")] or ROOT


def leaf(path: str) -> str:
    """The last name of a path."""
    return path[path.rfind("/") + 1 :]


def child(path: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if path == ROOT else f"{path}/{name}"


def is_child(path: str, ancestor: str) -> bool:
    """Whether a path is another one or lies below it."""
    return ancestor == ROOT or path == ancestor or path.startswith(f"{ancestor}/")
