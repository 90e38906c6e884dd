"""The processor's mode: the bits that decide it, and what the engine has to be told of it beside them.

The engine (QEMU) keeps in `hflags` what it needs to know of the mode when it translates code. It derives
them when an instruction of the guest changes a control register (cpu_x86_update_cr0, _cr4, cpu_load_efer)
or loads a segment register (cpu_x86_load_seg_cache). Whoever changes these registers in the state window
has to derive them as well: that is what this module does.
"""

from typing import Final

from pvemu.cpu import flags, layout
from pvemu.cpu.segments import BIG, DPL_SHIFT, LONG
from pvemu.cpu.state_window import StateWindow

# CR0 (AMD64 Architecture Programmer's Manual volume 2, section 3.1.1).
CR0_PE: Final = 1 << 0
CR0_MP: Final = 1 << 1
CR0_EM: Final = 1 << 2
CR0_TS: Final = 1 << 3
CR0_ET: Final = 1 << 4
CR0_NE: Final = 1 << 5
CR0_WP: Final = 1 << 16
CR0_AM: Final = 1 << 18
CR0_NW: Final = 1 << 29
CR0_CD: Final = 1 << 30
CR0_PG: Final = 1 << 31

# CR4 (section 3.1.3).
CR4_VME: Final = 1 << 0
CR4_PVI: Final = 1 << 1
CR4_TSD: Final = 1 << 2
CR4_DE: Final = 1 << 3
CR4_PSE: Final = 1 << 4
CR4_PAE: Final = 1 << 5
CR4_MCE: Final = 1 << 6
CR4_PGE: Final = 1 << 7
CR4_PCE: Final = 1 << 8
CR4_OSFXSR: Final = 1 << 9
CR4_OSXMMEXCPT: Final = 1 << 10
CR4_FSGSBASE: Final = 1 << 16
CR4_SMEP: Final = 1 << 20
CR4_SMAP: Final = 1 << 21

# EFER (section 3.1.7).
EFER_SCE: Final = 1 << 0
EFER_LME: Final = 1 << 8
EFER_LMA: Final = 1 << 10
EFER_NXE: Final = 1 << 11
EFER_SVME: Final = 1 << 12
EFER_FFXSR: Final = 1 << 14

_HF_MP_SHIFT: Final = 8  #: MP, EM and TS stand in hflags in the order of CR0, this much higher

#: The bits of hflags that follow from the mode; all others stay as they are. TF, IOPL, RF, VM and AC have
#: places there too, but the engine leaves those empty and reads EFLAGS itself (cpu_get_tb_cpu_state).
DERIVED: Final = (
    (layout.HF_CPL | layout.HF_CS32 | layout.HF_SS32 | layout.HF_ADDSEG | layout.HF_PE)
    | (layout.HF_MP | layout.HF_EM | layout.HF_TS | layout.HF_LMA | layout.HF_CS64)
    | (layout.HF_OSFXSR | layout.HF_SMAP)
)

_CR0, _CR4 = layout.CR // 8, layout.CR // 8 + 4
_EFER, _EFLAGS, _HFLAGS = layout.EFER // 8, layout.EFLAGS // 8, layout.HFLAGS // 4


def _segment(register: int, field: int) -> int:
    return layout.SEGMENTS + register * layout.SEGMENT_SIZE + field


_CS_ATTRIBUTES = _segment(layout.CS, layout.ATTRIBUTES) // 4
_SS_ATTRIBUTES = _segment(layout.SS, layout.ATTRIBUTES) // 4
_BASES: Final = tuple(_segment(register, layout.BASE) // 8 for register in (layout.DS, layout.ES, layout.SS))


def engine_flags(
    cr0: int, cr4: int, efer: int, *, virtual_8086: bool, code: int, stack: int, data_bases: int
) -> int:
    """The bits DERIVED of hflags that belong to a mode.

    PE, MP, EM and TS are CR0's. LMA is EFER's. CS64 is set while LMA is and the code segment is a 64-bit
    one; else CS32 is the code segment's default size. The privilege level is the stack segment's DPL.
    ADDSEG says that segment bases must be added: always in real mode, in virtual-8086 mode and in 16-bit
    code, never in 64-bit code, in between when a base is not zero. OSFXSR and SMAP are CR4's.

    Args:
        cr0, cr4, efer: as the engine has them, which under shadow paging is not how the guest sees them.
        virtual_8086: EFLAGS.VM.
        code, stack: attributes of CS and SS, as a descriptor's upper word has them.
        data_bases: the bases of DS, ES and SS, or-ed together.
    """
    derived = (cr0 & (CR0_MP | CR0_EM | CR0_TS)) << _HF_MP_SHIFT | stack >> DPL_SHIFT & 3
    derived |= layout.HF_PE if cr0 & CR0_PE else 0
    derived |= layout.HF_LMA if efer & EFER_LMA else 0
    derived |= layout.HF_OSFXSR if cr4 & CR4_OSFXSR else 0
    derived |= layout.HF_SMAP if cr4 & CR4_SMAP else 0
    derived |= layout.HF_SS32 if stack & BIG else 0
    if code & LONG and efer & EFER_LMA:
        return derived | layout.HF_CS64 | layout.HF_CS32
    derived |= layout.HF_CS32 if code & BIG else 0
    if virtual_8086 or data_bases or not cr0 & CR0_PE or not code & BIG:
        derived |= layout.HF_ADDSEG
    return derived


def derive_engine_flags(window: StateWindow) -> None:
    """Make hflags agree with the control and segment registers in the state window."""
    u32, u64 = window.u32, window.u64
    ds, es, ss = _BASES
    u32[_HFLAGS] = u32[_HFLAGS] & ~DERIVED | engine_flags(
        u64[_CR0],
        u64[_CR4],
        u64[_EFER],
        virtual_8086=bool(u64[_EFLAGS] & flags.VM),
        code=u32[_CS_ATTRIBUTES],
        stack=u32[_SS_ATTRIBUTES],
        data_bases=u64[ds] | u64[es] | u64[ss],
    )


def code_bits(window: StateWindow) -> int:
    """The size of code at EIP: 16, 32 or 64 bits."""
    hflags = window.u32[_HFLAGS]
    if hflags & layout.HF_CS64:
        return 64
    return 32 if hflags & layout.HF_CS32 else 16
