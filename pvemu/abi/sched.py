"""The scheduler operations of a guest (sched.h): yield, block, poll, shut down."""

from pvemu.abi.structure import Field, Structure

SCHEDOP_yield = 0
SCHEDOP_block = 1  # unmasks upcalls, then sleeps until one is pending
SCHEDOP_shutdown = 2  # sched_shutdown
SCHEDOP_poll = 3  # sched_poll
SCHEDOP_remote_shutdown = 4  # sched_remote_shutdown
SCHEDOP_shutdown_code = 5  # sched_shutdown
SCHEDOP_watchdog = 6  # sched_watchdog
SCHEDOP_pin_override = 7  # sched_pin_override

SHUTDOWN_poweroff = 0
SHUTDOWN_reboot = 1
SHUTDOWN_suspend = 2
SHUTDOWN_crash = 3
SHUTDOWN_watchdog = 4
SHUTDOWN_soft_reset = 5
SHUTDOWN_MAX = 5

sched_shutdown = Structure("sched_shutdown", Field("reason", "u32"))  # SHUTDOWN_*
sched_poll = Structure(
    "sched_poll",
    Field("ports", "ulong"),  # handle of u32 ports
    Field("nr_ports", "u32"),
    Field("timeout", "u64"),  # system time in ns, 0 for none
)
sched_remote_shutdown = Structure("sched_remote_shutdown", Field("domain_id", "u16"), Field("reason", "u32"))
sched_watchdog = Structure("sched_watchdog", Field("id", "u32"), Field("timeout", "u32"))  # seconds
sched_pin_override = Structure("sched_pin_override", Field("pcpu", "s32"))
