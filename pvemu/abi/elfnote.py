"""The notes by which a kernel's ELF file tells Xen how to load it (elfnote.h); their owner is "Xen"."""

XEN_ELFNOTE_INFO = 0
XEN_ELFNOTE_ENTRY = 1  # virtual address
XEN_ELFNOTE_HYPERCALL_PAGE = 2  # virtual address
XEN_ELFNOTE_VIRT_BASE = 3  # virtual address of pseudo-physical 0
XEN_ELFNOTE_PADDR_OFFSET = 4  # to be subtracted from p_paddr
XEN_ELFNOTE_XEN_VERSION = 5  # string
XEN_ELFNOTE_GUEST_OS = 6  # string
XEN_ELFNOTE_GUEST_VERSION = 7  # string
XEN_ELFNOTE_LOADER = 8  # string
XEN_ELFNOTE_PAE_MODE = 9  # "yes", "no" or "bimodal"
XEN_ELFNOTE_FEATURES = 10  # XENFEAT_ names separated by "|", "!" before a required one
XEN_ELFNOTE_BSD_SYMTAB = 11  # "yes" or "no"
XEN_ELFNOTE_HV_START_LOW = 12  # virtual address below which the hypervisor's hole may not begin
XEN_ELFNOTE_L1_MFN_VALID = 13  # mask and value of L1 entries that hold a frame though not present
XEN_ELFNOTE_SUSPEND_CANCEL = 14
XEN_ELFNOTE_INIT_P2M = 15  # virtual address at which the p2m is wanted, x86_64 only
XEN_ELFNOTE_MOD_START_PFN = 16
XEN_ELFNOTE_SUPPORTED_FEATURES = 17  # bits XENFEAT_*
XEN_ELFNOTE_PHYS32_ENTRY = 18  # PVH entry point, a physical address
XEN_ELFNOTE_MAX = XEN_ELFNOTE_PHYS32_ENTRY

# Notes of crash and core files, not of kernels.
XEN_ELFNOTE_CRASH_INFO = 0x1000001
XEN_ELFNOTE_CRASH_REGS = 0x1000002
XEN_ELFNOTE_DUMPCORE_NONE = 0x2000000
XEN_ELFNOTE_DUMPCORE_HEADER = 0x2000001
XEN_ELFNOTE_DUMPCORE_XEN_VERSION = 0x2000002
XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION = 0x2000003
