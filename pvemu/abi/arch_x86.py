"""What x86 adds to the ABI (arch-x86/xen.h and cpuid.h): selectors, address holes, CPU state."""

from pvemu.abi.structure import Field, Structure
from pvemu.abi.word import PerWord

XEN_LEGACY_MAX_VCPUS = 32  # vcpu_info slots in shared_info

# Xen keeps the GDT from this page on, out of the way of the selectors that guests choose for themselves.
FIRST_RESERVED_GDT_PAGE = 14
FIRST_RESERVED_GDT_BYTE = FIRST_RESERVED_GDT_PAGE * 4096
FIRST_RESERVED_GDT_ENTRY = FIRST_RESERVED_GDT_BYTE // 8

# Xen's flat selectors for 32-bit guests: the kernel is in ring 1, its programs in ring 3.
FLAT_RING1_CS = 0xE019
FLAT_RING1_DS = 0xE021
FLAT_RING1_SS = 0xE021
FLAT_RING3_CS = 0xE02B
FLAT_RING3_DS = 0xE033
FLAT_RING3_SS = 0xE033

# Those for 64-bit guests: kernel and programs are both in ring 3.
FLAT_RING3_CS32 = 0xE023
FLAT_RING3_CS64 = 0xE033
FLAT_RING3_DS32 = 0xE02B
FLAT_RING3_DS64 = 0
FLAT_RING3_SS32 = 0xE02B
FLAT_RING3_SS64 = 0xE02B
FLAT_KERNEL_CS32 = FLAT_USER_CS32 = FLAT_RING3_CS32
FLAT_KERNEL_CS64 = FLAT_USER_CS64 = FLAT_RING3_CS64
FLAT_KERNEL_DS32 = FLAT_USER_DS32 = FLAT_RING3_DS32
FLAT_KERNEL_DS64 = FLAT_USER_DS64 = FLAT_RING3_DS64
FLAT_KERNEL_SS32 = FLAT_USER_SS32 = FLAT_RING3_SS32
FLAT_KERNEL_SS64 = FLAT_USER_SS64 = FLAT_RING3_SS64

FLAT_KERNEL_CS = PerWord(FLAT_RING1_CS, FLAT_RING3_CS64)
FLAT_KERNEL_DS = PerWord(FLAT_RING1_DS, FLAT_RING3_DS64)
FLAT_KERNEL_SS = PerWord(FLAT_RING1_SS, FLAT_RING3_SS64)
FLAT_USER_CS = PerWord(FLAT_RING3_CS, FLAT_RING3_CS64)
FLAT_USER_DS = PerWord(FLAT_RING3_DS, FLAT_RING3_DS64)
FLAT_USER_SS = PerWord(FLAT_RING3_SS, FLAT_RING3_SS64)

# The hole at the top of the guest's address space, and the part of it in which the guest reads the m2p.
HYPERVISOR_VIRT_START_PAE = 0xF5800000
MACH2PHYS_VIRT_START_PAE = 0xF5800000
MACH2PHYS_VIRT_END_PAE = 0xF6800000
HYPERVISOR_VIRT_START = PerWord(HYPERVISOR_VIRT_START_PAE, 0xFFFF_8000_0000_0000)
HYPERVISOR_VIRT_END = 0xFFFF_8800_0000_0000  # x86_64 only; on x86_32 the hole ends with the address space
MACH2PHYS_VIRT_START = PerWord(MACH2PHYS_VIRT_START_PAE, 0xFFFF_8000_0000_0000)
MACH2PHYS_VIRT_END = PerWord(MACH2PHYS_VIRT_END_PAE, 0xFFFF_8040_0000_0000)
MACH2PHYS_NR_ENTRIES = PerWord(0x0100_0000 // 4, 0x40_0000_0000 // 8)

# set_segment_base, x86_64 only.
SEGBASE_FS = 0
SEGBASE_GS_USER = 1
SEGBASE_GS_KERNEL = 2
SEGBASE_GS_USER_SEL = 3

# vcpu_guest_context.flags
VGCF_I387_VALID = VGCF_i387_valid = 1 << 0
VGCF_IN_KERNEL = VGCF_in_kernel = 1 << 2
VGCF_failsafe_disables_events = 1 << 3
VGCF_syscall_disables_events = 1 << 4
VGCF_online = 1 << 5
VGCF_IN_SYSCALL = VGCF_in_syscall = 1 << 8  # x86_64 only

# trap_info.flags. The header has macros for these bits; the names are from them (TI_GET_DPL, TI_GET_IF).
TI_DPL_MASK = 3
TI_IF = 4  # upcalls are masked when the handler is entered

# ud2 and the letters "xen" before cpuid make a PV guest's cpuid Xen's instead of the processor's.
XEN_EMULATE_PREFIX = b"\x0f\x0bxen"
XEN_HVM_DEBUGCONS_IOPORT = 0xE9

# Hypervisor cpuid leaves: first + 0 signature, 1 version, 2 hypercall page and features, 3 time, 4 HVM, 5 PV.
XEN_CPUID_FIRST_LEAF = 0x40000000
XEN_CPUID_MAX_NUM_LEAVES = 5
XEN_CPUID_SIGNATURE_EBX = 0x566E6558
XEN_CPUID_SIGNATURE_ECX = 0x65584D4D
XEN_CPUID_SIGNATURE_EDX = 0x4D4D566E
XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD = 1 << 0
XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK = 0xFF
XEN_CPUID_NO_SUBLEAF = 0xFFFFFFFF
XEN_HVM_CPUID_APIC_ACCESS_VIRT = 1 << 0
XEN_HVM_CPUID_X2APIC_VIRT = 1 << 1
XEN_HVM_CPUID_IOMMU_MAPPINGS = 1 << 2
XEN_HVM_CPUID_VCPU_ID_PRESENT = 1 << 3
XEN_HVM_CPUID_DOMID_PRESENT = 1 << 4
XEN_HVM_CPUID_EXT_DEST_ID = 1 << 5
XEN_HVM_CPUID_UPCALL_VECTOR = 1 << 6

trap_info = Structure(
    "trap_info",
    Field("vector", "u8"),
    Field("flags", "u8"),  # TI_*
    Field("cs", "u16"),
    Field("address", "ulong"),  # 0 ends the table of set_trap_table
)


def _selector(name: str, number: int) -> tuple[Field, ...]:
    """A selector and its padding to a guest word; the 64-bit header counts the padding one further."""
    return (
        Field(name, "u16"),
        Field(f"_pad{number}", "u16", only=4),
        Field(f"_pad{number + 1}", "u16", 3, only=8),
    )


cpu_user_regs = Structure(
    "cpu_user_regs",
    *(Field(name, "u32", only=4) for name in ("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax")),
    *(Field(name, "u64", only=8) for name in ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10")),
    *(Field(name, "u64", only=8) for name in ("r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi")),
    Field("error_code", "u16", only=4),
    Field("entry_vector", "u16", only=4),
    Field("error_code", "u32", only=8),
    Field("entry_vector", "u32", only=8),
    Field("eip", "u32", only=4),
    Field("rip", "u64", only=8),
    Field("cs", "u16"),
    Field("_pad0", "u16", 1, only=8),
    Field("saved_upcall_mask", "u8"),
    Field("_pad0", "u8", only=4),
    Field("_pad1", "u8", 3, only=8),
    Field("eflags", "u32", only=4),
    Field("rflags", "u64", only=8),
    Field("esp", "u32", only=4),
    Field("rsp", "u64", only=8),
    *_selector("ss", 1),
    *_selector("es", 2),
    *_selector("ds", 3),
    *_selector("fs", 4),
    *_selector("gs", 5),
)

vcpu_guest_context = Structure(
    "vcpu_guest_context",
    Field("fpu_ctxt", Structure("fpu_ctxt", Field("x", "char", 512))),  # FXSAVE image
    Field("flags", "ulong"),  # VGCF_*
    Field("user_regs", cpu_user_regs),
    Field("trap_ctxt", trap_info, 256),
    Field("ldt_base", "ulong"),
    Field("ldt_ents", "ulong"),
    Field("gdt_frames", "ulong", 16),
    Field("gdt_ents", "ulong"),
    Field("kernel_ss", "ulong"),
    Field("kernel_sp", "ulong"),
    Field("ctrlreg", "ulong", 8),  # on x86_64 [1] is the user page tables
    Field("debugreg", "ulong", 8),
    Field("event_callback_cs", "ulong", only=4),
    Field("event_callback_eip", "ulong"),
    Field("failsafe_callback_cs", "ulong", only=4),
    Field("failsafe_callback_eip", "ulong"),
    Field("syscall_callback_eip", "ulong", only=8),
    Field("vm_assist", "ulong"),  # one bit for each VMASST_TYPE_*
    Field("fs_base", "u64", only=8),
    Field("gs_base_kernel", "u64", only=8),
    Field("gs_base_user", "u64", only=8),
)

arch_vcpu_info = Structure(
    "arch_vcpu_info",
    Field("cr2", "ulong"),
    Field("pad", "ulong", 5, only=4),  # makes vcpu_info 64 bytes for both
    Field("pad", "ulong", only=8),
)

arch_shared_info = Structure(
    "arch_shared_info",
    Field("max_pfn", "ulong"),
    Field("pfn_to_mfn_frame_list_list", "ulong"),
    Field("nmi_reason", "ulong"),  # XEN_NMIREASON_*
    Field("p2m_cr3", "ulong"),
    Field("p2m_vaddr", "ulong"),
    Field("p2m_generation", "ulong"),
    Field("wc_sec_hi", "u32", only=4),
)

xen_callback = Structure(  # on x86_64 a callback is a plain address
    "xen_callback",
    Field("cs", "ulong", only=4),
    Field("eip", "ulong", only=4),
)

iret_context = Structure(  # the frame that the iret hypercall of x86_64 takes from the stack, lowest first
    "iret_context",
    *(
        Field(name, "u64", only=8)
        for name in ("rax", "r11", "rcx", "flags", "rip", "cs", "rflags", "rsp", "ss")
    ),
)
