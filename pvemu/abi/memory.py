"""The memory operations (memory.h): reservations, exchanges, the physical map, and where the m2p is."""

from pvemu.abi.physdev import physdev_pci_device
from pvemu.abi.structure import Field, Structure, Union

XENMEM_increase_reservation = 0  # xen_memory_reservation; the result of these three is the extents done
XENMEM_decrease_reservation = 1
XENMEM_maximum_ram_page = 2  # the result is a machine frame number
XENMEM_current_reservation = 3  # xen_memory_domain; the result is in pages
XENMEM_maximum_reservation = 4  # xen_memory_domain
XENMEM_machphys_mfn_list = 5  # xen_machphys_mfn_list
XENMEM_populate_physmap = 6  # xen_memory_reservation
XENMEM_add_to_physmap = 7  # xen_add_to_physmap
XENMEM_memory_map = 9  # xen_memory_map
XENMEM_machine_memory_map = 10  # xen_memory_map
XENMEM_exchange = 11  # xen_memory_exchange
XENMEM_machphys_mapping = 12  # xen_machphys_mapping
XENMEM_set_memory_map = 13  # xen_foreign_memory_map
XENMEM_maximum_gpfn = 14  # xen_memory_domain
XENMEM_remove_from_physmap = 15  # xen_remove_from_physmap
XENMEM_set_pod_target = 16  # xen_pod_target
XENMEM_get_pod_target = 17  # xen_pod_target
XENMEM_get_sharing_freed_pages = 18
XENMEM_get_sharing_shared_pages = 19
XENMEM_paging_op = 20
XENMEM_access_op = 21
XENMEM_sharing_op = 22
XENMEM_add_to_physmap_batch = 23  # xen_add_to_physmap_batch
XENMEM_claim_pages = 24  # xen_memory_reservation
XENMEM_machphys_compat_mfn_list = 25  # xen_machphys_mfn_list
XENMEM_get_vnumainfo = 26  # xen_vnuma_topology_info
XENMEM_reserved_device_memory_map = 27  # xen_reserved_device_memory_map
XENMEM_acquire_resource = 28  # xen_mem_acquire_resource

# xen_memory_reservation.mem_flags: address bits in 0-7, NUMA node + 1 in 8-15, and these.
XENMEMF_populate_on_demand = 1 << 16
XENMEMF_exact_node_request = 1 << 17
XENMEMF_vnode = 1 << 18

XENMAPSPACE_shared_info = 0
XENMAPSPACE_grant_table = 1
XENMAPSPACE_gmfn = 2
XENMAPSPACE_gmfn_range = 3
XENMAPSPACE_gmfn_foreign = 4
XENMAPSPACE_dev_mmio = 5
XENMAPIDX_grant_table_status = 0x80000000

XENMEM_resource_ioreq_server = 0
XENMEM_resource_grant_table = 1
XENMEM_resource_vmtrace_buf = 2
XENMEM_resource_grant_table_id_shared = 0
XENMEM_resource_grant_table_id_status = 1
XENMEM_resource_ioreq_server_frame_bufioreq = 0

XENMEM_RDM_ALL = 1

xen_memory_reservation = Structure(
    "xen_memory_reservation",
    Field("extent_start", "ulong"),  # handle of xen_pfn_t
    Field("nr_extents", "ulong"),
    Field("extent_order", "u32"),  # an extent is 2^order pages
    Field("mem_flags", "u32"),  # XENMEMF_*
    Field("domid", "u16"),
)
xen_memory_exchange = Structure(
    "xen_memory_exchange",
    Field("in", xen_memory_reservation),
    Field("out", xen_memory_reservation),
    Field("nr_exchanged", "ulong"),  # the caller sets it to 0
)
xen_memory_domain = Structure("xen_memory_domain", Field("domid", "u16"))
xen_machphys_mfn_list = Structure(
    "xen_machphys_mfn_list",
    Field("max_extents", "u32"),
    Field("extent_start", "ulong"),  # handle of xen_pfn_t, one for each 2 MiB
    Field("nr_extents", "u32"),  # out
)
xen_machphys_mapping = Structure(
    "xen_machphys_mapping",
    Field("v_start", "ulong"),
    Field("v_end", "ulong"),
    Field("max_mfn", "ulong"),
)
xen_add_to_physmap = Structure(
    "xen_add_to_physmap",
    Field("domid", "u16"),
    Field("size", "u16"),  # pages, for XENMAPSPACE_gmfn_range
    Field("space", "u32"),  # XENMAPSPACE_*
    Field("idx", "ulong"),
    Field("gpfn", "ulong"),
)
xen_add_to_physmap_batch = Structure(
    "xen_add_to_physmap_batch",
    Field("domid", "u16"),
    Field("space", "u16"),
    Field("size", "u16"),
    Field("u", Union("xen_add_to_physmap_batch_extra", Field("foreign_domid", "u16"), Field("res0", "u16"))),
    Field("idxs", "ulong"),  # handle of xen_ulong_t
    Field("gpfns", "ulong"),  # handle of xen_pfn_t
    Field("errs", "ulong"),  # handle of int
)
xen_remove_from_physmap = Structure("xen_remove_from_physmap", Field("domid", "u16"), Field("gpfn", "ulong"))
xen_memory_map = Structure(
    "xen_memory_map",
    Field("nr_entries", "u32"),
    Field("buffer", "ulong"),  # handle of e820 entries
)
xen_foreign_memory_map = Structure(
    "xen_foreign_memory_map", Field("domid", "u16"), Field("map", xen_memory_map)
)
xen_pod_target = Structure(
    "xen_pod_target",
    Field("target_pages", "u64"),
    Field("tot_pages", "u64"),
    Field("pod_cache_pages", "u64"),
    Field("pod_entries", "u64"),
    Field("domid", "u16"),
)
xen_reserved_device_memory = Structure(
    "xen_reserved_device_memory", Field("start_pfn", "ulong"), Field("nr_pages", "ulong")
)
xen_reserved_device_memory_map = Structure(
    "xen_reserved_device_memory_map",
    Field("flags", "u32"),
    Field("nr_entries", "u32"),
    Field("buffer", "ulong"),  # handle of xen_reserved_device_memory
    Field("dev", Union("dev", Field("pci", physdev_pci_device))),
)
xen_mem_acquire_resource = Structure(
    "xen_mem_acquire_resource",
    Field("domid", "u16"),
    Field("type", "u16"),  # XENMEM_resource_*
    Field("id", "u32"),
    Field("nr_frames", "u32"),
    Field("pad", "u32"),
    Field("frame", "u64"),
    Field("frame_list", "ulong"),  # handle of xen_pfn_t
)
xen_vmemrange = Structure(
    "xen_vmemrange",
    Field("start", "u64"),
    Field("end", "u64"),
    Field("flags", "u32"),
    Field("nid", "u32"),
)


def _wide_handle(name: str) -> Field:
    """A guest handle that takes 8 bytes for both kinds of guest."""
    return Field(name, Union(name, Field("h", "ulong"), Field("pad", "u64")))


xen_vnuma_topology_info = Structure(
    "xen_vnuma_topology_info",
    Field("domid", "u16"),
    Field("pad", "u16"),
    Field("nr_vnodes", "u32"),
    Field("nr_vcpus", "u32"),
    Field("nr_vmemranges", "u32"),
    _wide_handle("vdistance"),
    _wide_handle("vcpu_to_vnode"),
    _wide_handle("vmemrange"),
)
