"""The multicall hypercall: several hypercalls for the price of one trap."""

import struct
from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.xen import multicall_entry
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hypercall import ARGUMENT_INDEXES, LONG_ARGUMENT_INDEXES, PackedWords, hypercall
from pvemu.hypervisor.vcpu import Vcpu

#: By the bytes of a word: an entry, and what to read its arguments as.
_ENTRIES: Final = {4: struct.Struct("<8I"), 8: struct.Struct("<8Q")}
_INDEXES: Final = {4: ARGUMENT_INDEXES, 8: LONG_ARGUMENT_INDEXES}
#: Cycles of virtual time that one entry takes, besides what its hypercall does.
_ENTRY_COST: Final = 500
_IRET: Final = BY_NAME["iret"].number


@hypercall("multicall")
def multicall(vcpu: Vcpu, call_list: int, count: int) -> int:
    """Run the entries in order; each one's result goes into the entry (golden: multicall).

    -EINVAL inside another multicall; -EFAULT when an entry can't be read or its result not written, after
    those before it have run.
    """
    domain, word = vcpu.domain, vcpu.domain.word
    entry, indexes, mask = _ENTRIES[word], _INDEXES[word], (1 << 8 * word) - 1
    if vcpu.in_multicall:
        raise HypercallError(Errno.EINVAL)
    vcpu.in_multicall = True
    try:
        for index in range(count):
            at = call_list + index * entry.size
            if index and domain.hypervisor.preempt_due():
                raise Continuation(at, count - index)
            domain.hypervisor.charge(_ENTRY_COST)
            number, _, *words = entry.unpack(domain.memory.copy_from_guest(at, entry.size))
            try:
                result = domain.hypervisor.call(vcpu, number, PackedWords(words, indexes))
            except Continuation as stopped:
                left = b"".join((part & mask).to_bytes(word, "little") for part in stopped.words)
                domain.memory.copy_to_guest(at + multicall_entry.offset("args", word), left)
                raise Continuation(at, count - index) from None
            if domain.has_shut_down:
                return result
            place = at + multicall_entry.offset("result", word)
            domain.memory.copy_to_guest(place, (result & mask).to_bytes(word, "little"))
            if number == _IRET:  # the frame says where the guest goes on: what follows is not run
                return result
    finally:
        vcpu.in_multicall = False
    return 0
