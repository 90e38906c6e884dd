"""What xenstore says of a guest: the keys that Xen's own toolstack (libxl) writes for a new domain."""

from collections.abc import Iterator, Sequence
from uuid import UUID, uuid5

from pvemu.services.xenstore.local_client import Keys, LocalClient
from pvemu.toolstack.built_domain import Rings
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind

#: Names of guests become UUIDs below this one, so that every run gives a guest the same.
_NAMESPACE = UUID("6f1c8a1e-6b8e-5d4c-9a53-7076656d7521")
_KIB_PER_MIB = 1024
_CONSOLE_LIMIT = 1 << 20

#: What the guest writes itself: answers to requests, what it can do, and what is nobody else's business.
_ITS_OWN = (
    *(f"control/{name}" for name in ("shutdown", "feature-poweroff", "feature-reboot", "feature-suspend")),
    *("control/sysrq", "device/suspend/event-channel", "data", "drivers", "feature", "attr", "error"),
)
_SLEEP_STATES = ("control/feature-s3", "control/feature-s4")


def uuid_of(config: GuestConfig) -> UUID:
    """The guest's UUID, the same in every run."""
    return uuid5(_NAMESPACE, config.name)


def write_guest_keys(
    store: LocalClient, domid: int, config: GuestConfig, kind: GuestKind, rings: Rings, terminal: str = ""
) -> None:
    """Write /local/domain/<domid> and /vm/<uuid>, in one transaction.

    Args:
        terminal: the device where the guest's console can be reached, or nothing.
    """
    home, vm = f"/local/domain/{domid}", f"/vm/{uuid_of(config)}"
    its_own, to_read = [f"n{domid}"], ["n0", f"r{domid}"]
    with store.transaction() as keys:
        for directory, permissions in ((home, to_read), (vm, to_read), (f"/libxl/{domid}", ["n0"])):
            if keys.find(directory) is not None:
                keys.rm(directory)
            keys.mkdir(directory)
            keys.set_permissions(directory, permissions)
        for path, value in (
            (f"{vm}/uuid", str(uuid_of(config))),
            (f"{vm}/name", config.name),
            (f"/libxl/{domid}/type", kind.value),
            *((f"{home}/{name}", value) for name, value in _readable(domid, vm, config)),
            *((f"{home}/{name}", value) for name, value in _of_rings(rings, terminal)),
        ):
            keys.write(path, value)
        _give(keys, home, ("cpu", "memory", "device", "control", "store", "console"), to_read)
        _give(keys, home, _ITS_OWN, its_own)
        if kind is GuestKind.HVM:
            _give(keys, home, ("hvmloader",), to_read)
            _give(keys, home, _SLEEP_STATES, its_own)
        if config.driver_domain:
            _give(keys, home, ("backend", "libxl", "device-model"), its_own)


def remove_guest_keys(store: LocalClient, domid: int, config: GuestConfig) -> None:
    """Remove them again."""
    with store.transaction() as keys:
        for directory in (f"/local/domain/{domid}", f"/vm/{uuid_of(config)}", f"/libxl/{domid}"):
            if keys.find(directory) is not None:
                keys.rm(directory)


def _give(keys: Keys, home: str, names: Sequence[str], permissions: list[str]) -> None:
    for name in names:
        keys.mkdir(f"{home}/{name}")
        keys.set_permissions(f"{home}/{name}", permissions)


def _readable(domid: int, vm: str, config: GuestConfig) -> Iterator[tuple[str, str]]:
    memory = str(config.memory * _KIB_PER_MIB)
    yield "vm", vm
    yield "name", config.name
    yield "domid", str(domid)
    yield "memory/static-max", memory
    yield "memory/target", memory
    yield "memory/videoram", "0"
    yield "control/platform-feature-multiprocessor-suspend", "1"
    yield "control/platform-feature-xs_reset_watches", "1"
    for number in range(config.vcpus):
        yield f"cpu/{number}/availability", "online"


def _of_rings(rings: Rings, terminal: str) -> Iterator[tuple[str, str]]:
    yield "store/port", str(rings.store.port)
    yield "store/ring-ref", str(rings.store.reference)
    yield "console/backend-id", "0"
    yield "console/type", "xenconsoled"
    yield "console/output", "pty"
    yield "console/limit", str(_CONSOLE_LIMIT)
    yield "console/port", str(rings.console.port)
    yield "console/ring-ref", str(rings.console.reference)
    yield "console/tty", terminal
