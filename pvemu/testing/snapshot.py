"""A whole machine at one moment, and the way back to it: RAM, processor, hypervisor, domains and services."""

from pvemu.hypervisor.core import Hypervisor
from pvemu.testing.memory_image import MemoryImage
from pvemu.testing.object_image import ObjectImage
from pvemu.toolstack.machine import Machine


class Snapshot:
    """A machine as it is now; `reset` makes it so again, as often as wanted.

    Everything that comes after a reset depends on what is done then, and not on what was done before: the
    same calls give the same results, the same log and the same virtual times. What is outside of the machine
    (disk images, sockets, files) is not put back. What a reset costs is in docs/testing.md.

    >>> snapshot = Snapshot(machine)             # doctest: +SKIP
    >>> machine.run(0.5), snapshot.reset()       # doctest: +SKIP

    Args:
        machine: a machine, or a hypervisor alone, that is not running now.
        more: objects that belong to it and are put back with it.

    Raises:
        TypeError: it refers to something of which it is not known how to keep it.
    """

    def __init__(self, machine: Machine | Hypervisor, *more: object) -> None:
        hypervisor = machine if isinstance(machine, Hypervisor) else machine.hypervisor
        self._cpu, self._clock = hypervisor.cpu, hypervisor.clock
        self._registers = self._cpu.save()
        self._control_block = bytes(self._cpu.control_block)
        self._times = hypervisor.clock.deadline, hypervisor.clock.now
        self._memory = MemoryImage(hypervisor.ram)
        self._objects = ObjectImage((machine, *more))
        # The way back is gone once at once, so that the first run after it is like all others.
        self.reset()

    @property
    def objects(self) -> int:
        """How many Python objects are put back."""
        return self._objects.objects

    def reset(self) -> None:
        """Go back. The machine must not be running."""
        self._memory.restore()
        self._objects.restore()
        self._clock.deadline, self._clock.now = self._times
        self._cpu.control_block.cast("B")[:] = self._control_block
        self._cpu.load(self._registers)
        self._cpu.forget_interrupt_window()
        self._cpu.forget_nmi_window()
        # Among what was put back is the list of frames with translated code, and the code may be another one.
        self._cpu.engine.flush_code()
