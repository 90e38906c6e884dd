"""All families of hypercalls: importing them binds their handlers, so that the table is complete."""

from pvemu.hypervisor import (
    absent,
    console_io,
    domctl_op,
    event_channel_op,
    grant_table_op,
    hvm_op,
    memory_op,
    multicall,
    nmi_op,
    physdev_op,
    platform_op,
    sched_op,
    sysctl,
    vcpu_op,
    version,
    vm_assist,
)
from pvemu.hypervisor.hypercall import supported, table
from pvemu.hypervisor.pv import (
    callback,
    debug_registers,
    descriptor_tables,
    iret,
    misc_hypercalls,
    mmu_update,
    mmuext,
    traps,
)

__all__ = ["MODULES", "supported", "table"]

MODULES = (
    absent,
    callback,
    console_io,
    debug_registers,
    descriptor_tables,
    domctl_op,
    event_channel_op,
    grant_table_op,
    hvm_op,
    iret,
    misc_hypercalls,
    mmu_update,
    mmuext,
    memory_op,
    multicall,
    nmi_op,
    physdev_op,
    platform_op,
    sched_op,
    sysctl,
    traps,
    vcpu_op,
    version,
    vm_assist,
)
