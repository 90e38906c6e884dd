"""Domain 0 in Python: xenstore, consoles and back ends, and what each guest gets of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pvemu.abi.errors import PvemuError
from pvemu.hypervisor.domctl import Domctl
from pvemu.services.block.backend import BlockBackend
from pvemu.services.block.disk import frontend_keys, open_image
from pvemu.services.block.image import Image
from pvemu.services.block.vdev import ata_place, vdev_number
from pvemu.services.device import DeviceAddress, add_device, remove_device
from pvemu.services.device_model.serial import Serial
from pvemu.services.net.backend import NetworkBackend
from pvemu.services.net.nic import NicSpec
from pvemu.services.net.pcap import PcapWriter
from pvemu.services.net.switch import Switch
from pvemu.services.net.tap import Tap
from pvemu.services.outside import Outside
from pvemu.services.xenstore.service import XenstoreService
from pvemu.toolstack.built_domain import BuiltDomain
from pvemu.toolstack.guest_config import DiskRequest, GuestConfig
from pvemu.toolstack.guest_consoles import GuestConsoles
from pvemu.toolstack.guest_keys import remove_guest_keys, write_guest_keys
from pvemu.toolstack.guest_kind import GuestKind
from pvemu.toolstack.outputs import PseudoTerminal
from pvemu.toolstack.pc_devices import add_debug_port, add_disks, add_pc_devices

Sink = Callable[[bytes], None]
#: Bytes of a guest's word: 32-bit guests only, so far.
_GUEST_WORD: Final = 4
#: The switch of interfaces that name none, and of those of the host.
_FIRST_BRIDGE: Final = NicSpec().bridge


class Bridge(NamedTuple):
    """A switch, and the back end that plugs guests into it."""

    switch: Switch
    backend: NetworkBackend


class Dom0:
    """The services of one machine.

    Args:
        domain_exists: whether the hypervisor has a domain of this number.
        now: the virtual wallclock, in nanoseconds since 1970.
        warn: told, in one line, what goes wrong with the outside while guests run.
    """

    def __init__(
        self,
        domctl: Domctl,
        outside: Outside,
        *,
        domain_exists: Callable[[int], bool],
        now: Callable[[], int],
        warn: Callable[[str], None],
    ) -> None:
        domctl.adopt(0)
        self._domctl, self._outside, self._now, self._warn = domctl, outside, now, warn
        self._bridges: dict[str, Bridge] = {}
        self._capture: PcapWriter | None = None
        self._taps: list[Tap] = []
        self._images: dict[tuple[str, str], Image] = {}
        self._served: set[int] = set()
        self._elsewhere: dict[int, list[DeviceAddress]] = {}
        self.xenstore = XenstoreService(domctl, domain_exists=domain_exists)
        self.keys = self.xenstore.local()
        self.consoles = GuestConsoles(domctl)
        self.blocks = BlockBackend(domctl, self.keys, warn=warn)

    def introduce(
        self, built: BuiltDomain, config: GuestConfig, console: Sink, peers: Mapping[str, int]
    ) -> None:
        """Serve a new domain, before it runs.

        Args:
            peers: numbers of the guests that run already, by name; they may serve its disks.

        Raises:
            PvemuError: a disk or an interface can't be had.
        """
        domid, rings = built.domain.domid, built.rings
        if rings is None:
            return
        self._served.add(domid)
        terminal = console.name if isinstance(console, PseudoTerminal) else ""
        write_guest_keys(self.keys, domid, config, built.kind, rings, terminal)
        self.consoles.attach(domid, rings.console.frame, rings.console.port, console)
        self._add_devices(built, console)
        emulated = self._emulated_disks(built, config)
        for disk in config.disks:
            number = vdev_number(disk.spec.vdev)
            if disk.backend is not None:
                self._offer_elsewhere(domid, number, disk, peers)
                continue
            is_kept = disk.spec.overlay or disk in emulated.values()
            image = self._kept_image(config, disk) if is_kept else None
            self.blocks.attach(domid, number, disk.spec, image=image)
        if built.kind is GuestKind.HVM:
            images = {place: self._kept_image(config, disk) for place, disk in emulated.items()}
            add_disks(self._domctl, built.domain, images, self._warn)
        for number, interface in enumerate(config.interfaces):
            backend = self.bridge(interface.bridge).backend
            backend.attach(domid, number, interface)
        self.xenstore.introduce(domid, rings.store.frame, rings.store.port)

    def remove(self, domid: int, config: GuestConfig) -> None:
        """A domain is about to be destroyed: let go of all that is its."""
        self._served.discard(domid)
        self.blocks.detach_all(domid)
        for disk in config.disks:
            if not disk.spec.overlay and (image := self._images.pop((config.name, disk.spec.vdev), None)):
                image.close()
        for address in self._elsewhere.pop(domid, ()):
            remove_device(self.keys, address)
        for bridge in self._bridges.values():
            bridge.backend.detach_all(domid)
        self.consoles.detach(domid)
        remove_guest_keys(self.keys, domid, config)
        self.xenstore.release(domid)

    def _add_devices(self, built: BuiltDomain, console: Sink) -> None:
        """What domain 0 emulates for a guest."""
        if built.kind is not GuestKind.PV:
            add_debug_port(self._domctl, built.domain, console)
        if built.kind is GuestKind.HVM:

            def add(sink: Sink) -> Serial:
                return add_pc_devices(self._domctl, built.domain, sink, self._warn)

            self.consoles.attach_serial(built.domain.domid, add, console)

    # --- networks --------------------------------------------------------------------------------

    def bridge(self, name: str) -> Bridge:
        """The switch of a name, made when it is first asked for."""
        if name not in self._bridges:
            switch = Switch(self._now)
            self._bridges[name] = Bridge(switch, NetworkBackend(self._domctl, self.keys, switch))
            if self._capture is not None:
                switch.observe(self._capture.capture)
        return self._bridges[name]

    def capture(self, path: Path) -> None:
        """Write what passes all switches to a file. Raises PvemuError: it can't be written."""
        self._capture = PcapWriter(path, self._now, self._warn)
        for bridge in self._bridges.values():
            bridge.switch.observe(self._capture.capture)

    def tap(self, name: str) -> None:
        """Plug an interface of the host into the first switch. Raises PvemuError: it can't be had."""
        self._taps.append(Tap(name, self.bridge(_FIRST_BRIDGE).switch, self._outside))

    # --- disks -----------------------------------------------------------------------------------

    @staticmethod
    def _emulated_disks(built: BuiltDomain, config: GuestConfig) -> dict[int, DiskRequest]:
        """The disks that a guest finds behind ports as well, by place. An ATA disk can't be read-only.

        Raises:
            PvemuError: two of them have one place.
        """
        found: dict[int, DiskRequest] = {}
        for disk in config.disks if built.kind is GuestKind.HVM else ():
            place = ata_place(vdev_number(disk.spec.vdev))
            if place is None or disk.backend is not None or not disk.spec.writable:
                continue
            if place in found:
                raise PvemuError(
                    f"{found[place].spec.vdev} and {disk.spec.vdev} are the same drive of a PC: "
                    f"give {config.name} disks of different letters"
                )
            found[place] = disk
        return found

    def _kept_image(self, config: GuestConfig, disk: DiskRequest) -> Image:
        """An image that several use. What is changed in an overlay is there when the guest starts again."""
        key = config.name, disk.spec.vdev
        if key not in self._images:
            self._images[key] = open_image(disk.spec)
        return self._images[key]

    def _offer_elsewhere(self, domid: int, number: int, disk: DiskRequest, peers: Mapping[str, int]) -> None:
        """Write the keys of a disk that another guest serves; all else is between the two."""
        server = peers.get(disk.backend or "")
        if server is None:
            raise PvemuError(
                f"disk {disk.spec.vdev}: no guest {disk.backend!r} runs that could serve it: "
                "name that one first"
            )
        address = DeviceAddress("vbd", domid, number, server)
        backend = {"dev": disk.spec.vdev, "mode": "w" if disk.spec.writable else "r", "type": "phy"}
        backend |= {"params": disk.spec.path, "device-type": "cdrom" if disk.spec.cdrom else "disk"}
        add_device(
            self.keys, address, backend=backend, frontend=frontend_keys(disk.spec, number, _GUEST_WORD)
        )
        self._elsewhere.setdefault(domid, []).append(address)

    # --- the machine -----------------------------------------------------------------------------

    def listen(self, path: Path) -> None:
        """Serve xenstore's clients on a Unix socket, too. Raises PvemuError: the path can't be used."""
        self.xenstore.listen(self._outside, path)

    def turn(self, domid: int | None) -> None:
        """Look at what nobody rings for; called between turns of guests, with the one that had the last."""
        if domid is not None:
            self.consoles.serve(domid)
        self.xenstore.pump()

    def close(self) -> None:
        """Close what is open to the outside."""
        for domid in self._served:
            self.blocks.detach_all(domid)
        self.xenstore.close()
        for tap in self._taps:
            tap.close()
        for image in self._images.values():
            image.close()
        if self._capture is not None:
            self._capture.close()
