"""What domain 0 asks about the computer it runs on (platform.h): its clock and its processors."""

from pvemu.abi.structure import Field, Structure, Union

XENPF_INTERFACE_VERSION = 0x03000001

XENPF_settime32 = 17  # xenpf_settime32
XENPF_get_cpuinfo = 55  # xenpf_pcpuinfo
XENPF_cpu_online = 56  # xenpf_cpu_ol
XENPF_cpu_offline = 57  # xenpf_cpu_ol
XENPF_settime64 = 62  # xenpf_settime64

XEN_PCPU_FLAGS_ONLINE = 1
XEN_PCPU_FLAGS_INVALID = 2

xenpf_settime32 = Structure(
    "xenpf_settime32",
    Field("secs", "u32"),
    Field("nsecs", "u32"),
    Field("system_time", "u64"),  # ns: when it is that late
)
xenpf_settime64 = Structure(
    "xenpf_settime64",
    Field("secs", "u64"),
    Field("nsecs", "u32"),
    Field("mbz", "u32"),
    Field("system_time", "u64"),  # ns: when it is that late
)
xenpf_pcpuinfo = Structure(
    "xenpf_pcpuinfo",
    Field("xen_cpuid", "u32"),
    Field("max_present", "u32"),  # out, as all that follows
    Field("flags", "u32"),  # XEN_PCPU_FLAGS_*
    Field("apic_id", "u32"),
    Field("acpi_id", "u32"),
)
xenpf_cpu_ol = Structure("xenpf_cpu_ol", Field("cpuid", "u32"))
xen_platform_op = Structure(
    "xen_platform_op",
    Field("cmd", "u32"),  # XENPF_*
    Field("interface_version", "u32"),
    Field(
        "u",
        Union(
            "u",
            Field("settime32", xenpf_settime32),
            Field("settime64", xenpf_settime64),
            Field("pcpu_info", xenpf_pcpuinfo),
            Field("cpu_ol", xenpf_cpu_ol),
            Field("pad", "u8", 128),
        ),
    ),
)
