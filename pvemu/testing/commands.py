"""Which commands a hypercall has, and which structure each takes, told from the ABI's names."""

from functools import cache
from typing import Final

from pvemu.abi.hypercalls import Hypercall
from pvemu.abi.structure import Structure
from pvemu.abi.vocabulary import constants, structures
from pvemu.testing.program import WORD

#: Commands after which a guest does not go on by itself.
ENDINGS: Final = {
    "sched_op": frozenset(
        ("SCHEDOP_block", "SCHEDOP_poll", "SCHEDOP_shutdown", "SCHEDOP_shutdown_code", "SCHEDOP_watchdog")
    ),
    "vcpu_op": frozenset(("VCPUOP_down",)),
    "domctl": frozenset(("XEN_DOMCTL_pausedomain", "XEN_DOMCTL_destroydomain")),
}
ENDINGS["sched_op_compat"] = ENDINGS["sched_op"]

#: What the names of a family's structures begin with.
_BEGINNINGS: Final = {
    "EVTCHNOP_": "evtchn_",
    "GNTTABOP_": "gnttab_",
    "PHYSDEVOP_": "physdev_",
    "SCHEDOP_": "sched_",
    "VCPUOP_": "vcpu_",
    "XENMEM_": "xen_",
    "XENVER_": "xen_",
    "CALLBACKOP_": "callback_",
    "XENNMI_": "xennmi_",
    "HVMOP_": "xen_hvm_",
}
#: Commands whose structure has another name than they.
_OTHER_NAMES: Final = {
    "XENMEM_increase_reservation": "xen_memory_reservation",
    "XENMEM_decrease_reservation": "xen_memory_reservation",
    "XENMEM_populate_physmap": "xen_memory_reservation",
    "XENMEM_claim_pages": "xen_memory_reservation",
    "XENMEM_exchange": "xen_memory_exchange",
    "XENMEM_current_reservation": "xen_memory_domain",
    "XENMEM_maximum_reservation": "xen_memory_domain",
    "XENMEM_maximum_gpfn": "xen_memory_domain",
    "XENMEM_machine_memory_map": "xen_memory_map",
    "XENMEM_set_memory_map": "xen_foreign_memory_map",
    "XENMEM_machphys_compat_mfn_list": "xen_machphys_mfn_list",
    "XENMEM_set_pod_target": "xen_pod_target",
    "XENMEM_get_pod_target": "xen_pod_target",
    "XENMEM_get_vnumainfo": "xen_vnuma_topology_info",
    "XENMEM_acquire_resource": "xen_mem_acquire_resource",
    "VCPUOP_initialise": "vcpu_guest_context",
    "VCPUOP_get_runstate_info": "vcpu_runstate_info",
    "VCPUOP_register_vcpu_time_memory_area": "vcpu_register_time_memory_area",
    "SCHEDOP_shutdown_code": "sched_shutdown",
    "XENVER_get_features": "xen_feature_info",
    "XENNMI_register_callback": "xennmi_callback",
    "HVMOP_set_param": "xen_hvm_param",
    "HVMOP_get_param": "xen_hvm_param",
    "PHYSDEVOP_apic_read": "physdev_apic",
    "PHYSDEVOP_apic_write": "physdev_apic",
    "PHYSDEVOP_alloc_irq_vector": "physdev_irq",
    "PHYSDEVOP_free_irq_vector": "physdev_irq",
    "PHYSDEVOP_manage_pci_add": "physdev_manage_pci",
    "PHYSDEVOP_manage_pci_remove": "physdev_manage_pci",
    "PHYSDEVOP_manage_pci_add_ext": "physdev_manage_pci_ext",
    "PHYSDEVOP_pirq_eoi_gmfn_v1": "physdev_pirq_eoi_gmfn",
    "PHYSDEVOP_pirq_eoi_gmfn_v2": "physdev_pirq_eoi_gmfn",
    "PHYSDEVOP_pci_device_remove": "physdev_pci_device",
    "PHYSDEVOP_restore_msi_ext": "physdev_pci_device",
    "PHYSDEVOP_prepare_msix": "physdev_pci_device",
    "PHYSDEVOP_release_msix": "physdev_pci_device",
}
#: Of calls that take an array or one structure for all commands.
_ARRAYS: Final = {"multicall": "multicall_entry", "set_trap_table": "trap_info"}
_WHOLES: Final = {
    "domctl": "xen_domctl",
    "sysctl": "xen_sysctl",
    "platform_op": "xen_platform_op",
    "event_channel_op_compat": "evtchn_op",
    "physdev_op_compat": "physdev_op",
}


@cache
def commands_of(row: Hypercall) -> tuple[str, ...]:
    """The constants that choose what a call does: those small numbers whose names begin as its row says."""
    if row.subcommands is None:
        return ()
    found = [
        (number, name)
        for name, number in constants(WORD).items()
        if name.startswith(row.subcommands) and name[len(row.subcommands)].islower()
    ]
    return tuple(name for _, name in sorted(found)) or tuple(
        name for name in constants(WORD) if name.startswith(row.subcommands)
    )


def array_structure(name: str) -> Structure | None:
    """What a call takes an array of; a structure of the call's own name is its request."""
    return structures().get(_ARRAYS.get(name, name))


def command_structure(row: Hypercall, command: str | None) -> Structure | None:
    """What a call's handle points to, with a command; None where that is not known."""
    known = structures()
    if row.name in _WHOLES:
        return known.get(_WHOLES[row.name])
    if command is None or row.subcommands is None:
        return None
    wanted = _BEGINNINGS.get(row.subcommands, "") + command.removeprefix(row.subcommands)
    return known.get(_OTHER_NAMES.get(command, wanted))
