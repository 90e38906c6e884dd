"""Where the hypervisor calls the guest's kernel: events, failed returns, system calls, NMIs."""

from typing import Final

from pvemu.abi.callback import (
    CALLBACKF_mask_events,
    CALLBACKOP_register,
    CALLBACKOP_unregister,
    CALLBACKTYPE_event,
    CALLBACKTYPE_failsafe,
    CALLBACKTYPE_nmi,
    CALLBACKTYPE_syscall32,
    CALLBACKTYPE_sysenter,
    callback_register,
    callback_unregister,
)
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.nmi_op import register_nmi_callback, unregister_nmi_callback
from pvemu.hypervisor.pv.traps import guest_selector
from pvemu.hypervisor.vcpu import Callback, Vcpu

#: The callbacks of a 32-bit guest and where each is kept.
_PLACES: Final = {
    CALLBACKTYPE_event: "event_callback",
    CALLBACKTYPE_failsafe: "failsafe_callback",
    CALLBACKTYPE_syscall32: "syscall32_callback",
    CALLBACKTYPE_sysenter: "sysenter_callback",
}


def _register(vcpu: Vcpu, kind: int, selector: int, address: int, masks_events: bool) -> int:
    if kind == CALLBACKTYPE_nmi:
        register_nmi_callback(vcpu, address)
    elif kind in _PLACES:
        setattr(vcpu, _PLACES[kind], Callback(guest_selector(selector), address, masks_events))
    else:
        raise HypercallError(Errno.ENOSYS)
    return 0


def _unregister(vcpu: Vcpu, kind: int) -> int:
    """Only the NMI callback can be taken back."""
    if kind in _PLACES:
        raise HypercallError(Errno.EINVAL)
    if kind != CALLBACKTYPE_nmi:
        raise HypercallError(Errno.ENOSYS)
    unregister_nmi_callback(vcpu)
    return 0


@hypercall("set_callbacks")
def set_callbacks(
    vcpu: Vcpu, event_selector: int, event_address: int, failsafe_selector: int, failsafe_address: int
) -> int:
    """Register the event and the failsafe callback at once."""
    _register(vcpu, CALLBACKTYPE_event, event_selector, event_address, False)
    return _register(vcpu, CALLBACKTYPE_failsafe, failsafe_selector, failsafe_address, False)


@hypercall("callback_op")
def callback_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Register or unregister one callback.

    An unknown command is -EINVAL for a 32-bit guest (golden: callback_op-cmd-2).
    """
    domain = vcpu.domain
    if command == CALLBACKOP_register:
        raw = domain.memory.copy_from_guest(argument, callback_register.size(domain.word))
        wanted = callback_register.unpack(domain.word, raw)
        masks = bool(wanted.flags & CALLBACKF_mask_events)
        return _register(vcpu, wanted.type, wanted.address.cs, wanted.address.eip, masks)
    if command == CALLBACKOP_unregister:
        raw = domain.memory.copy_from_guest(argument, callback_unregister.size(domain.word))
        return _unregister(vcpu, callback_unregister.unpack(domain.word, raw).type)
    raise HypercallError(Errno.EINVAL)
