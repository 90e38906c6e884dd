"""What a privileged domain asks about one domain (domctl.h): making it, filling it, running it, ending it."""

from pvemu.abi.structure import Field, Structure, Union

XEN_DOMCTL_INTERFACE_VERSION = 0x15

XEN_DOMCTL_createdomain = 1  # xen_domctl_createdomain
XEN_DOMCTL_destroydomain = 2
XEN_DOMCTL_pausedomain = 3
XEN_DOMCTL_unpausedomain = 4
XEN_DOMCTL_getdomaininfo = 5  # xen_domctl_getdomaininfo
XEN_DOMCTL_setvcpuaffinity = 9  # xen_domctl_vcpuaffinity
XEN_DOMCTL_shadow_op = 10  # xen_domctl_shadow_op
XEN_DOMCTL_max_mem = 11  # xen_domctl_max_mem
XEN_DOMCTL_setvcpucontext = 12  # xen_domctl_vcpucontext
XEN_DOMCTL_getvcpucontext = 13  # xen_domctl_vcpucontext
XEN_DOMCTL_getvcpuinfo = 14  # xen_domctl_getvcpuinfo
XEN_DOMCTL_max_vcpus = 15  # xen_domctl_max_vcpus
XEN_DOMCTL_scheduler_op = 16  # xen_domctl_scheduler_op
XEN_DOMCTL_setdomainhandle = 17  # xen_domctl_setdomainhandle
XEN_DOMCTL_hypercall_init = 22  # xen_domctl_hypercall_init
XEN_DOMCTL_getvcpuaffinity = 25  # xen_domctl_vcpuaffinity
XEN_DOMCTL_resumedomain = 27
XEN_DOMCTL_set_address_size = 35  # xen_domctl_address_size
XEN_DOMCTL_get_address_size = 36  # xen_domctl_address_size
XEN_DOMCTL_getpageframeinfo3 = 61  # xen_domctl_getpageframeinfo3
XEN_DOMCTL_set_virq_handler = 66  # xen_domctl_set_virq_handler

# xen_domctl_createdomain.flags
XEN_DOMCTL_CDF_hvm = 1 << 0
XEN_DOMCTL_CDF_hap = 1 << 1
XEN_DOMCTL_CDF_s3_integrity = 1 << 2
XEN_DOMCTL_CDF_oos_off = 1 << 3
XEN_DOMCTL_CDF_xs_domain = 1 << 4
XEN_DOMCTL_CDF_iommu = 1 << 5
XEN_DOMCTL_CDF_nested_virt = 1 << 6
XEN_DOMCTL_CDF_vpmu = 1 << 7

# xen_domctl_getdomaininfo.flags
XEN_DOMINF_dying = 1 << 0
XEN_DOMINF_hvm_guest = 1 << 1
XEN_DOMINF_shutdown = 1 << 2
XEN_DOMINF_paused = 1 << 3
XEN_DOMINF_blocked = 1 << 4
XEN_DOMINF_running = 1 << 5
XEN_DOMINF_debugged = 1 << 6
XEN_DOMINF_xs_domain = 1 << 7
XEN_DOMINF_hap = 1 << 8
XEN_DOMINF_shutdownmask = 0xFF
XEN_DOMINF_shutdownshift = 16
XEN_INVALID_MAX_VCPU_ID = 0xFFFFFFFF
XEN_CPUID_INPUT_UNUSED = 0xFFFFFFFF

# xen_domctl_vcpuaffinity.flags
XEN_VCPUAFFINITY_HARD = 1 << 0
XEN_VCPUAFFINITY_SOFT = 1 << 1
XEN_VCPUAFFINITY_FORCE = 1 << 2

# xen_domctl_shadow_op.op
XEN_DOMCTL_SHADOW_OP_OFF = 0
XEN_DOMCTL_SHADOW_OP_ENABLE_TEST = 1
XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY = 2
XEN_DOMCTL_SHADOW_OP_CLEAN = 11
XEN_DOMCTL_SHADOW_OP_PEEK = 12
XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION = 30
XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION = 31
XEN_DOMCTL_SHADOW_OP_ENABLE = 32

# xen_domctl_shadow_op.mode: of ENABLE, and of PEEK and CLEAN
XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT = 1 << 1
XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY = 1 << 2
XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE = 1 << 3
XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL = 1 << 4
XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL = 1 << 0

XEN_SCHEDULER_CREDIT2 = 6
XEN_DOMCTL_SCHEDOP_putinfo = 0
XEN_DOMCTL_SCHEDOP_getinfo = 1

# What getpageframeinfo3 says of a frame, in the upper bits of each element.
XEN_DOMCTL_PFINFO_NOTAB = 0
XEN_DOMCTL_PFINFO_L1TAB = 1 << 28
XEN_DOMCTL_PFINFO_L2TAB = 2 << 28
XEN_DOMCTL_PFINFO_L3TAB = 3 << 28
XEN_DOMCTL_PFINFO_L4TAB = 4 << 28
XEN_DOMCTL_PFINFO_LPINTAB = 1 << 31
XEN_DOMCTL_PFINFO_XTAB = 0xF << 28

xenctl_bitmap = Structure("xenctl_bitmap", Field("bitmap", "u64a"), Field("nr_bits", "u32"))
xen_arch_domainconfig = Structure(
    "xen_arch_domainconfig",
    Field("emulation_flags", "u32"),
    Field("misc_flags", "u32"),
)
xen_domctl_createdomain = Structure(
    "xen_domctl_createdomain",
    Field("ssidref", "u32"),
    Field("handle", "u8", 16),
    Field("flags", "u32"),  # XEN_DOMCTL_CDF_*
    Field("iommu_opts", "u32"),
    Field("max_vcpus", "u32"),
    Field("max_evtchn_port", "u32"),
    Field("max_grant_frames", "s32"),
    Field("max_maptrack_frames", "s32"),
    Field("grant_opts", "u32"),
    Field("vmtrace_size", "u32"),
    Field("cpupool_id", "u32"),
    Field("arch", xen_arch_domainconfig),
)
xen_domctl_getdomaininfo = Structure(
    "xen_domctl_getdomaininfo",
    Field("domain", "u16"),
    Field("pad1", "u16"),
    Field("flags", "u32"),  # XEN_DOMINF_*
    Field("tot_pages", "u64a"),
    Field("max_pages", "u64a"),
    Field("outstanding_pages", "u64a"),
    Field("shr_pages", "u64a"),
    Field("paged_pages", "u64a"),
    Field("shared_info_frame", "u64a"),
    Field("cpu_time", "u64a"),  # ns
    Field("nr_online_vcpus", "u32"),
    Field("max_vcpu_id", "u32"),
    Field("ssidref", "u32"),
    Field("handle", "u8", 16),
    Field("cpupool", "u32"),
    Field("gpaddr_bits", "u8"),
    Field("pad2", "u8", 7),
    Field("arch_config", xen_arch_domainconfig),
)
xen_domctl_getpageframeinfo3 = Structure(
    "xen_domctl_getpageframeinfo3",
    Field("num", "u64a"),
    Field("array", "u64a"),  # handle of xen_pfn_t
)
xen_domctl_vcpuaffinity = Structure(
    "xen_domctl_vcpuaffinity",
    Field("vcpu", "u32"),
    Field("flags", "u32"),  # XEN_VCPUAFFINITY_*
    Field("cpumap_hard", xenctl_bitmap),
    Field("cpumap_soft", xenctl_bitmap),
)
xen_domctl_shadow_op_stats = Structure(
    "xen_domctl_shadow_op_stats", Field("fault_count", "u32"), Field("dirty_count", "u32")
)
xen_domctl_shadow_op = Structure(
    "xen_domctl_shadow_op",
    Field("op", "u32"),  # XEN_DOMCTL_SHADOW_OP_*
    Field("mode", "u32"),
    Field("mb", "u32"),  # MiB
    Field("dirty_bitmap", "u64a"),  # handle of bytes
    Field("pages", "u64a"),
    Field("stats", xen_domctl_shadow_op_stats),
)
xen_domctl_max_mem = Structure("xen_domctl_max_mem", Field("max_memkb", "u64a"))
xen_domctl_vcpucontext = Structure(
    "xen_domctl_vcpucontext",
    Field("vcpu", "u32"),
    Field("ctxt", "u64a"),  # handle of vcpu_guest_context
)
xen_domctl_getvcpuinfo = Structure(
    "xen_domctl_getvcpuinfo",
    Field("vcpu", "u32"),
    Field("online", "u8"),
    Field("blocked", "u8"),
    Field("running", "u8"),
    Field("cpu_time", "u64a"),  # ns
    Field("cpu", "u32"),
)
xen_domctl_max_vcpus = Structure("xen_domctl_max_vcpus", Field("max", "u32"))
xen_domctl_sched_credit2 = Structure("xen_domctl_sched_credit2", Field("weight", "u16"), Field("cap", "u16"))
xen_domctl_scheduler_op = Structure(
    "xen_domctl_scheduler_op",
    Field("sched_id", "u32"),  # XEN_SCHEDULER_*
    Field("cmd", "u32"),  # XEN_DOMCTL_SCHEDOP_*
    Field(
        "u",
        Union(
            "u",
            Field("credit2", xen_domctl_sched_credit2),
            Field(
                "v",
                Structure("v", Field("vcpus", "u64a"), Field("nr_vcpus", "u32"), Field("padding", "u32")),
            ),
        ),
    ),
)
xen_domctl_setdomainhandle = Structure("xen_domctl_setdomainhandle", Field("handle", "u8", 16))
xen_domctl_hypercall_init = Structure("xen_domctl_hypercall_init", Field("gmfn", "u64a"))
xen_domctl_address_size = Structure("xen_domctl_address_size", Field("size", "u32"))  # bits
xen_domctl_set_virq_handler = Structure("xen_domctl_set_virq_handler", Field("virq", "u32"))

xen_domctl = Structure(
    "xen_domctl",
    Field("cmd", "u32"),  # XEN_DOMCTL_*
    Field("interface_version", "u32"),
    Field("domain", "u16"),
    Field("_pad", "u16", 3),
    Field(
        "u",
        Union(
            "u",
            Field("createdomain", xen_domctl_createdomain),
            Field("getdomaininfo", xen_domctl_getdomaininfo),
            Field("getpageframeinfo3", xen_domctl_getpageframeinfo3),
            Field("vcpuaffinity", xen_domctl_vcpuaffinity),
            Field("shadow_op", xen_domctl_shadow_op),
            Field("max_mem", xen_domctl_max_mem),
            Field("vcpucontext", xen_domctl_vcpucontext),
            Field("getvcpuinfo", xen_domctl_getvcpuinfo),
            Field("max_vcpus", xen_domctl_max_vcpus),
            Field("scheduler_op", xen_domctl_scheduler_op),
            Field("setdomainhandle", xen_domctl_setdomainhandle),
            Field("hypercall_init", xen_domctl_hypercall_init),
            Field("address_size", xen_domctl_address_size),
            Field("set_virq_handler", xen_domctl_set_virq_handler),
            Field("pad", "u8", 128),
        ),
    ),
)
