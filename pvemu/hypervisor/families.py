"""All families of hypercalls: importing them binds their handlers, so that the table is complete."""

from pvemu.hypervisor import (
    console_io,
    event_channel,
    memory_op,
    multicall,
    sched_op,
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
    callback,
    console_io,
    debug_registers,
    descriptor_tables,
    event_channel,
    iret,
    misc_hypercalls,
    mmu_update,
    mmuext,
    memory_op,
    multicall,
    sched_op,
    traps,
    vcpu_op,
    version,
    vm_assist,
)
