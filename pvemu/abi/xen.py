"""The numbers and structures of xen.h that belong to no single hypercall family."""

from typing import Final

from pvemu.abi.arch_x86 import XEN_LEGACY_MAX_VCPUS, arch_shared_info, arch_vcpu_info
from pvemu.abi.structure import Field, Structure, Union
from pvemu.abi.word import PerWord

# Domain ids from DOMID_FIRST_RESERVED on name no ordinary domain; the first of them is DOMID_SELF.
DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
DOMID_IO = 0x7FF1  # owner of I/O memory
DOMID_XEN = 0x7FF2  # owner of the pages Xen shares, the m2p among them
DOMID_COW = 0x7FF3
DOMID_INVALID = 0x7FF4
DOMID_IDLE = 0x7FFF
DOMID_MASK = 0x7FFF

# Virtual interrupts. TIMER, DEBUG, XENOPROF and XENPMU are per vCPU; the others global, bound on vCPU 0.
VIRQ_TIMER = 0
VIRQ_DEBUG = 1
VIRQ_CONSOLE = 2
VIRQ_DOM_EXC = 3
VIRQ_TBUF = 4
VIRQ_DEBUGGER = 6
VIRQ_XENOPROF = 7
VIRQ_CON_RING = 8
VIRQ_PCPU_STATE = 9
VIRQ_MEM_EVENT = 10
VIRQ_ARGO = 11
VIRQ_ENOMEM = 12
VIRQ_XENPMU = 13
VIRQ_ARCH_0 = 16
VIRQ_MCA = VIRQ_ARCH_0
VIRQ_ARCH_1 = 17
VIRQ_ARCH_2 = 18
VIRQ_ARCH_3 = 19
VIRQ_ARCH_4 = 20
VIRQ_ARCH_5 = 21
VIRQ_ARCH_6 = 22
VIRQ_ARCH_7 = 23
NR_VIRQS = 24

# mmu_update: the command is in the low bits of mmu_update.ptr.
MMU_NORMAL_PT_UPDATE = 0
MMU_MACHPHYS_UPDATE = 1
MMU_PT_UPDATE_PRESERVE_AD = 2
MMU_PT_UPDATE_NO_TRANSLATE = 3

# mmuext_op.cmd; there is no 14.
MMUEXT_PIN_L1_TABLE = 0
MMUEXT_PIN_L2_TABLE = 1
MMUEXT_PIN_L3_TABLE = 2
MMUEXT_PIN_L4_TABLE = 3
MMUEXT_UNPIN_TABLE = 4
MMUEXT_NEW_BASEPTR = 5
MMUEXT_TLB_FLUSH_LOCAL = 6
MMUEXT_INVLPG_LOCAL = 7
MMUEXT_TLB_FLUSH_MULTI = 8
MMUEXT_INVLPG_MULTI = 9
MMUEXT_TLB_FLUSH_ALL = 10
MMUEXT_INVLPG_ALL = 11
MMUEXT_FLUSH_CACHE = 12
MMUEXT_SET_LDT = 13
MMUEXT_NEW_USER_BASEPTR = 15  # x86_64 only
MMUEXT_CLEAR_PAGE = 16
MMUEXT_COPY_PAGE = 17
MMUEXT_FLUSH_CACHE_GLOBAL = 18
MMUEXT_MARK_SUPER = 19
MMUEXT_UNMARK_SUPER = 20

# update_va_mapping's flags: bits 0-1 say what to flush, the rest where (MULTI: a pointer to a vCPU bitmap).
UVMF_NONE = 0
UVMF_TLB_FLUSH = 1
UVMF_INVLPG = 2
UVMF_FLUSHTYPE_MASK = 3
UVMF_MULTI = 0
UVMF_LOCAL = 0
UVMF_ALL = 4

CONSOLEIO_write = 0
CONSOLEIO_read = 1

VMASST_CMD_enable = 0
VMASST_CMD_disable = 1
VMASST_TYPE_4gb_segments = 0
VMASST_TYPE_4gb_segments_notify = 1
VMASST_TYPE_writable_pagetables = 2
VMASST_TYPE_pae_extended_cr3 = 3
VMASST_TYPE_architectural_iopl = 4
VMASST_TYPE_runstate_update_flag = 5
VMASST_TYPE_m2p_strict = 32  # x86_64 only

SIF_PRIVILEGED = 1 << 0
SIF_INITDOMAIN = 1 << 1
SIF_MULTIBOOT_MOD = 1 << 2
SIF_MOD_START_PFN = 1 << 3
SIF_VIRT_P2M_4TOOLS = 1 << 4
SIF_PM_MASK = 0xFF << 8

XEN_PVCLOCK_TSC_STABLE_BIT = 1 << 0
XEN_PVCLOCK_GUEST_STOPPED = 1 << 1

MAX_GUEST_CMDLINE = 1024

# Two-level event channels: a selector word of one bit a word, so as many words as a word has bits.
_EVENT_WORDS: Final = PerWord(32, 64)

mmu_update = Structure(
    "mmu_update",
    Field("ptr", "u64"),  # machine address of the entry, command in the low bits
    Field("val", "u64"),
)

mmuext_op = Structure(
    "mmuext_op",
    Field("cmd", "u32"),
    Field("arg1", Union("arg1", Field("mfn", "ulong"), Field("linear_addr", "ulong"))),
    Field(
        "arg2",
        Union("arg2", Field("nr_ents", "u32"), Field("vcpumask", "ulong"), Field("src_mfn", "ulong")),
    ),
)

multicall_entry = Structure(
    "multicall_entry",
    Field("op", "ulong"),
    Field("result", "ulong"),
    Field("args", "ulong", 6),
)

vcpu_time_info = Structure(
    "vcpu_time_info",
    Field("version", "u32"),  # odd while Xen updates the rest
    Field("pad0", "u32"),
    Field("tsc_timestamp", "u64"),
    Field("system_time", "u64"),  # ns since boot
    Field("tsc_to_system_mul", "u32"),  # 32-bit binary fraction of ns a (shifted) TSC tick
    Field("tsc_shift", "s8"),
    Field("flags", "u8"),  # XEN_PVCLOCK_*
    Field("pad1", "u8", 2),
)

vcpu_info = Structure(
    "vcpu_info",
    Field("evtchn_upcall_pending", "u8"),
    Field("evtchn_upcall_mask", "u8"),
    Field("evtchn_pending_sel", "ulong"),
    Field("arch", arch_vcpu_info),
    Field("time", vcpu_time_info),
)

shared_info = Structure(
    "shared_info",
    Field("vcpu_info", vcpu_info, XEN_LEGACY_MAX_VCPUS),
    Field("evtchn_pending", "ulong", _EVENT_WORDS),
    Field("evtchn_mask", "ulong", _EVENT_WORDS),
    Field("wc_version", "u32"),  # odd while Xen updates the wallclock
    Field("wc_sec", "u32"),  # Unix time of system_time 0
    Field("wc_nsec", "u32"),
    Field("wc_sec_hi", "u32", only=8),  # in arch on x86_32
    Field("arch", arch_shared_info),
)

start_info = Structure(
    "start_info",
    Field("magic", "char", 32),  # "xen-3.0-x86_32p" or "xen-3.0-x86_64"
    Field("nr_pages", "ulong"),
    Field("shared_info", "ulong"),  # machine address
    Field("flags", "u32"),  # SIF_*
    Field("store_mfn", "ulong"),
    Field("store_evtchn", "u32"),
    Field(
        "console",
        Union(
            "console",
            Field("domU", Structure("domU", Field("mfn", "ulong"), Field("evtchn", "u32"))),
            Field("dom0", Structure("dom0", Field("info_off", "u32"), Field("info_size", "u32"))),
        ),
    ),
    Field("pt_base", "ulong"),  # virtual address, as are mfn_list and mod_start
    Field("nr_pt_frames", "ulong"),
    Field("mfn_list", "ulong"),
    Field("mod_start", "ulong"),  # a pfn with SIF_MOD_START_PFN
    Field("mod_len", "ulong"),  # bytes
    Field("cmd_line", "char", MAX_GUEST_CMDLINE),
    Field("first_p2m_pfn", "ulong"),
    Field("nr_p2m_frames", "ulong"),
)

xen_multiboot_mod_list = Structure(
    "xen_multiboot_mod_list",
    Field("mod_start", "u32"),
    Field("mod_end", "u32"),  # the last byte, inclusive
    Field("cmdline", "u32"),
    Field("pad", "u32"),
)
