"""The bytes of a long in an HVM guest: those of its code's mode, which shared_info keeps when told to."""

from typing import TYPE_CHECKING

from pvemu.cpu import layout

if TYPE_CHECKING:
    from pvemu.hypervisor.vcpu import Vcpu

_HFLAGS = layout.HFLAGS // 4


def word_of_mode(vcpu: "Vcpu") -> int:
    """Bytes of a long for the code that the loaded vCPU runs: 8 in 64-bit mode, else 4."""
    return 8 if vcpu.domain.hypervisor.cpu.window.u32[_HFLAGS] & layout.HF_CS64 else 4


def latch_shared_info(vcpu: "Vcpu") -> None:
    """Lay shared_info out for the mode that the guest's code runs in (Xen: hvm_latch_shinfo_size).

    Real Xen does so at what a guest does first to use the interface: filling its hypercall page, and choosing
    how it is told of events.
    """
    vcpu.domain.use_shared_info(word_of_mode(vcpu))
