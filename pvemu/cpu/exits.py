"""Exit numbers: why the guest stopped running, as the engine reports it.

A number below 0x100 is a software interrupt (`int n`, `int3`, `into`) with EIP past the instruction.
From 0x100 up it is 0x100 plus an SVM exit code (AMD64 Architecture Programmer's Manual volume 2,
appendix C) with EIP on the instruction.
"""

from typing import Final

#: Added by the engine to every SVM exit code.
VMEXIT: Final = 0x100

#: One more than the largest exit number.
EXIT_NUMBERS: Final = VMEXIT + 0x404

READ_CR: Final = VMEXIT + 0x00
WRITE_CR: Final = VMEXIT + 0x10
READ_DR: Final = VMEXIT + 0x20
WRITE_DR: Final = VMEXIT + 0x30
EXCEPTION: Final = VMEXIT + 0x40
NMI_WINDOW: Final = VMEXIT + 0x61
INTERRUPT_WINDOW: Final = VMEXIT + 0x64
RDTSC: Final = VMEXIT + 0x6E
RDPMC: Final = VMEXIT + 0x6F
CPUID: Final = VMEXIT + 0x72
INVD: Final = VMEXIT + 0x76
HLT, INVLPG, INVLPGA = range(VMEXIT + 0x78, VMEXIT + 0x7B)
MSR: Final = VMEXIT + 0x7C
SHUTDOWN: Final = VMEXIT + 0x7F
VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT = range(VMEXIT + 0x80, VMEXIT + 0x87)
WBINVD, MONITOR, MWAIT = range(VMEXIT + 0x89, VMEXIT + 0x8C)
NESTED_PAGE_FAULT: Final = VMEXIT + 0x400
#: Not SVM codes: AMD-V can't intercept SYSCALL and SYSENTER. EIP is on the instruction.
SYSCALL: Final = VMEXIT + 0x401
SYSENTER: Final = VMEXIT + 0x403
#: Not an SVM code: the engine can't translate the block of code at EIP (see abort_guard.py).
UNTRANSLATABLE: Final = VMEXIT + 0x402

# Exception vectors (APM volume 2, section 8.2).
DE, DB, NMI, BP, OF, BR, UD, NM, DF = range(9)
TS, NP, SS, GP, PF = range(10, 15)
MF, AC, MC, XF = range(16, 20)

#: Vectors whose frame carries an error code.
WITH_ERROR_CODE: Final = frozenset({DF, TS, NP, SS, GP, PF, AC})

#: Exits that are asked for by a bit each (see `intercept_bit`).
BY_BIT: Final = range(VMEXIT + 0x60, VMEXIT + 0x8C)


def intercept_bit(exit_number: int) -> int:
    """The bit of the 64-bit intercept field that asks for an exit of BY_BIT."""
    return 1 << BY_BIT.index(exit_number)


#: Exceptions by vector, as the manuals call them.
_EXCEPTIONS: Final = {
    DE: "divide error",
    DB: "debug exception",
    NMI: "NMI",
    BP: "breakpoint",
    OF: "overflow",
    BR: "bound range exceeded",
    UD: "invalid opcode",
    NM: "device not available",
    DF: "double fault",
    TS: "invalid TSS",
    NP: "segment not present",
    SS: "stack fault",
    GP: "general protection fault",
    PF: "page fault",
    MF: "x87 floating-point error",
    AC: "alignment check",
    MC: "machine check",
    XF: "SIMD floating-point error",
}
_REGISTERS: Final = range(16)
_WORDS: Final = {
    **{READ_CR + register: f"read CR{register}" for register in _REGISTERS},
    **{WRITE_CR + register: f"write CR{register}" for register in _REGISTERS},
    **{READ_DR + register: f"read DR{register}" for register in _REGISTERS},
    **{WRITE_DR + register: f"write DR{register}" for register in _REGISTERS},
    **{EXCEPTION + vector: f"exception {vector}" for vector in range(32)},
    **{EXCEPTION + vector: name for vector, name in _EXCEPTIONS.items()},
    **{
        VMEXIT + code: words
        for code, words in enumerate(
            (
                *("interrupt", "NMI", "SMI", "INIT", "interrupt window", "write CR0 (selective)"),
                *("SIDT", "SGDT", "SLDT", "STR", "LIDT", "LGDT", "LLDT", "LTR"),
                *("RDTSC", "RDPMC", "PUSHF", "POPF", "CPUID", "RSM", "IRET", "INT n", "INVD", "PAUSE", "HLT"),
                *("INVLPG", "INVLPGA", "port access", "MSR access", "task switch", "FERR freeze", "shutdown"),
                *("VMRUN", "VMMCALL", "VMLOAD", "VMSAVE", "STGI", "CLGI", "SKINIT", "RDTSCP", "ICEBP"),
                *("WBINVD", "MONITOR", "MWAIT"),
            ),
            BY_BIT.start - VMEXIT,
        )
    },
    NESTED_PAGE_FAULT: "nested page fault",
    SYSCALL: "SYSCALL",
    SYSENTER: "SYSENTER",
    UNTRANSLATABLE: "code that can't be translated",
}


def describe(exit_number: int) -> str:
    """An exit in words, for traces, tables and logs."""
    if exit_number < VMEXIT:
        return f"int 0x{exit_number:02x}"
    return _WORDS.get(exit_number) or f"exit 0x{exit_number - VMEXIT:x}"
