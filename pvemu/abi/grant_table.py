"""The grant table operations (grant_table.h), and both forms of the entries that a domain grants with."""

from pvemu.abi.structure import Field, Structure, Union

GNTTABOP_map_grant_ref = 0
GNTTABOP_unmap_grant_ref = 1
GNTTABOP_setup_table = 2
GNTTABOP_dump_table = 3
GNTTABOP_transfer = 4
GNTTABOP_copy = 5
GNTTABOP_query_size = 6
GNTTABOP_unmap_and_replace = 7
GNTTABOP_set_version = 8
GNTTABOP_get_status_frames = 9
GNTTABOP_get_version = 10
GNTTABOP_swap_grant_ref = 11
GNTTABOP_cache_flush = 12

GNTTAB_NR_RESERVED_ENTRIES = 8
GNTTAB_RESERVED_CONSOLE = 0
GNTTAB_RESERVED_XENSTORE = 1

# grant_entry_header.flags: a type in the lowest two bits.
GTF_invalid = 0
GTF_permit_access = 1
GTF_accept_transfer = 2
GTF_transitive = 3
GTF_type_mask = 3

# With GTF_permit_access. In version 2 reading and writing are in the status frames.
GTF_readonly = 1 << 2
GTF_reading = 1 << 3
GTF_writing = 1 << 4
GTF_PWT = 1 << 5
GTF_PCD = 1 << 6
GTF_PAT = 1 << 7
GTF_sub_page = 1 << 8

# With GTF_accept_transfer.
GTF_transfer_committed = 1 << 2
GTF_transfer_completed = 1 << 3

GNTMAP_device_map = 1 << 0
GNTMAP_host_map = 1 << 1
GNTMAP_readonly = 1 << 2
GNTMAP_application_map = 1 << 3
GNTMAP_contains_pte = 1 << 4
GNTMAP_guest_avail_mask = 0xFFFF0000

GNTCOPY_source_gref = 1 << 0
GNTCOPY_dest_gref = 1 << 1

GNTTAB_CACHE_CLEAN = 1 << 0
GNTTAB_CACHE_INVAL = 1 << 1
GNTTAB_CACHE_SOURCE_GREF = 1 << 31

# The status of one operation of a batch.
GNTST_okay = 0
GNTST_general_error = -1
GNTST_bad_domain = -2
GNTST_bad_gntref = -3
GNTST_bad_handle = -4
GNTST_bad_virt_addr = -5
GNTST_bad_dev_addr = -6
GNTST_no_device_space = -7
GNTST_permission_denied = -8
GNTST_bad_page = -9
GNTST_bad_copy_arg = -10
GNTST_address_too_big = -11
GNTST_eagain = -12
GNTST_no_space = -13

grant_entry_v1 = Structure(
    "grant_entry_v1",
    Field("flags", "u16"),  # GTF_*
    Field("domid", "u16"),
    Field("frame", "u32"),
)
grant_entry_header = Structure("grant_entry_header", Field("flags", "u16"), Field("domid", "u16"))
grant_entry_v2 = Union(
    "grant_entry_v2",
    Field("hdr", grant_entry_header),
    Field(
        "full_page",
        Structure("full_page", Field("hdr", grant_entry_header), Field("pad0", "u32"), Field("frame", "u64")),
    ),
    Field(
        "sub_page",
        Structure(
            "sub_page",
            Field("hdr", grant_entry_header),
            Field("page_off", "u16"),
            Field("length", "u16"),
            Field("frame", "u64"),
        ),
    ),
    Field(
        "transitive",
        Structure(
            "transitive",
            Field("hdr", grant_entry_header),
            Field("trans_domid", "u16"),
            Field("pad0", "u16"),
            Field("gref", "u32"),
        ),
    ),
    Field("__spacer", "u32", 4),
)

gnttab_map_grant_ref = Structure(
    "gnttab_map_grant_ref",
    Field("host_addr", "u64"),  # a linear address; with GNTMAP_contains_pte a machine address
    Field("flags", "u32"),  # GNTMAP_*
    Field("ref", "u32"),
    Field("dom", "u16"),
    Field("status", "s16"),  # out, as all that follows
    Field("handle", "u32"),
    Field("dev_bus_addr", "u64"),
)
gnttab_unmap_grant_ref = Structure(
    "gnttab_unmap_grant_ref",
    Field("host_addr", "u64"),
    Field("dev_bus_addr", "u64"),
    Field("handle", "u32"),
    Field("status", "s16"),  # out
)
gnttab_setup_table = Structure(
    "gnttab_setup_table",
    Field("dom", "u16"),
    Field("nr_frames", "u32"),
    Field("status", "s16"),  # out
    Field("frame_list", "ulong"),  # handle of xen_pfn_t
)
gnttab_dump_table = Structure("gnttab_dump_table", Field("dom", "u16"), Field("status", "s16"))
gnttab_transfer = Structure(
    "gnttab_transfer",
    Field("mfn", "ulong"),
    Field("domid", "u16"),
    Field("ref", "u32"),
    Field("status", "s16"),  # out
)
gnttab_copy_ptr = Structure(
    "gnttab_copy_ptr",
    Field("u", Union("u", Field("ref", "u32"), Field("gmfn", "ulong"))),
    Field("domid", "u16"),
    Field("offset", "u16"),
)
gnttab_copy = Structure(
    "gnttab_copy",
    Field("source", gnttab_copy_ptr),
    Field("dest", gnttab_copy_ptr),
    Field("len", "u16"),
    Field("flags", "u16"),  # GNTCOPY_*
    Field("status", "s16"),  # out
)
gnttab_query_size = Structure(
    "gnttab_query_size",
    Field("dom", "u16"),
    Field("nr_frames", "u32"),  # out, as all that follows
    Field("max_nr_frames", "u32"),
    Field("status", "s16"),
)
gnttab_unmap_and_replace = Structure(
    "gnttab_unmap_and_replace",
    Field("host_addr", "u64"),
    Field("new_addr", "u64"),
    Field("handle", "u32"),
    Field("status", "s16"),  # out
)
gnttab_set_version = Structure("gnttab_set_version", Field("version", "u32"))
gnttab_get_status_frames = Structure(
    "gnttab_get_status_frames",
    Field("nr_frames", "u32"),
    Field("dom", "u16"),
    Field("status", "s16"),  # out
    Field("frame_list", "ulong"),  # handle of uint64_t
)
gnttab_get_version = Structure(
    "gnttab_get_version",
    Field("dom", "u16"),
    Field("pad", "u16"),
    Field("version", "u32"),  # out
)
gnttab_swap_grant_ref = Structure(
    "gnttab_swap_grant_ref",
    Field("ref_a", "u32"),
    Field("ref_b", "u32"),
    Field("status", "s16"),  # out
)
gnttab_cache_flush = Structure(
    "gnttab_cache_flush",
    Field("a", Union("a", Field("dev_bus_addr", "u64"), Field("ref", "u32"))),
    Field("offset", "u16"),
    Field("length", "u16"),
    Field("op", "u32"),  # GNTTAB_CACHE_*
)
