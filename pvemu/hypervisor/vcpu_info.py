"""Moving a vCPU's vcpu_info out of shared_info, to a page of the guest's own (VCPUOP_register_vcpu_info)."""

from typing import Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.xen import vcpu_info
from pvemu.hypervisor.guest_page import get_guest_page, put_guest_page
from pvemu.hypervisor.upcall import mark_events_pending
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

_SIZE: Final = vcpu_info.size(4)  # and of 64-bit guests


def register_vcpu_info(vcpu: Vcpu, caller: Vcpu, mfn: int, offset: int) -> None:
    """Use another place for a vCPU's vcpu_info from now on; it can't be moved again.

    All words of event ports are marked pending, so that nothing is lost that came meanwhile.

    Raises:
        HypercallError: ENXIO, it would leave the page or is not aligned; EINVAL, it was moved before, the
            vCPU is another one that is up, or the frame is not the domain's to write.
    """
    domain = vcpu.domain
    word = domain.shared_info_word
    if offset > PAGE_SIZE - _SIZE or offset % vcpu_info.alignment(word):
        raise HypercallError(Errno.ENXIO)
    if vcpu.info_frame is not None or (vcpu is not caller and vcpu.online):
        raise HypercallError(Errno.EINVAL)
    ram = domain.hypervisor.ram
    frame = get_guest_page(domain, mfn)
    place = (frame << PAGE_SHIFT) + offset
    ram.u8[place : place + _SIZE] = bytes(ram.u8[vcpu.info : vcpu.info + _SIZE])
    vcpu.info_frame = frame
    _use(vcpu, place)
    selector = place + vcpu_info.offset("evtchn_pending_sel", word)
    ram.u8[selector : selector + word] = b"\xff" * word
    mark_events_pending(vcpu)


def release_vcpu_info(vcpu: Vcpu) -> None:
    """Give the guest's page back: the domain is being destroyed."""
    if vcpu.info_frame is not None:
        _use(vcpu, vcpu.domain.hypervisor.dummy_vcpu_info)
        put_guest_page(vcpu.domain, vcpu.info_frame)
        vcpu.info_frame = None


def _use(vcpu: Vcpu, place: int) -> None:
    vcpu.info, vcpu.info16 = place, place >> 1
