"""Time as a guest sees it: system time and TSC are both the machine's virtual clock.

A guest computes system time from the TSC and the numbers in its vcpu_time_info (public header xen.h).
"""

import struct
from typing import TYPE_CHECKING, Final

from pvemu.abi.word import WORDS
from pvemu.abi.xen import shared_info, vcpu_info
from pvemu.cpu.clock import CYCLES_PER_SECOND
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

NANOSECONDS_PER_SECOND: Final = 1_000_000_000
#: Period of the timer that every PV vCPU starts with.
DEFAULT_PERIOD: Final = 10_000_000

_TIME: Final = vcpu_info.offset("time", 4)
_TIME_SIZE: Final = 32
#: tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags.
_FIELDS: Final = struct.Struct("<QQIbB")
_FIELDS_OFFSET: Final = 8
#: By the bytes of a long: where the wallclock is, and the upper half of its seconds.
_WALLCLOCK: Final = {word: shared_info.offset("wc_version", word) for word in WORDS}
_WALLCLOCK_HIGH: Final = {4: shared_info.offset("arch.wc_sec_hi", 4), 8: shared_info.offset("wc_sec_hi", 8)}


def _scale() -> tuple[int, int]:
    """Multiplier (a 32-bit binary fraction) and shift that turn cycles into nanoseconds."""
    shift, frequency = 0, CYCLES_PER_SECOND
    while frequency > 2 * NANOSECONDS_PER_SECOND:
        frequency, shift = frequency >> 1, shift - 1
    while frequency <= NANOSECONDS_PER_SECOND:
        frequency, shift = frequency << 1, shift + 1
    return (NANOSECONDS_PER_SECOND << 32) // frequency, shift


_MULTIPLIER, _SHIFT = _scale()


def update_time(vcpu: Vcpu, now: int) -> None:
    """Write the time into the vCPU's vcpu_time_info; its version moves to the next even number.

    The guest's own copy (VCPUOP_register_vcpu_time_memory_area) gets the same, if it can be written.

    Args:
        now: the machine's cycle, which is system time as well, for each takes a nanosecond. With it goes what
            the guest's own counter shows then.
    """
    ram = vcpu.domain.hypervisor.ram
    at = vcpu.info + _TIME
    version = ram.u32[at >> 2]
    cycle = vcpu.hvm.tsc_at(now) if vcpu.domain.is_hvm else now
    _FIELDS.pack_into(ram.u8, at + _FIELDS_OFFSET, cycle, now, _MULTIPLIER, _SHIFT, 0)
    ram.u32[at >> 2] = (version | 1) + 1 & 0xFFFFFFFF
    if vcpu.time_area:
        try:
            vcpu.domain.memory.copy_to_guest(vcpu.time_area, bytes(ram.u8[at : at + _TIME_SIZE]))
        except GuestFault:
            return


def write_wallclock(domain: "Domain", seconds: int, nanoseconds: int = 0) -> None:
    """Write the Unix time at system time 0 into the domain's shared_info; its version moves to the next even.

    Args:
        seconds: 64 bits of them; nanoseconds: the rest.
    """
    ram, word = domain.hypervisor.ram, domain.shared_info_word
    at = domain.shared_info + _WALLCLOCK[word]
    version = ((ram.u32[at >> 2] | 1) + 1) & 0xFFFFFFFF
    struct.pack_into("<III", ram.u8, at, version, seconds & 0xFFFFFFFF, nanoseconds)
    ram.u32[domain.shared_info + _WALLCLOCK_HIGH[word] >> 2] = seconds >> 32 & 0xFFFFFFFF
