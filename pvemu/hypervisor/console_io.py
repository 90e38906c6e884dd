"""The console_io hypercall: domain 0 writes to the machine's console; a domU may not (golden: console_io)."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.xen import CONSOLEIO_read, CONSOLEIO_write
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

_CHUNK: Final = 127  #: bytes that Xen copies at a time
_CHUNK_COST: Final = 2000  #: cycles of virtual time that a chunk takes
_INT_MAX: Final = (1 << 31) - 1


@hypercall("console_io")
def console_io(vcpu: Vcpu, command: int, count: int, buffer: int) -> int:
    """Write `count` bytes, or read up to as many: 0, the number read, or an error."""
    domain = vcpu.domain
    if not domain.privileged:
        raise HypercallError(Errno.EPERM)
    hypervisor = domain.hypervisor
    if command == CONSOLEIO_write:
        while count:
            if hypervisor.preempt_due():
                raise Continuation(command, count, buffer)
            hypervisor.charge(_CHUNK_COST)
            chunk = domain.memory.copy_from_guest(buffer, min(count, _CHUNK))
            hypervisor.console_output(chunk)
            buffer, count = buffer + len(chunk), count - len(chunk)
        return 0
    if command == CONSOLEIO_read:
        if count > _INT_MAX:
            raise HypercallError(Errno.E2BIG)
        taken = bytes(hypervisor.console_input[:count])
        if taken:
            domain.memory.copy_to_guest(buffer, taken)
            del hypervisor.console_input[: len(taken)]
        return len(taken)
    raise HypercallError(Errno.ENOSYS)
