"""Hypercalls of a toolstack whose structure begins with a command and a version: sysctl and platform_op."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.structure import Structure
from pvemu.hypervisor.guest_structure import copy_back
from pvemu.hypervisor.vcpu import Vcpu

#: Command -> its structure, what carries it out, whether the structure is written back.
Commands = Mapping[int, tuple[Structure, Callable[[Vcpu, Any], None], bool]]

_HEADER: Final = 8


def carry_out_versioned(vcpu: Vcpu, argument: int, whole: Structure, version: int, commands: Commands) -> int:
    """Carry out the command at an address of the guest; 0.

    Args:
        whole: the structure with its header and room for every command's own.

    Raises:
        HypercallError: in this order: EFAULT; EACCES, another version; EPERM, not privileged; ENOSYS; or
            what the command says.
    """
    domain = vcpu.domain
    memory, word = domain.memory, domain.word
    raw = memory.copy_from_guest(argument, whole.size(word))
    command, given = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4))
    if given != version:
        raise HypercallError(Errno.EACCES)
    if not domain.privileged:
        raise HypercallError(Errno.EPERM)
    if command not in commands:
        raise HypercallError(Errno.ENOSYS)
    structure, carry_out, writes_back = commands[command]
    op = structure.unpack(word, raw[_HEADER:])
    carry_out(vcpu, op)
    if writes_back:
        copy_back(domain, structure, argument + _HEADER, op)
    return 0
