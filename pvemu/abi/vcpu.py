"""The vCPU operations (vcpu.h): bringing vCPUs up and down, their timers and their shared memory areas."""

from pvemu.abi.structure import Field, Structure, Union

VCPUOP_initialise = 0  # vcpu_guest_context
VCPUOP_up = 1
VCPUOP_down = 2
VCPUOP_is_up = 3
VCPUOP_get_runstate_info = 4  # vcpu_runstate_info
VCPUOP_register_runstate_memory_area = 5  # vcpu_register_runstate_memory_area
VCPUOP_set_periodic_timer = 6  # vcpu_set_periodic_timer
VCPUOP_stop_periodic_timer = 7
VCPUOP_set_singleshot_timer = 8  # vcpu_set_singleshot_timer
VCPUOP_stop_singleshot_timer = 9
VCPUOP_register_vcpu_info = 10  # vcpu_register_vcpu_info
VCPUOP_send_nmi = 11
VCPUOP_get_physid = 12  # vcpu_get_physid
VCPUOP_register_vcpu_time_memory_area = 13  # vcpu_register_time_memory_area

RUNSTATE_running = 0
RUNSTATE_runnable = 1
RUNSTATE_blocked = 2
RUNSTATE_offline = 3
XEN_RUNSTATE_UPDATE = 1 << 63  # in state_entry_time while Xen writes the guest's copy

VCPU_SSHOTTMR_future = 1 << 0  # -ETIME if the timeout has passed

vcpu_runstate_info = Structure(
    "vcpu_runstate_info",
    Field("state", "s32"),  # RUNSTATE_*
    Field("state_entry_time", "u64"),  # system time in ns
    Field("time", "u64", 4),  # ns in each RUNSTATE_*
)
vcpu_register_runstate_memory_area = Structure(
    "vcpu_register_runstate_memory_area",
    Field("addr", Union("addr", Field("h", "ulong"), Field("v", "ulong"), Field("p", "u64"))),
)
vcpu_set_periodic_timer = Structure("vcpu_set_periodic_timer", Field("period_ns", "u64"))
vcpu_set_singleshot_timer = Structure(
    "vcpu_set_singleshot_timer",
    Field("timeout_abs_ns", "u64"),
    Field("flags", "u32"),  # VCPU_SSHOTTMR_*
)
vcpu_register_vcpu_info = Structure(
    "vcpu_register_vcpu_info",
    Field("mfn", "u64"),
    Field("offset", "u32"),  # the structure must not cross the page
    Field("rsvd", "u32"),
)
vcpu_get_physid = Structure("vcpu_get_physid", Field("phys_id", "u64"))  # APIC id low, ACPI id high
vcpu_register_time_memory_area = Structure(
    "vcpu_register_time_memory_area",
    Field("addr", Union("addr", Field("h", "ulong"), Field("v", "ulong"), Field("p", "u64"))),
)
