"""One guest of a machine: its plan, the domain that runs it now, and how it has ended."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pvemu.abi.sched import SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot, SHUTDOWN_watchdog
from pvemu.hypervisor.domain import Domain
from pvemu.toolstack.guest_config import Action, GuestConfig


class Outcome(Enum):
    """How a guest, or a run, ended."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    SUSPEND = "suspend"
    CRASH = "crash"
    DEADLINE = "deadline"
    IDLE = "idle"


_BY_REASON: Final = {
    SHUTDOWN_poweroff: Outcome.POWEROFF,
    SHUTDOWN_reboot: Outcome.REBOOT,
    SHUTDOWN_crash: Outcome.CRASH,
    SHUTDOWN_watchdog: Outcome.CRASH,
}


@dataclass
class Guest:
    """A guest.

    Attributes:
        console: takes what it prints.
        domain: the domain that runs it, or ran it last.
        reason: the SHUTDOWN_* number with which it has ended; None while it runs.
        boots: how often it was started.
    """

    config: GuestConfig
    console: Callable[[bytes], None]
    domain: Domain
    reason: int | None = None
    boots: int = 1

    @property
    def outcome(self) -> Outcome | None:
        """How it has ended; None while it runs."""
        return None if self.reason is None else _BY_REASON.get(self.reason, Outcome.SUSPEND)

    @property
    def action(self) -> Action:
        """What its plan wants to become of it, now that it has ended."""
        actions = {
            Outcome.POWEROFF: self.config.on_poweroff,
            Outcome.REBOOT: self.config.on_reboot,
            Outcome.CRASH: self.config.on_crash,
        }
        outcome = self.outcome
        return Action.PRESERVE if outcome is None else actions.get(outcome, Action.PRESERVE)
