"""The registers of the FPU and of SSE as FXSAVE stores them, from the engine's state and to it.

The image has 512 bytes (AMD64 Architecture Programmer's Manual volume 2, section 11.4.4). Where the last
instruction of the FPU and its operand were is left out, as AMD's processors do while no exception waits.
"""

import struct
from collections.abc import Iterator
from typing import Final

from pvemu.cpu import layout
from pvemu.cpu.binding import Engine
from pvemu.cpu.state_window import StateWindow

IMAGE_SIZE: Final = 512
#: Control word, status word, tags in short form, opcode, two addresses, MXCSR and its valid bits.
_HEAD: Final = struct.Struct("<HHBxHQQII")
_ST, _ST_SIZE, _ST_BYTES, _REGISTERS = 32, 16, 10, 8
_XMM, _XMM_SIZE, _XMM_REGISTERS = 160, 16, 16
_TOP_SHIFT: Final = 11
_TOP_MASK: Final = 7 << _TOP_SHIFT
_EMPTY: Final = 3  #: of the tag word's long form
_MXCSR_VALID: Final = 0xFFFF

#: As FNINIT leaves it, and MXCSR as at reset: no exception is wanted, 64 bits of precision.
INITIAL_IMAGE: Final = _HEAD.pack(0x37F, 0, 0, 0, 0, 0, 0x1F80, _MXCSR_VALID).ljust(IMAGE_SIZE, b"\0")


def fpu_image(state: bytes | memoryview) -> bytes:
    """The FXSAVE image of a vCPU's state (layout.STATE_SIZE bytes)."""
    view = memoryview(state)
    top = view[layout.FPU_TOP]
    control, status = (int.from_bytes(view[at : at + 2], "little") for at in (layout.FCW, layout.FSW))
    tags = sum(1 << number for number in range(_REGISTERS) if not view[layout.FPU_EMPTY + number])
    mxcsr = int.from_bytes(view[layout.MXCSR : layout.MXCSR + 4], "little")
    image = bytearray(IMAGE_SIZE)
    _HEAD.pack_into(
        image, 0, control, status & ~_TOP_MASK | top << _TOP_SHIFT, tags, 0, 0, 0, mxcsr, _MXCSR_VALID
    )
    for in_image, in_state in _registers(top):
        image[in_image] = view[in_state]
    return bytes(image)


def load_fpu(engine: Engine, window: StateWindow, image: bytes) -> None:
    """Give the vCPU that is loaded what an FXSAVE image holds (about 20 microseconds).

    Words that govern how the engine computes go through its own setters, which note what follows from them.
    """
    control, status, tags, _, _, _, mxcsr, _ = _HEAD.unpack_from(image)
    long_tags = sum(_EMPTY << 2 * number for number in range(_REGISTERS) if not tags >> number & 1)
    window.store()
    for name, value in (
        ("FPCW", control),
        ("FPSW", status),
        ("FPTAG", long_tags),
        ("MXCSR", mxcsr & _MXCSR_VALID),
    ):
        engine.write_register(name, value)
    window.fetch()
    for in_image, in_state in _registers(status >> _TOP_SHIFT & 7):
        window.u8[in_state] = image[in_image]
    window.store()


def _registers(top: int) -> Iterator[tuple[slice, slice]]:
    """Where each register is in the image and in the state. The image begins with the top of the stack."""
    for number in range(_REGISTERS):
        place, register = _ST + number * _ST_SIZE, top + number & _REGISTERS - 1
        at = layout.FPU_REGISTERS + register * layout.FPU_REGISTER_SIZE
        yield slice(place, place + _ST_BYTES), slice(at, at + _ST_BYTES)
    for number in range(_XMM_REGISTERS):
        place, at = _XMM + number * _XMM_SIZE, layout.XMM + number * layout.XMM_SIZE
        yield slice(place, place + _XMM_SIZE), slice(at, at + _XMM_SIZE)
