"""The first registers of an HVM guest's further vCPUs, for VCPUOP_initialise (hvm/hvm_vcpu.h)."""

from pvemu.abi.structure import Field, Structure, Union

VCPU_HVM_MODE_32B = 0  # vcpu_hvm_x86_32
VCPU_HVM_MODE_64B = 1  # vcpu_hvm_x86_64

# A segment's _ar: type, s, dpl and p as in a descriptor's sixth byte, then avl, l, db and g from bit 8 up.
vcpu_hvm_x86_32 = Structure(
    "vcpu_hvm_x86_32",
    *(Field(name, "u32") for name in ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip")),
    *(Field(name, "u32") for name in ("eflags", "cr0", "cr3", "cr4", "pad1")),
    Field("efer", "u64"),
    *(Field(f"{segment}_base", "u32") for segment in ("cs", "ds", "ss", "es", "tr")),
    *(Field(f"{segment}_limit", "u32") for segment in ("cs", "ds", "ss", "es", "tr")),
    *(Field(f"{segment}_ar", "u16") for segment in ("cs", "ds", "ss", "es", "tr")),
    Field("pad2", "u16", 3),
)
vcpu_hvm_x86_64 = Structure(
    "vcpu_hvm_x86_64",
    *(Field(name, "u64") for name in ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "rip")),
    *(Field(name, "u64") for name in ("rflags", "cr0", "cr3", "cr4", "efer")),
)
vcpu_hvm_context = Structure(
    "vcpu_hvm_context",
    Field("mode", "u32"),  # VCPU_HVM_MODE_*
    Field("pad", "u32"),
    Field("cpu_regs", Union("cpu_regs", Field("x86_32", vcpu_hvm_x86_32), Field("x86_64", vcpu_hvm_x86_64))),
)
