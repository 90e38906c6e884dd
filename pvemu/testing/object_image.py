"""What Python objects hold at one moment, put back in place: each object stays the one that it was.

Handlers of exits and hypercalls are closures, and know the lists and counters of the hypervisor by identity.
So nothing is copied as a whole: from a root every object is visited once, and what it holds is noted, one
level deep.
"""

import functools
import itertools
import types
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final

from pvemu.abi.structure import Structure

#: Hold nothing that changes. A structure of the ABI keeps answers that are the same for ever.
_CONSTANT: Final = (
    *(int, str, bytes, float, complex, type(None), type(...), type(NotImplemented), range, slice),
    *(type, types.ModuleType, types.CodeType, types.GenericAlias, Enum, Structure),
    functools._lru_cache_wrapper,
)
#: The engine and the outside, by the modules of their types: what of them is the machine's is kept elsewhere.
_FOREIGN: Final = frozenset(
    (
        *(
            "ctypes",
            "_ctypes",
            "builtins.memoryview",
            "mmap",
            "unicorn",
            "capstone",
            "weakref",
            "re",
            "_struct",
        ),
        *(
            "socket",
            "_socket",
            "select",
            "selectors",
            "_io",
            "io",
            "pathlib",
            "typing",
            "_thread",
            "threading",
        ),
        *("lark", "logging", "rich", "_pytest", "builtins.CArgObject"),
    )
)
_OURS: Final = frozenset(("pvemu", "guestkit"))
_MISSING: Final = object()


class ObjectImage:
    """All that can be reached from an object, as it is now. `restore` makes it so again.

    Objects that were made since are let go. What lies outside (sockets, files) stays as it is.

    Raises:
        TypeError: something is reached of which it is not known how to keep it; the message says where.
    """

    def __init__(self, root: object) -> None:
        self._sequences: list[tuple[Any, Any]] = []
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._tables: list[tuple[Any, Any]] = []
        self._queues: list[tuple[deque[Any], list[Any]]] = []
        self._slots: list[tuple[Any, tuple[tuple[str, Any], ...]]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._counts: list[tuple[dict[str, Any], str, int]] = []
        #: Every object that was met, by its id; kept, so that no id is used again.
        self._met: dict[int, object] = {}
        self._visit(root)

    @property
    def objects(self) -> int:
        """How many objects are kept."""
        return len(self._met)

    def restore(self) -> None:
        """Put everything back."""
        for sequence, items in self._sequences:
            sequence[:] = items
        for attributes, kept in self._attributes:
            if len(attributes) != len(kept):
                for name in attributes.keys() - kept.keys():
                    del attributes[name]
            attributes.update(kept)
        # The order of keys is part of what a dictionary holds: who walks over it must go the same way again.
        for table, kept in self._tables:
            table.clear()
            table.update(kept)
        for queue, entries in self._queues:
            queue.clear()
            queue.extend(entries)
        for owner, values in self._slots:
            for name, value in values:
                if value is _MISSING:
                    if hasattr(owner, name):
                        delattr(owner, name)
                else:
                    object.__setattr__(owner, name, value)
        for cell, contents in self._cells:
            cell.cell_contents = contents
        for attributes, name, number in self._counts:
            attributes[name] = itertools.count(number)

    # --- looking around --------------------------------------------------------------------------

    def _visit(self, root: object) -> None:
        waiting: list[tuple[object, str]] = [(root, type(root).__name__)]
        while waiting:
            found, path = waiting.pop()
            if isinstance(found, _CONSTANT) or id(found) in self._met:
                continue
            self._met[id(found)] = found
            waiting.extend((each, f"{path}{step}") for each, step in self._note(found, path))

    def _note(self, found: Any, path: str) -> Iterator[tuple[object, str]]:
        """Note what an object holds, and give the objects that it leads to."""
        keep = _KEEPERS.get(type(found))
        if keep is None:
            keep = next((each for kind, each in _KEEPERS.items() if isinstance(found, kind)), None)
        if keep is not None:
            yield from keep(self, found)
        if isinstance(found, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
            return
        if _is_ours(found):
            yield from self._keep_instance(found)
        elif keep is None and not _is_foreign(found):
            raise TypeError(f"nothing is known of how to keep a {type(found).__qualname__}, found at {path}")

    def _keep_sequence(self, found: Any) -> Iterator[tuple[object, str]]:
        self._sequences.append((found, found[:]))
        if isinstance(found, list):
            yield from _numbered(found)

    def _keep_table(self, found: Any) -> Iterator[tuple[object, str]]:
        self._tables.append((found, found.copy()))
        if isinstance(found, dict):
            for key, value in found.items():
                yield key, ".key"
                yield value, f"[{key!r:.40}]"
        else:
            yield from _numbered(found)

    def _keep_queue(self, found: "deque[Any]") -> Iterator[tuple[object, str]]:
        self._queues.append((found, list(found)))
        yield from _numbered(found)

    def _keep_frozen(self, found: Any) -> Iterator[tuple[object, str]]:
        yield from _numbered(found)

    def _keep_function(self, found: types.FunctionType) -> Iterator[tuple[object, str]]:
        for name, cell in zip(found.__code__.co_freevars, found.__closure__ or (), strict=True):
            if id(cell) in self._met:
                continue
            self._met[id(cell)] = cell
            try:
                contents = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            self._cells.append((cell, contents))
            yield contents, f"<{name}>"
        for default in (*(found.__defaults__ or ()), *(found.__kwdefaults__ or {}).values()):
            yield default, ".default"

    def _keep_method(self, found: Any) -> Iterator[tuple[object, str]]:
        yield found.__self__, ".__self__"
        if isinstance(found, types.MethodType):
            yield found.__func__, ".__func__"

    def _keep_partial(self, found: "functools.partial[Any]") -> Iterator[tuple[object, str]]:
        yield from ((found.func, ".func"), (found.args, ".args"), (found.keywords, ".keywords"))

    def _keep_instance(self, found: Any) -> Iterator[tuple[object, str]]:
        attributes = getattr(found, "__dict__", None)
        if attributes:
            self._keep_attributes(attributes)
            yield from ((value, f".{name}") for name, value in attributes.items())
        names = _slots(type(found))
        if names:
            values = tuple((name, getattr(found, name, _MISSING)) for name in names)
            self._slots.append((found, values))
            yield from ((value, f".{name}") for name, value in values if value is not _MISSING)

    def _keep_attributes(self, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            if isinstance(value, itertools.count):
                self._met[id(value)] = value
                self._counts.append((attributes, name, int(repr(value)[len("count(") : -1])))
        self._attributes.append((attributes, attributes.copy()))


#: How each kind is kept; the first that fits counts for what is derived from it.
_KEEPERS: Final[dict[type, Callable[[ObjectImage, Any], Iterator[tuple[object, str]]]]] = {
    list: ObjectImage._keep_sequence,
    bytearray: ObjectImage._keep_sequence,
    array: ObjectImage._keep_sequence,
    dict: ObjectImage._keep_table,
    set: ObjectImage._keep_table,
    deque: ObjectImage._keep_queue,
    tuple: ObjectImage._keep_frozen,
    frozenset: ObjectImage._keep_frozen,
    types.FunctionType: ObjectImage._keep_function,
    types.MethodType: ObjectImage._keep_method,
    types.BuiltinFunctionType: ObjectImage._keep_method,
    functools.partial: ObjectImage._keep_partial,
    types.MappingProxyType: lambda image, found: iter(()),
}


def _numbered(items: Any) -> Iterator[tuple[object, str]]:
    return ((item, f"[{number}]") for number, item in enumerate(items))


def _is_ours(found: object) -> bool:
    return type(found).__module__.partition(".")[0] in _OURS or (
        hasattr(found, "__dict__") and not _is_foreign(found)
    )


def _is_foreign(found: object) -> bool:
    module, name = type(found).__module__, type(found).__name__
    return module.partition(".")[0] in _FOREIGN or f"{module}.{name}" in _FOREIGN


def _slots(kind: Any) -> tuple[str, ...]:
    """The names of the slots of a class whose objects can be changed."""
    return () if issubclass(kind, tuple) else _named_slots(kind)


@functools.cache
def _named_slots(kind: Any) -> tuple[str, ...]:
    names: list[str] = []
    for each in kind.__mro__:
        own = each.__dict__.get("__slots__", ())
        names += (own,) if isinstance(own, str) else own
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))
