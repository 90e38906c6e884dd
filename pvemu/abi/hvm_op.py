"""The operations of guests with hardware virtualisation (hvm/hvm_op.h, hvm/params.h)."""

from pvemu.abi.structure import Field, Structure

HVMOP_set_param = 0  # xen_hvm_param
HVMOP_get_param = 1  # xen_hvm_param
HVMOP_flush_tlbs = 5
HVMOP_pagetable_dying = 9  # xen_hvm_pagetable_dying
HVMOP_get_time = 10  # xen_hvm_get_time
HVMOP_xentrace = 11  # xen_hvm_xentrace
HVMOP_get_mem_type = 15  # xen_hvm_get_mem_type
HVMOP_set_evtchn_upcall_vector = 23
HVMOP_guest_request_vm_event = 24
HVMOP_altp2m = 25

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
xen_hvm_get_mem_type = Structure(
    "xen_hvm_get_mem_type",
    Field("domid", "u16"),
    Field("mem_type", "u16"),
    Field("pad", "u16", 2),
    Field("pfn", "u64"),
)
