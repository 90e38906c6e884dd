"""A guest's debug registers: what it may put into them (Xen: set_debugreg)."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.cpu.mode import CR4_DE
from pvemu.hypervisor.hypercall import hypercall, signed
from pvemu.hypervisor.vcpu import Vcpu

_DR6, _DR7 = 6, 7
#: DR4 and DR5 are other names of DR6 and DR7, unless CR4.DE takes them away.
ALIASES: Final = {4: _DR6, 5: _DR7}
_DR6_ONES, _DR6_ZEROS = 0xFFFF0FF0, 1 << 12
_DR7_ONES, _DR7_ZEROS = 0x400, 0xD800
_DR7_GENERAL_DETECT: Final = 1 << 13
_DR7_ENABLES: Final = 0xFF
_BREAK_ON_IO: Final = 2


def _register(vcpu: Vcpu, number: int) -> int:
    if number in ALIASES and not vcpu.cr4 & CR4_DE:
        return ALIASES[number]
    if number < 4 or number in (_DR6, _DR7):
        return number
    raise HypercallError(Errno.ENODEV)


@hypercall("set_debugreg")
def set_debugreg(vcpu: Vcpu, number: int, value: int) -> int:
    """Set a debug register. -ENODEV: there is none of that number; -EPERM: a bit no guest may set."""
    number = _register(vcpu, number)
    if number == _DR6:
        value = value & ~_DR6_ZEROS | _DR6_ONES
    elif number == _DR7:
        value = value & ~_DR7_ZEROS | _DR7_ONES
        if value & _DR7_GENERAL_DETECT:
            raise HypercallError(Errno.EPERM)
        breaks_on_io = any(value >> shift & 3 == _BREAK_ON_IO for shift in range(16, 32, 4))
        if value & _DR7_ENABLES and breaks_on_io and not vcpu.cr4 & CR4_DE:
            raise HypercallError(Errno.EPERM)
    vcpu.debugreg[number] = value
    return 0


@hypercall("get_debugreg")
def get_debugreg(vcpu: Vcpu, number: int) -> int:
    """The value of a debug register, which the guest sees as its result."""
    return signed(vcpu.debugreg[_register(vcpu, number)])
