"""The engine's hidden flags as `pvemu.cpu.mode` derives them are those that the engine derives itself.

Ring 0 code changes control and segment registers natively; after that, what the engine keeps in hflags is
compared with what the function makes of the registers.
"""

import struct
from collections.abc import Iterator

import pytest
from bare_guest import CODE, STACK, BareGuest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.cpu import layout
from pvemu.cpu.mode import (
    CR0_EM,
    CR0_ET,
    CR0_MP,
    CR0_PE,
    CR0_TS,
    CR0_WP,
    CR4_OSFXSR,
    CR4_PSE,
    CR4_SMAP,
    CR4_TSD,
    DERIVED,
    EFER_SVME,
    code_bits,
    derive_engine_flags,
    engine_flags,
)
from pvemu.cpu.segments import Descriptor

_GDT, _TWO_LEVEL, _L4, _L3, _L2, _L1 = 0x5000, 0x6000, 0x8000, 0x9000, 0xA000, 0xB000
_PRESENT_WRITABLE, _LARGE = 3, 0x80
_DESCRIPTORS = (
    0,
    0x00CF9B000000FFFF,  # 0x08: code of 32 bits
    0x00CF93000000FFFF,  # 0x10: data
    0x00AF9B000000FFFF,  # 0x18: code of 64 bits
    0x008F9B000000FFFF,  # 0x20: code of 16 bits
    0x008F93000000FFFF,  # 0x28: a stack of 16 bits
    0x00CF93000001FFFF,  # 0x30: data from address 1
    0x00CFFB000000FFFF,  # 0x38: code of ring 3
    0x00CFF3000000FFFF,  # 0x40: data of ring 3
    0x00EF9B000000FFFF,  # 0x48: code with both sizes set: 64 bits only in long mode
)

_HFLAGS = layout.HFLAGS // 4

_PAGE_TWO_LEVEL = f"""
        mov eax, {_TWO_LEVEL}
        mov cr3, eax
        mov eax, {CR4_PSE}
        mov cr4, eax
        mov eax, 0x80000011
        mov cr0, eax
"""
_PAGE_PAE = f"""
        mov eax, {_L3}
        mov cr3, eax
        mov eax, 0x20
        mov cr4, eax
        mov eax, 0x80000011
        mov cr0, eax
"""
_LONG_MODE = f"""
        mov eax, {_L4}
        mov cr3, eax
        mov eax, 0x20
        mov cr4, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x100
        wrmsr
        mov eax, 0x80000011
        mov cr0, eax
"""

_SEQUENCES = {
    "nothing": "",
    "data with a base": "mov eax, 0x30\nmov ds, eax",
    "extra data with a base": "mov eax, 0x30\nmov es, eax",
    "fs with a base": "mov eax, 0x30\nmov fs, eax",
    "a stack of 16 bits": "mov eax, 0x28\nmov ss, eax",
    "code of 16 bits": "jmp 0x20:after\nafter:",
    "code with both sizes in legacy mode": "jmp 0x48:after\nafter:",
    "real mode": "mov eax, 0x10\nmov cr0, eax",
    "real mode with segments loaded there": "mov eax, 0x10\nmov cr0, eax\nmov ds, eax\nmov ss, eax",
    # Without a segment loaded the engine would go on adding bases, which does no harm.
    "real mode and back": "mov eax, 16\nmov cr0, eax\nmov al, 17\nmov cr0, eax\nmov al, 16\nmov ds, eax",
    "ring 3": f"push 0x43\npush {STACK}\npush 0x202\npush 0x3b\npush after\niret\nafter:",
    "virtual-8086 mode": "push 0\n" * 5
    + f"push 0x8000\npush 0x23202\npush {CODE >> 4:#x}\npush after - start\niret\nafter:",
    "two levels": _PAGE_TWO_LEVEL,
    "PAE": _PAGE_PAE,
    "compatibility mode": _LONG_MODE,
    "compatibility mode, data with a base": _LONG_MODE + "mov eax, 0x30\nmov ds, eax",
    "compatibility mode, 16 bits": _LONG_MODE + "jmp 0x20:after\nafter:",
    "64-bit code": _LONG_MODE + "jmp 0x18:after\nafter:",
    "paging off in compatibility mode": _LONG_MODE + "mov eax, 0x11\nmov cr0, eax",
}


@pytest.fixture(scope="module")
def ring0(machine_options: dict[str, str]) -> Iterator[BareGuest]:
    with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
        for number, descriptor in enumerate(_DESCRIPTORS):
            struct.pack_into("<Q", guest.ram.u8, _GDT + 8 * number, descriptor)
        struct.pack_into("<I", guest.ram.u8, _TWO_LEVEL, _LARGE | 7)
        for table, entry in ((_L4, _L3 | 7), (_L3, _L2 | 1), (_L2, _LARGE | 7)):
            struct.pack_into("<Q", guest.ram.u8, table, entry)
        yield guest


def _enter(guest: BareGuest) -> None:
    """Ring 0 of protected mode, without paging."""
    guest.enter(3)
    window = guest.cpu.window
    u64 = window.u64
    u64[layout.CR // 8], u64[layout.CR // 8 + 4] = CR0_PE | CR0_ET, 0
    u64[layout.EFER // 8] = EFER_SVME
    for register in range(layout.GS + 1):
        selector = 0x08 if register == layout.CS else 0x10
        guest.cpu.set_segment(register, Descriptor.from_int(_DESCRIPTORS[selector >> 3]).cached(selector))
    window.u64[(layout.SEGMENTS + layout.GDTR * layout.SEGMENT_SIZE + layout.BASE) // 8] = _GDT
    derive_engine_flags(window)
    guest.cpu.flush_tlb()


def _run(guest: BareGuest, source: str) -> tuple[int, int]:
    """Run code from there; what the engine derived, and what the function derives of the registers."""
    guest.load(source + "\nint 0x20", ring=3)
    _enter(guest)
    guest.cpu.run()
    assert guest.seen[-1].number == 0x20
    natively = guest.cpu.window.u32[_HFLAGS]
    derive_engine_flags(guest.cpu.window)
    return natively, guest.cpu.window.u32[_HFLAGS]


@pytest.mark.parametrize("name", _SEQUENCES)
def test_the_engine_itself_derives_the_same_flags_from_a_mode(ring0: BareGuest, name: str) -> None:
    natively, derived = _run(ring0, _SEQUENCES[name])
    assert f"{natively & DERIVED:#x}" == f"{derived & DERIVED:#x}"
    assert natively == derived


_CHOICES_OF_CR0 = (CR0_MP, CR0_EM, CR0_TS, CR0_WP)
_CHOICES_OF_CR4 = (CR4_TSD, CR4_PSE, CR4_OSFXSR, CR4_SMAP)


@given(st.sets(st.sampled_from(_CHOICES_OF_CR0)), st.sets(st.sampled_from(_CHOICES_OF_CR4)))
def test_control_registers_decide_the_flags_as_in_the_engine(
    ring0: BareGuest, cr0: set[int], cr4: set[int]
) -> None:
    natively, derived = _run(
        ring0,
        f"mov eax, {sum(cr4)}\nmov cr4, eax\nmov eax, {CR0_PE | CR0_ET | sum(cr0)}\nmov cr0, eax",
    )
    assert natively == derived


@pytest.mark.parametrize(
    ("sequence", "bits"),
    [("nothing", 32), ("code of 16 bits", 16), ("compatibility mode", 32), ("64-bit code", 64)],
)
def test_code_has_the_size_that_its_segment_gives_it(ring0: BareGuest, sequence: str, bits: int) -> None:
    _run(ring0, _SEQUENCES[sequence])
    assert code_bits(ring0.cpu.window) == bits


def test_only_derived_flags_change(ring0: BareGuest) -> None:
    _enter(ring0)
    u32 = ring0.cpu.window.u32
    for kept in (0, 0xFFFFFFFF & ~DERIVED):
        u32[_HFLAGS] = kept
        derive_engine_flags(ring0.cpu.window)
        assert u32[_HFLAGS] & ~DERIVED == kept
    u32[_HFLAGS] = layout.HF_GUEST | layout.HF_SVME


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1), st.booleans())
def test_an_inactive_long_mode_never_makes_64_bit_code(code: int, stack: int, virtual_8086: bool) -> None:
    derived = engine_flags(CR0_PE, 0, 0, virtual_8086=virtual_8086, code=code, stack=stack, data_bases=0)
    assert not derived & (layout.HF_CS64 | layout.HF_LMA)
    assert derived & ~DERIVED == 0
