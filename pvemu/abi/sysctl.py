"""What a privileged domain asks about the whole machine (sysctl.h)."""

from pvemu.abi.structure import Field, Structure, Union

XEN_SYSCTL_INTERFACE_VERSION = 0x15

XEN_SYSCTL_physinfo = 3  # xen_sysctl_physinfo
XEN_SYSCTL_sched_id = 4  # xen_sysctl_sched_id
XEN_SYSCTL_getdomaininfolist = 6  # xen_sysctl_getdomaininfolist
XEN_SYSCTL_getcpuinfo = 8  # xen_sysctl_getcpuinfo
XEN_SYSCTL_availheap = 9  # xen_sysctl_availheap
XEN_SYSCTL_cputopoinfo = 16  # xen_sysctl_cputopoinfo
XEN_SYSCTL_scheduler_op = 19  # xen_sysctl_scheduler_op

XEN_SYSCTL_SCHEDOP_putinfo = 0
XEN_SYSCTL_SCHEDOP_getinfo = 1
XEN_SYSCTL_PHYSCAP_pv = 1 << 1
XEN_SYSCTL_PHYSCAP_gnttab_v1 = 1 << 8
XEN_SYSCTL_PHYSCAP_gnttab_v2 = 1 << 9

xen_sysctl_physinfo = Structure(
    "xen_sysctl_physinfo",
    Field("threads_per_core", "u32"),
    Field("cores_per_socket", "u32"),
    Field("nr_cpus", "u32"),
    Field("max_cpu_id", "u32"),
    Field("nr_nodes", "u32"),
    Field("max_node_id", "u32"),
    Field("cpu_khz", "u32"),
    Field("capabilities", "u32"),  # XEN_SYSCTL_PHYSCAP_*
    Field("arch_capabilities", "u32"),
    Field("pad", "u32"),
    Field("total_pages", "u64a"),
    Field("free_pages", "u64a"),
    Field("scrub_pages", "u64a"),
    Field("outstanding_pages", "u64a"),
    Field("max_mfn", "u64a"),
    Field("hw_cap", "u32", 8),
)
xen_sysctl_sched_id = Structure("xen_sysctl_sched_id", Field("sched_id", "u32"))
xen_sysctl_getdomaininfolist = Structure(
    "xen_sysctl_getdomaininfolist",
    Field("first_domain", "u16"),
    Field("max_domains", "u32"),
    Field("buffer", "u64a"),  # handle of xen_domctl_getdomaininfo
    Field("num_domains", "u32"),  # out
)
xen_sysctl_cpuinfo = Structure("xen_sysctl_cpuinfo", Field("idletime", "u64a"))  # ns
xen_sysctl_getcpuinfo = Structure(
    "xen_sysctl_getcpuinfo",
    Field("max_cpus", "u32"),
    Field("info", "u64a"),  # handle of xen_sysctl_cpuinfo
    Field("nr_cpus", "u32"),  # out
)
xen_sysctl_availheap = Structure(
    "xen_sysctl_availheap",
    Field("min_bitwidth", "u32"),
    Field("max_bitwidth", "u32"),
    Field("node", "s32"),
    Field("avail_bytes", "u64a"),  # out
)
xen_sysctl_cputopo = Structure(
    "xen_sysctl_cputopo",
    Field("core", "u32"),
    Field("socket", "u32"),
    Field("node", "u32"),
)
xen_sysctl_cputopoinfo = Structure(
    "xen_sysctl_cputopoinfo",
    Field("num_cpus", "u32"),
    Field("cputopo", "u64a"),  # handle of xen_sysctl_cputopo
)
xen_sysctl_credit_schedule = Structure(
    "xen_sysctl_credit_schedule",
    Field("tslice_ms", "u32"),
    Field("ratelimit_us", "u32"),
    Field("vcpu_migr_delay_us", "u32"),
)
xen_sysctl_credit2_schedule = Structure("xen_sysctl_credit2_schedule", Field("ratelimit_us", "u32"))
xen_sysctl_scheduler_op = Structure(
    "xen_sysctl_scheduler_op",
    Field("cpupool_id", "u32"),
    Field("sched_id", "u32"),  # XEN_SCHEDULER_*
    Field("cmd", "u32"),  # XEN_SYSCTL_SCHEDOP_*
    Field(
        "u",
        Union(
            "u",
            Field("sched_arinc653", Structure("sched_arinc653", Field("schedule", "u64a"))),
            Field("sched_credit", xen_sysctl_credit_schedule),
            Field("sched_credit2", xen_sysctl_credit2_schedule),
        ),
    ),
)

xen_sysctl = Structure(
    "xen_sysctl",
    Field("cmd", "u32"),  # XEN_SYSCTL_*
    Field("interface_version", "u32"),
    Field(
        "u",
        Union(
            "u",
            Field("physinfo", xen_sysctl_physinfo),
            Field("sched_id", xen_sysctl_sched_id),
            Field("getdomaininfolist", xen_sysctl_getdomaininfolist),
            Field("getcpuinfo", xen_sysctl_getcpuinfo),
            Field("availheap", xen_sysctl_availheap),
            Field("cputopoinfo", xen_sysctl_cputopoinfo),
            Field("scheduler_op", xen_sysctl_scheduler_op),
            Field("pad", "u8", 128),
        ),
    ),
)
