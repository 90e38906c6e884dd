"""Hypercalls of HVM guests: VMMCALL, with the arguments in the registers of the mode that the vCPU is in.

VMCALL is Intel's instruction for the same, and undefined on a processor of AMD's: the guest gets #UD, as on
real Xen, which emulates it only for a guest that was told another vendor than the machine's.
"""

from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.cpu import flags, layout
from pvemu.hypervisor.continuation import Continuation
from pvemu.hypervisor.hvm.instruction_fetch import instruction_length, retire
from pvemu.hypervisor.hvm.word import word_of_mode
from pvemu.hypervisor.hypercall import ARGUMENT_INDEXES, ENOSYS, LONG_ARGUMENT_INDEXES

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_HFLAGS, _EFLAGS = layout.HFLAGS // 4, layout.EFLAGS // 8
_LOW: Final = 0xFFFFFFFF
_WHOLE: Final = (1 << 64) - 1
_EPERM: Final = -int(Errno.EPERM)


def make_hypercall(vcpu: "Vcpu") -> None:
    """One hypercall. The mode says how arguments are passed and structures are laid out.

    It is for ring 0: -EPERM elsewhere, and in virtual-8086 mode. One that stops in the middle leaves EIP on
    the instruction, with what is left of the arguments in the registers.
    """
    domain = vcpu.domain
    hypervisor = domain.hypervisor
    u32, u64 = hypervisor.cpu.window.u32, hypervisor.cpu.window.u64
    length = instruction_length(vcpu)  # first, because the call may change what can be read there
    if u32[_HFLAGS] & layout.HF_CPL or u64[_EFLAGS] & flags.VM:
        u64[layout.RAX] = _EPERM & _WHOLE
        retire(vcpu, length)
        return
    word = domain.word = word_of_mode(vcpu)
    number = u64[layout.RAX] if word == 8 else u32[2 * layout.RAX]
    entry = hypervisor.hvm_entries[word].get(number)
    result = ENOSYS
    if entry is not None:
        hypervisor.counters[number] += 1
        try:
            result = entry(vcpu, u64 if word == 8 else u32)
        except HypercallError as error:
            result = error.result
        except Continuation as continuation:
            _keep_arguments(vcpu, continuation)
            return
    if word == 8:
        u64[layout.RAX] = result & _WHOLE
    else:
        u32[2 * layout.RAX] = result & _LOW
    retire(vcpu, length)


def _keep_arguments(vcpu: "Vcpu", continuation: Continuation) -> None:
    window = vcpu.domain.hypervisor.cpu.window
    if vcpu.domain.word == 8:
        for index, argument in zip(LONG_ARGUMENT_INDEXES, continuation.words, strict=False):
            window.u64[index] = argument
    else:
        for index, argument in zip(ARGUMENT_INDEXES, continuation.words, strict=False):
            window.u32[index] = argument & _LOW
