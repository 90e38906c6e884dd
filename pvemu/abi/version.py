"""What a guest may ask about the hypervisor it runs on (version.h)."""

from pvemu.abi.structure import Field, Structure

XENVER_version = 0  # no argument; the result is major << 16 | minor
XENVER_extraversion = 1  # char[XEN_EXTRAVERSION_LEN]
XENVER_compile_info = 2  # xen_compile_info
XENVER_capabilities = 3  # char[XEN_CAPABILITIES_INFO_LEN]
XENVER_changeset = 4  # char[XEN_CHANGESET_INFO_LEN]
XENVER_platform_parameters = 5  # xen_platform_parameters
XENVER_get_features = 6  # xen_feature_info
XENVER_pagesize = 7  # no argument; the result is the size in bytes
XENVER_guest_handle = 8  # u8[16], the domain's UUID
XENVER_commandline = 9  # char[1024]
XENVER_build_id = 10  # xen_build_id; the result is the number of bytes written

XEN_EXTRAVERSION_LEN = 16
XEN_CAPABILITIES_INFO_LEN = 1024
XEN_CHANGESET_INFO_LEN = 64

xen_compile_info = Structure(
    "xen_compile_info",
    Field("compiler", "char", 64),
    Field("compile_by", "char", 16),
    Field("compile_domain", "char", 32),
    Field("compile_date", "char", 32),
)
xen_platform_parameters = Structure("xen_platform_parameters", Field("virt_start", "ulong"))
xen_feature_info = Structure(
    "xen_feature_info",
    Field("submap_idx", "u32"),  # in
    Field("submap", "u32"),  # out: bits XENFEAT_*
)
xen_build_id = Structure("xen_build_id", Field("len", "u32"), Field("buf", "u8", 0))
