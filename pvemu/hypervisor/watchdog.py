"""Watchdogs: a domain that does not set its own anew in time is shut down (SCHEDOP_watchdog)."""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.sched import SHUTDOWN_watchdog
from pvemu.hypervisor.timers import Timer

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

#: Watchdogs of each domain; their ids count from 1.
NR_WATCHDOGS: Final = 2
_SECOND: Final = 1_000_000_000


class Watchdogs:
    """The watchdogs of one domain."""

    def __init__(self, domain: "Domain") -> None:
        self._domain = domain
        self._timers: list[Timer | None] = [None] * NR_WATCHDOGS

    def set(self, watchdog: int, timeout: int) -> int:
        """Take a new watchdog (id 0; its id), or set an old one anew or free it (timeout 0); seconds.

        Raises:
            HypercallError: EINVAL, no such watchdog, or not taken; ENOSPC, all are taken.
        """
        if watchdog > NR_WATCHDOGS:
            raise HypercallError(Errno.EINVAL)
        if watchdog == 0:
            return self._take(timeout)
        timer = self._timers[watchdog - 1]
        if timer is None:
            raise HypercallError(Errno.EINVAL)
        if timeout:
            self._start(timer, timeout)
        else:
            timer.cancel()
            self._timers[watchdog - 1] = None
        return 0

    def _take(self, timeout: int) -> int:
        for index, timer in enumerate(self._timers):
            if timer is None:
                self._timers[index] = taken = Timer(self._domain.hypervisor.timers, self._expired)
                self._start(taken, timeout)
                return index + 1
        raise HypercallError(Errno.ENOSPC)

    def _start(self, timer: Timer, timeout: int) -> None:
        hypervisor = self._domain.hypervisor
        timer.set(hypervisor.cycle_of(hypervisor.system_time() + timeout * _SECOND))

    def _expired(self) -> None:
        domain = self._domain
        if not domain.has_shut_down and not domain.is_dying:
            domain.hypervisor.log.xen(f"Watchdog timer fired for domain {domain.domid}")
            domain.shutdown(SHUTDOWN_watchdog)

    def stop(self) -> None:
        """Free all: the domain is no more."""
        for timer in self._timers:
            if timer is not None:
                timer.cancel()
        self._timers = [None] * NR_WATCHDOGS
