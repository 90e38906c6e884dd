"""The multicall hypercall: several hypercalls for the price of one trap."""

import struct
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.xen import multicall_entry
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hypercall import PackedWords, hypercall
from pvemu.hypervisor.vcpu import Vcpu

_ENTRY: Final = struct.Struct("<8I")
_RESULT_OFFSET: Final = multicall_entry.offset("result", 4)
_ARGUMENTS_OFFSET: Final = multicall_entry.offset("args", 4)
#: Cycles of virtual time that one entry takes, besides what its hypercall does.
_ENTRY_COST: Final = 500
_IRET: Final = BY_NAME["iret"].number


@hypercall("multicall")
def multicall(vcpu: Vcpu, call_list: int, count: int) -> int:
    """Run the entries in order; each one's result goes into the entry (golden: multicall).

    -EINVAL inside another multicall; -EFAULT when an entry can't be read or its result not written, after
    those before it have run.
    """
    domain = vcpu.domain
    if vcpu.in_multicall:
        raise HypercallError(Errno.EINVAL)
    vcpu.in_multicall = True
    try:
        for index in range(count):
            at = call_list + index * _ENTRY.size
            if index and domain.hypervisor.preempt_due():
                raise Continuation(at, count - index)
            domain.hypervisor.charge(_ENTRY_COST)
            number, _, *words = _ENTRY.unpack(domain.memory.copy_from_guest(at, _ENTRY.size))
            try:
                result = domain.hypervisor.call(vcpu, number, PackedWords(words))
            except Continuation as stopped:
                left = struct.pack(f"<{len(stopped.words)}I", *stopped.words)
                domain.memory.copy_to_guest(at + _ARGUMENTS_OFFSET, left)
                raise Continuation(at, count - index) from None
            if domain.has_shut_down:
                return result
            domain.memory.write_u32(at + _RESULT_OFFSET, result & 0xFFFFFFFF)
            if number == _IRET:  # the frame says where the guest goes on: what follows is not run
                return result
    finally:
        vcpu.in_multicall = False
    return 0
