"""The FPU's registers as an FXSAVE image: what the host loads the guest finds, and the other way round."""

from collections.abc import Callable

import pytest
from bare_guest import DATA, BareGuest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvemu.cpu.fpu import IMAGE_SIZE, INITIAL_IMAGE, fpu_image

#: Where the fields are that an image has and this processor keeps: control, status, tags, MXCSR; and then
#: eight registers of ten bytes. In 32-bit code FXSAVE stores eight of the XMM registers.
FIELDS = ((0, 2), (2, 2), (4, 1), (24, 4), *((32 + 16 * number, 10) for number in range(8)))
XMM_OF_32_BITS = ((160, 128),)


def only(image: bytes, fields: tuple[tuple[int, int], ...]) -> list[bytes]:
    return [image[at : at + size] for at, size in fields]


@st.composite
def images(draw: st.DrawFn) -> bytes:
    """Any contents of the registers, with an MXCSR that FXRSTOR takes; no exception waits."""
    image = bytearray(IMAGE_SIZE)
    for at, size in (*FIELDS, (160, 256)):
        image[at : at + size] = draw(st.binary(min_size=size, max_size=size))
    image[2] &= 0x7F
    image[3] &= 0x7F
    image[26:28] = b"\0\0"
    image[28:32] = INITIAL_IMAGE[28:32]
    return bytes(image)


@pytest.mark.parametrize("window", ["live", "context"])
def test_a_processor_begins_with_the_fpu_as_fninit_leaves_it(
    make_guest: Callable[..., BareGuest], window: str
) -> None:
    guest = make_guest(window=window)
    assert fpu_image(guest.cpu.save()) == INITIAL_IMAGE
    guest.run(f"fxsave [{DATA}]\nud2")
    assert only(bytes(guest.ram.u8[DATA : DATA + IMAGE_SIZE]), FIELDS) == only(INITIAL_IMAGE, FIELDS)


@pytest.mark.parametrize("window", ["live", "context"])
def test_what_the_host_loads_the_guest_saves(make_guest: Callable[..., BareGuest], window: str) -> None:
    guest = make_guest(window=window)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(images())
    def law(image: bytes) -> None:
        guest.cpu.load_fpu(image)
        assert fpu_image(guest.cpu.save()) == image
        guest.run(f"fxsave [{DATA}]\nud2")
        saved = bytes(guest.ram.u8[DATA : DATA + IMAGE_SIZE])
        assert only(saved, FIELDS + XMM_OF_32_BITS) == only(image, FIELDS + XMM_OF_32_BITS)

    law()


def test_what_the_guest_restores_the_host_sees(guest: BareGuest) -> None:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(images())
    def law(image: bytes) -> None:
        guest.ram.u8[DATA : DATA + IMAGE_SIZE] = image
        guest.run(f"fxrstor [{DATA}]\nud2")
        seen = fpu_image(guest.cpu.save())
        assert only(seen, FIELDS + XMM_OF_32_BITS) == only(image, FIELDS + XMM_OF_32_BITS)

    law()


def test_the_control_word_that_is_loaded_rounds(guest: BareGuest) -> None:
    """1 and a half becomes 2 to the nearest even number, and 1 towards zero."""
    source = f"fild dword [{DATA}]\nfidiv dword [{DATA + 4}]\nfistp dword [{DATA + 8}]\nud2"
    for control, rounded in ((0x37F, 2), (0xF7F, 1)):
        guest.cpu.load_fpu(control.to_bytes(2, "little") + INITIAL_IMAGE[2:])
        guest.ram.u32[DATA // 4], guest.ram.u32[DATA // 4 + 1] = 3, 2
        guest.run(source)
        assert guest.ram.u32[DATA // 4 + 2] == rounded
