"""Proof, before any guest runs, that the engine's layout and behaviour are the known ones.

Every fact that the product relies on is a `Check`: it is tried out on a scratch engine, and says what
it saw. `calibrate` runs them once in a process; `pvemu doctor` prints them.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from pvemu.cpu import binding, exits, layout
from pvemu.cpu.errors import EngineError
from pvemu.cpu.fpu import INITIAL_IMAGE, fpu_image, load_fpu
from pvemu.cpu.laboratory import CODE, STACK, UNMAPPED, Laboratory
from pvemu.cpu.state_window import ContextWindow, WindowKind

_CLI, _HLT, _UD2, _RDTSC = b"\xfa", b"\xf4", b"\x0f\x0b", b"\x0f\x31"
_INT82: Final = b"\xcd\x82"
_INT6: Final = b"\xcd\x06"
#: lock btr ecx, eax: an invalid instruction, over which the engine's translator trips.
_LOCK_BTR: Final = b"\xf0\x0f\xb3\xc1"
_COUNT: Final = 0x76543210


class Check(NamedTuple):
    """One fact about the engine: what is claimed, whether it holds, what was seen."""

    claim: str
    holds: bool
    seen: str


class Calibration(NamedTuple):
    """The outcome: every check, and where the engine counts instructions (None: not found)."""

    checks: tuple[Check, ...]
    counter_offset: int | None


@functools.cache
def calibrate(window: WindowKind = "live") -> Calibration:
    """Prove the engine as it is seen through a kind of window, once in a process.

    Raises:
        EngineError: there is no such window, or a check fails: this is not the engine that the layout
            was made for.
    """
    calibration = examine(window)
    for check in calibration.checks:
        if not check.holds:
            raise EngineError(
                f"Unicorn {binding.library_version()} does not behave as known: {check.claim} "
                f"({check.seen}). Install unicorn=={binding.KNOWN_VERSION}, or see `pvemu doctor`"
            )
    return calibration


def examine(window: WindowKind = "live") -> Calibration:
    """Try every fact; what fails is told in its check.

    Raises:
        EngineError: the engine has no such window.
    """
    laboratory = Laboratory(window)
    try:
        checks = [check for group in _GROUPS for check in group(laboratory)]
        return Calibration(tuple(checks), _counter_offset(laboratory))
    finally:
        laboratory.close()


def _registers(laboratory: Laboratory) -> Iterator[Check]:
    """Values written through the binding appear at their offsets."""
    engine, window = laboratory.engine, laboratory.window
    u64, u32 = window.u64, window.u32
    for name, offset, value in (
        ("RIP", layout.EIP, 0x1234_5678),
        ("CR2", layout.CR + 16, 0x8765_4321),
        ("CR3", layout.CR + 24, 0x1000),
        ("XMM9", layout.XMM + 9 * layout.XMM_SIZE, 0x1357_9BDF),
    ):
        engine.write_register(name, value)
        window.fetch()
        yield Check(f"{name} is at offset {offset}", u64[offset // 8] == value, f"0x{u64[offset // 8]:x}")
    engine.write_register("RFLAGS", 0xCD7)
    window.fetch()
    lazy = (u32[layout.CC_OP // 4], u64[layout.CC_SRC // 8], u32[layout.DF // 4])
    wanted = (layout.CC_OP_EFLAGS, 0x8D5, 0xFFFFFFFF)
    yield Check("EFLAGS are kept in lazy form", lazy == wanted, repr(lazy))
    for name, register in (("GDTR", layout.GDTR), ("IDTR", layout.IDTR)):
        engine.write_register(name, (0, 0x5A000 + register, 0x7F0 + register, 0))
        window.fetch()
        at = layout.SEGMENTS + register * layout.SEGMENT_SIZE
        seen = (u64[(at + layout.BASE) // 8], u32[(at + layout.LIMIT) // 4])
        yield Check(
            f"{name} is segment register {register}",
            seen == (0x5A000 + register, 0x7F0 + register),
            repr(seen),
        )


def _patterned_image() -> bytes:
    """An FXSAVE image in which every register has another value: control, status, tags, MXCSR, ST, XMM."""
    image = bytearray(INITIAL_IMAGE)
    image[0:5] = b"\x7f\x0f\x55\x2a\xa5"
    image[24:28] = b"\xc0\x9f\0\0"
    for number in range(8):
        image[32 + 16 * number : 42 + 16 * number] = bytes(range(number, number + 10))
    for number in range(16):
        image[160 + 16 * number : 176 + 16 * number] = bytes(range(64 + number, 80 + number))
    return bytes(image)


_FPU_IMAGE: Final = _patterned_image()


def _fpu(laboratory: Laboratory) -> Iterator[Check]:
    """What an FXSAVE image says is what the engine's FPU has."""
    engine, window = laboratory.engine, laboratory.window
    load_fpu(engine, window, _FPU_IMAGE)
    seen = tuple(engine.read_register(name) for name in ("FPCW", "FPSW", "MXCSR"))
    yield Check("the FPU takes an image", seen == (0xF7F, 0x2A55, 0x9FC0), repr(seen))
    yield Check("the FPU gives its image", fpu_image(window.u8) == _FPU_IMAGE, "another image")
    load_fpu(engine, window, INITIAL_IMAGE)


def _model_specific_registers(laboratory: Laboratory) -> Iterator[Check]:
    """Model-specific registers written through the binding appear at their offsets."""
    for number, offset in (
        (0x174, layout.SYSENTER_CS),
        (0x175, layout.SYSENTER_ESP),
        (0x176, layout.SYSENTER_EIP),
        (0xC0000081, layout.STAR),
        (0xC0000082, layout.LSTAR),
        (0xC0000083, layout.CSTAR),
        (0xC0000084, layout.SFMASK),
        (0xC0000102, layout.KERNEL_GS_BASE),
        (0xC0000103, layout.TSC_AUX),
    ):
        value = 0x5A00 | number & 0xFF
        laboratory.engine.write_msr(number, value)
        laboratory.window.fetch()
        seen = laboratory.window.u32[offset // 4]
        yield Check(f"MSR 0x{number:x} is at offset {offset}", seen == value, f"0x{seen:x}")


def _exits(laboratory: Laboratory) -> Iterator[Check]:
    """Exits of the guest arrive with the number, EIP and error code that exits.py promises."""
    general_protection = exits.EXCEPTION + exits.GP
    page_fault = exits.EXCEPTION + exits.PF

    def expect(claim: str, code: bytes, ring: int, *wanted: int, intercept: int = 0) -> Check:
        laboratory.window.u32[layout.ERROR_CODE // 4] = 0xDEAD
        seen = laboratory.run(ring, code, intercept=intercept)
        fields = () if seen is None else (seen.number, seen.eip, seen.error_code, seen.fault_address)
        return Check(claim, fields[: len(wanted)] == wanted, repr(seen))

    for attempt in ("once", "and again"):
        yield expect(
            f"cli in ring 1 is #GP on the instruction, {attempt}", _CLI, 1, general_protection, CODE, 0
        )
    yield expect("hlt in ring 3 is #GP on the instruction", _HLT, 3, general_protection, CODE, 0)
    yield expect("ud2 is exception 6 on the instruction", _UD2, 1, exits.EXCEPTION + exits.UD, CODE)
    yield expect(
        "an unmapped read in ring 3 is #PF 4 with its address in the control block",
        *(b"\xa1" + UNMAPPED.to_bytes(4, "little"), 3, page_fault, CODE, 4, UNMAPPED),
    )
    yield expect("int 0x82 arrives as its number, EIP past it", _INT82, 1, 0x82, CODE + 2)
    was_int = laboratory.exit is not None and laboratory.exit.was_int == 1
    yield Check("int n leaves its mark in the state", was_int, repr(laboratory.exit))
    status = laboratory.run_status(1, _INT6)
    eip = laboratory.window.u64[layout.EXCEPTION_NEXT_EIP // 8]
    yield Check(
        "int 6 ends the run, and leaves EIP past it in the state",
        (status, eip) == (binding.INVALID_INSTRUCTION, CODE + 2),
        f"status {status}, EIP 0x{eip:x}",
    )
    if laboratory.engine.guarded:
        yield expect(
            "code that can't be translated is an exit on its block", _LOCK_BTR, 1, exits.UNTRANSLATABLE, CODE
        )
    yield expect(
        "an intercepted rdtsc is an exit on the instruction",
        *(_RDTSC, 1, exits.RDTSC, CODE),
        intercept=exits.intercept_bit(exits.RDTSC),
    )
    yield expect("int3 arrives as 3, EIP past it", b"\xcc", 1, exits.BP, CODE + 1)


def _interrupt_windows(laboratory: Laboratory) -> Iterator[Check]:
    """A virtual interrupt waits for STI and the instruction behind it, and is then an exit."""
    code = b"\x90" + b"\xfb" + b"\x90" * 4 + _HLT
    if laboratory.engine.state_address is None:
        return
    window_exit = exits.intercept_bit(exits.INTERRUPT_WINDOW) | exits.intercept_bit(exits.HLT)
    for waits, wanted in ((False, (exits.HLT, CODE + 6)), (True, (exits.INTERRUPT_WINDOW, CODE + 3))):
        seen = laboratory.run(0, code, intercept=window_exit, interrupt_waits=waits)
        claim = "a waiting interrupt is an exit behind STI" if waits else "without one STI is no exit"
        yield Check(claim, seen is not None and (seen.number, seen.eip) == wanted, repr(seen))


def _rings(laboratory: Laboratory) -> Iterator[Check]:
    """A native iret leaves ring 1 for ring 3 with the descriptors of the GDT."""
    target = CODE + 0x40
    laboratory.memory[target : target + 2] = b"\xcd\x80"
    frame = b"".join(
        b"\x68" + word.to_bytes(4, "little") for word in (0x33, STACK - 0x100, 0x202, 0x2B, target)
    )
    seen = laboratory.run(1, frame + b"\xcf")
    holds = seen is not None and (seen.number, seen.eip) == (0x80, target + 2)
    ring = laboratory.window.u32[layout.HFLAGS // 4] & layout.HF_CPL
    yield Check("iret from ring 1 to ring 3 runs natively", holds and ring == 3, f"{seen}, ring {ring}")


def _fallback(laboratory: Laboratory) -> Iterator[Check]:
    """A saved context holds the same bytes as the state that the laboratory sees."""
    window = ContextWindow(laboratory.engine)
    laboratory.window.u64[layout.RBX] = 0x1122_3344_5566_7788
    laboratory.window.store()
    window.fetch()
    same = bytes(window.u8) == bytes(laboratory.window.u8)
    yield Check("a context holds the state, as the live window does", same, "" if same else "bytes differ")
    window.release()


_GROUPS: Final[tuple[Callable[[Laboratory], Iterator[Check]], ...]] = (
    _registers,
    _fpu,
    _model_specific_registers,
    _exits,
    _interrupt_windows,
    _rings,
    _fallback,
)


def _counter_offset(laboratory: Laboratory) -> int | None:
    """Where in the engine's main structure it counts instructions: the count asked for stands behind it."""
    executed = 9
    laboratory.run(1, b"\x90" * executed + _INT82, count=_COUNT)
    words = laboratory.words_at_exit
    found = [at * 8 for at in range(len(words) - 1) if words[at : at + 2] == (executed + 1, _COUNT)]
    return found[0] if len(found) == 1 else None
