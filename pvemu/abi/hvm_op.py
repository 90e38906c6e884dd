"""The operations of guests with hardware virtualisation (hvm/hvm_op.h, hvm/params.h)."""

from pvemu.abi.structure import Field, Structure

HVMOP_set_param = 0  # xen_hvm_param
HVMOP_get_param = 1  # xen_hvm_param
HVMOP_flush_tlbs = 5
HVMOP_pagetable_dying = 9  # xen_hvm_pagetable_dying
HVMOP_get_time = 10  # xen_hvm_get_time
HVMOP_xentrace = 11  # xen_hvm_xentrace
HVMOP_get_mem_type = 15  # xen_hvm_get_mem_type
HVMOP_set_evtchn_upcall_vector = 23  # xen_hvm_evtchn_upcall_vector
HVMOP_guest_request_vm_event = 24
HVMOP_altp2m = 25

# Parameters of a domain (HVM_PARAM_*), with what is in each.
HVM_PARAM_CALLBACK_IRQ = 0  # how events are told: HVM_PARAM_CALLBACK_TYPE_* in the highest byte
HVM_PARAM_CALLBACK_IRQ_TYPE_MASK = 0xFF << 56
HVM_PARAM_CALLBACK_TYPE_GSI = 0
HVM_PARAM_CALLBACK_TYPE_PCI_INTX = 1
HVM_PARAM_CALLBACK_TYPE_VECTOR = 2
HVM_PARAM_STORE_PFN = 1
HVM_PARAM_STORE_EVTCHN = 2
HVM_PARAM_PAE_ENABLED = 4
HVM_PARAM_IOREQ_PFN = 5
HVM_PARAM_BUFIOREQ_PFN = 6
HVM_PARAM_VIRIDIAN = 9
HVM_PARAM_TIMER_MODE = 10  # HVMPTM_*
HVMPTM_delay_for_missed_ticks = 0
HVMPTM_no_delay_for_missed_ticks = 1
HVMPTM_no_missed_ticks_pending = 2
HVMPTM_one_missed_tick_pending = 3
HVM_PARAM_HPET_ENABLED = 11
HVM_PARAM_IDENT_PT = 12  # guest-physical address
HVM_PARAM_ACPI_S_STATE = 14
HVM_PARAM_VM86_TSS = 15
HVM_PARAM_VPT_ALIGN = 16
HVM_PARAM_CONSOLE_PFN = 17
HVM_PARAM_CONSOLE_EVTCHN = 18
HVM_PARAM_ACPI_IOPORTS_LOCATION = 19
HVM_PARAM_NESTEDHVM = 24
HVM_PARAM_BUFIOREQ_EVTCHN = 26
HVM_PARAM_PAGING_RING_PFN = 27
HVM_PARAM_MONITOR_RING_PFN = 28
HVM_PARAM_SHARING_RING_PFN = 29
HVM_PARAM_TRIPLE_FAULT_REASON = 31  # SHUTDOWN_*
HVM_PARAM_IOREQ_SERVER_PFN = 32
HVM_PARAM_NR_IOREQ_SERVER_PAGES = 33
HVM_PARAM_VM_GENERATION_ID_ADDR = 34
HVM_PARAM_ALTP2M = 35
HVM_PARAM_X87_FIP_WIDTH = 36
HVM_PARAM_VM86_TSS_SIZED = 37
HVM_PARAM_MCA_CAP = 38
HVM_NR_PARAMS = 39

xen_hvm_param = Structure(
    "xen_hvm_param",
    Field("domid", "u16"),
    Field("pad", "u16"),
    Field("index", "u32"),
    Field("value", "u64"),
)
xen_hvm_pagetable_dying = Structure(
    "xen_hvm_pagetable_dying",
    Field("domid", "u16"),
    Field("pad", "u16", 3),
    Field("gpa", "u64"),
)
xen_hvm_get_time = Structure("xen_hvm_get_time", Field("now", "u64"))  # ns
xen_hvm_xentrace = Structure(
    "xen_hvm_xentrace",
    Field("event", "u16"),
    Field("extra_bytes", "u16"),
    Field("extra", "u8", 28),
)
xen_hvm_evtchn_upcall_vector = Structure(
    "xen_hvm_evtchn_upcall_vector",
    Field("vcpu", "u32"),
    Field("vector", "u8"),
)
xen_hvm_get_mem_type = Structure(
    "xen_hvm_get_mem_type",
    Field("domid", "u16"),
    Field("mem_type", "u16"),
    Field("pad", "u16", 2),
    Field("pfn", "u64"),
)
