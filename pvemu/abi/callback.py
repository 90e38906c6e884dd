"""Where Xen enters the guest kernel (callback.h): events, failed returns, system calls, NMIs."""

from pvemu.abi.arch_x86 import xen_callback
from pvemu.abi.structure import Field, Structure

CALLBACKOP_register = 0  # callback_register
CALLBACKOP_unregister = 1  # callback_unregister

CALLBACKTYPE_event = 0
CALLBACKTYPE_failsafe = 1
CALLBACKTYPE_syscall = 2  # x86_64 only
CALLBACKTYPE_sysenter_deprecated = 3
CALLBACKTYPE_nmi = 4
CALLBACKTYPE_sysenter = 5
CALLBACKTYPE_syscall32 = 7

CALLBACKF_mask_events = 1 << 0  # implied for event and NMI callbacks

callback_register = Structure(
    "callback_register",
    Field("type", "u16"),  # CALLBACKTYPE_*
    Field("flags", "u16"),  # CALLBACKF_*
    Field("address", xen_callback, only=4),
    Field("address", "ulong", only=8),
)
callback_unregister = Structure("callback_unregister", Field("type", "u16"), Field("_unused", "u16"))
