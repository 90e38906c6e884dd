"""The multicall hypercall: several hypercalls for the price of one trap."""

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.hypercalls import BY_NAME
from pvemu.abi.xen import multicall_entry
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hypercall import (
    ARGUMENT_INDEXES,
    ENOSYS,
    LONG_ARGUMENT_INDEXES,
    Handler,
    made_hypercall,
)
from pvemu.hypervisor.vcpu import Vcpu

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor

#: Cycles of virtual time that one entry takes, besides what its hypercall does.
_ENTRY_COST: Final = 500
_IRET: Final = BY_NAME["iret"].number
_REGISTERS: Final = 16


class _Layout(NamedTuple):
    """An entry in memory, for one size of a word.

    Attributes:
        entry: number, result and six arguments, of which no hypercall takes the last.
        size: its bytes; result_at, arguments_at: where in it those are.
        mask: the bits of a result, which is written without its sign.
        indexes: where a handler looks for each of the five arguments.
    """

    entry: struct.Struct
    size: int
    result_at: int
    arguments_at: int
    mask: int
    indexes: tuple[int, int, int, int, int]

    @classmethod
    def of(cls, word: int, letter: str, indexes: tuple[int, int, int, int, int]) -> "_Layout":
        """The layout for words of so many bytes, with their letter for `struct`."""
        return cls(
            struct.Struct(f"<8{letter}"),
            multicall_entry.size(word),
            multicall_entry.offset("result", word),
            multicall_entry.offset("args", word),
            (1 << 8 * word) - 1,
            indexes,
        )


_LAYOUTS: Final = {4: _Layout.of(4, "I", ARGUMENT_INDEXES), 8: _Layout.of(8, "Q", LONG_ARGUMENT_INDEXES)}


def _packed(words: Sequence[int], size: int) -> bytes:
    mask = (1 << 8 * size) - 1
    return b"".join((word & mask).to_bytes(size, "little") for word in words)


@made_hypercall("multicall")
def make_multicall(hypervisor: "Hypervisor") -> Handler:
    """Make the handler of multicall for a machine."""
    left, counters, u16 = hypervisor.clock.left, hypervisor.counters, hypervisor.ram.u16

    def multicall(vcpu: Vcpu, call_list: int, count: int) -> int:
        """Run the entries in order; each one's result goes into the entry (golden: multicall).

        -EINVAL inside another multicall; -EFAULT when an entry can't be read or its result not written, after
        those before it have run. An upcall that comes due comes between two entries.
        """
        domain = vcpu.domain
        entry, size, result_at, arguments_at, mask, indexes = _LAYOUTS[domain.word]
        a, b, c, d, e = indexes
        memory, words = domain.memory, [0] * _REGISTERS
        unpack, write = memory.unpack, memory.write_u32 if domain.word == 4 else memory.write_u64
        entry_of = (hypervisor.hvm_entries[domain.word] if domain.is_hvm else domain.hypercalls).get
        if vcpu.in_multicall:
            raise HypercallError(Errno.EINVAL)
        vcpu.in_multicall = True
        # Hypervisor.hypercall_preempt_check, written out: it is asked before every entry.
        takes_upcalls, pending_and_mask = not domain.is_hvm, vcpu.info16
        try:
            for index in range(count):
                at = call_list + index * size
                if index and (left[0] < 0 or (takes_upcalls and 0 < u16[pending_and_mask] < 0x100)):
                    raise Continuation(at, count - index)
                left[0] -= _ENTRY_COST
                number, _, words[a], words[b], words[c], words[d], words[e], _ = unpack(at, entry)
                handler = entry_of(number)
                try:
                    if handler is None:
                        result = ENOSYS
                    else:
                        counters[number] += 1
                        result = handler(vcpu, words)
                except HypercallError as error:
                    result = error.result
                except Continuation as stopped:
                    memory.copy_to_guest(at + arguments_at, _packed(stopped.words, domain.word))
                    raise Continuation(at, count - index) from None
                if domain.shutdown_reason is not None:
                    return result
                write(at + result_at, result & mask)
                if number == _IRET:  # the frame says where the guest goes on: what follows is not run
                    return result
        finally:
            vcpu.in_multicall = False
        return 0

    return multicall
