"""Where the engine keeps each field of the CPU state: byte offsets from the first general register.

The state (QEMU's `CPUX86State`) is a plain structure in this process. The offsets hold for Unicorn
2.1.4 on x86-64 Linux; `calibration.py` proves every one of them before a guest may run.
"""

from typing import Final

# General registers: eight bytes each, numbered as instructions encode them.
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)

EIP: Final = 128
#: EFLAGS without the arithmetic flags and DF, which the engine keeps apart:
EFLAGS: Final = 136
CC_DST: Final = 144  #: last result, or the flags themselves when CC_OP is CC_OP_EFLAGS
CC_SRC: Final = 152
CC_SRC2: Final = 160
CC_OP: Final = 168
DF: Final = 172  #: 1 or -1
HFLAGS: Final = 176
HFLAGS2: Final = 180

#: Segment registers ES CS SS DS FS GS LDTR TR GDTR IDTR, 24 bytes each:
SEGMENTS: Final = 184
SEGMENT_SIZE: Final = 24
SELECTOR, BASE, LIMIT, ATTRIBUTES = 0, 8, 16, 20  #: within a segment register
ES, CS, SS, DS, FS, GS, LDTR, TR, GDTR, IDTR = range(10)

#: CR0 to CR4, eight bytes each:
CR: Final = 424
EFER: Final = 592

#: The FPU: which register is the top of the stack, status (without that) and control word (two bytes each),
#: a byte for each register that says whether it is empty, the registers' ten bytes each of sixteen.
FPU_TOP, FSW, FCW, FPU_EMPTY, FPU_REGISTERS = 604, 608, 610, 612, 624
FPU_REGISTER_SIZE: Final = 16
MXCSR: Final = 816

#: XMM0 to XMM15, the first sixteen bytes of 64 each:
XMM: Final = 824
XMM_SIZE: Final = 64

# Model-specific registers that instructions of the engine use. SYSENTER_CS has four bytes, the others eight.
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 4800, 4808, 4816
STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE = 4824, 4840, 4848, 4856, 4864
TSC_AUX: Final = 4896

ERROR_CODE: Final = 5384
EXCEPTION_IS_INT: Final = 5388
EXCEPTION_NEXT_EIP: Final = 5392  #: of a software interrupt: EIP past it
#: DR0 to DR7, eight bytes each. Breakpoints that DR7 enables are the engine's only if an instruction sets it:
DR: Final = 5400
OLD_EXCEPTION: Final = 5496

# Fields of AMD-V: where the control block is, and what is intercepted.
VM_VMCB: Final = 5504
INTERCEPT: Final = 5520
INTERCEPT_CR_READ: Final = 5528
INTERCEPT_CR_WRITE: Final = 5530
INTERCEPT_DR_READ: Final = 5532
INTERCEPT_DR_WRITE: Final = 5534
INTERCEPT_EXCEPTIONS: Final = 5536
NESTED_CR3: Final = 5544
NESTED_PG_MODE: Final = 5552

#: Before the state, in the engine's own structure of the CPU: what waits to interrupt it.
INTERRUPT_REQUEST: Final = 28 - 35408
#: Of it: AMD-V's virtual interrupt.
INTERRUPT_VIRQ: Final = 1 << 8
INTERRUPT_NMI: Final = 1 << 9
#: NESTED_PG_MODE for tables of long mode with NX (QEMU: SVM_NPT_PAE, _LMA, _NXE).
NESTED_PAGING_LONG: Final = 1 << 0 | 1 << 1 | 1 << 2

#: Bytes of the state that a virtual CPU owns.
STATE_SIZE: Final = 5568

# Offsets within the VM control block (a page of ours; APM volume 2, appendix B).
VMCB_MSR_BITMAP: Final = 0x48
VMCB_EXIT_INFO_2: Final = 0x80

#: Value of CC_OP that says: CC_SRC holds the arithmetic flags as EFLAGS has them.
CC_OP_EFLAGS: Final = 1

# Bits of HFLAGS, which the engine derives from the processor's mode.
HF_CPL: Final = 3
HF_INHIBIT_IRQ: Final = 1 << 3  #: of the next instruction, which is then translated alone
HF_CS32: Final = 1 << 4
HF_SS32: Final = 1 << 5
HF_ADDSEG: Final = 1 << 6
HF_PE: Final = 1 << 7
HF_MP: Final = 1 << 9
HF_EM: Final = 1 << 10
HF_TS: Final = 1 << 11
HF_LMA: Final = 1 << 14
HF_CS64: Final = 1 << 15
HF_OSFXSR: Final = 1 << 22
HF_SMAP: Final = 1 << 23
HF_SVME: Final = 1 << 20
HF_GUEST: Final = 1 << 21
HF2_NMI: Final = 1 << 2  #: an NMI is being handled; the guest's IRET clears it
HF2_NPT: Final = 1 << 6
