"""Garbage through `pvemu run`: whatever a file holds, the guest fails alone or the person gets a line."""

import tempfile
from pathlib import Path

import pytest
from cli_guests import FAULT_IN_FAULT_HANDLER, HELLO, PRINT_FOR_EVER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guestkit import assemble
from pvemu.toolstack.cli import main

KERNELS = [assemble(source).elf for source in (HELLO, FAULT_IN_FAULT_HANDLER, PRINT_FOR_EVER)]
FEW = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

VOCABULARY = """
guest section bits struct endstruct macro endmacro if else endif rept endrept times include trap_table trap
end hypercall sched_op mov push jmp start: .text .data "x" eax [esi] , ( ) + * equ $ 0x1000 -1 db dd align
reserve %%a ; ' " \\ @
"""
WORDS = st.sampled_from(VOCABULARY.split())
SOURCE = st.one_of(
    st.text(max_size=200),
    st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=12).map("\n".join),
    st.tuples(st.integers(0, len(HELLO)), st.integers(0, 20), st.text(max_size=5)).map(
        lambda change: HELLO[: change[0]] + change[2] + HELLO[change[0] + change[1] :]
    ),
)


@st.composite
def damaged_kernels(draw: st.DrawFn) -> bytes:
    """A kernel with some bytes changed, most of them where it describes itself, or cut off."""
    kernel = bytearray(draw(st.sampled_from(KERNELS)))
    places = st.one_of(st.integers(0, 200), st.integers(0, len(kernel) - 1))
    for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        kernel[place] = value
    return bytes(kernel[: draw(st.one_of(st.just(len(kernel)), st.integers(0, len(kernel))))])


@st.composite
def random_code(draw: st.DrawFn) -> bytes:
    """A kernel that is what it says, but whose code is noise."""
    noise = ", ".join(str(byte) for byte in draw(st.binary(min_size=1, max_size=64)))
    return assemble(f'guest "noise"\nsection .text\nstart: db {noise}\n').elf


def run(data: bytes, capsysbinary: pytest.CaptureFixture[bytes], *options: str) -> tuple[int, str]:
    """Run a file; as it is in this process, any traceback would fail the test."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        status = main(["run", "--max-time", "0.002", "--memory", "16", *options, file.name])
    return status, capsysbinary.readouterr().err.decode()


@FEW
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    status, err = run(data, capsysbinary)
    assert status == 2
    assert err


@FEW
@given(data=damaged_kernels(), dom0=st.booleans())
def test_a_damaged_kernel_is_refused_or_fails_alone(
    data: bytes, dom0: bool, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    status, err = run(data, capsysbinary, *["--dom0"] * dom0)
    assert status in (0, 2, 3, 4, 5)
    assert len(err.splitlines()) == (status != 0)


@FEW
@given(data=random_code(), dom0=st.booleans())
def test_a_kernel_of_noise_fails_alone(
    data: bytes, dom0: bool, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    status, err = run(data, capsysbinary, *["--dom0"] * dom0)
    assert status in (0, 3, 4, 5)
    assert len(err.splitlines()) == (status != 0)


@FEW
@given(source=SOURCE)
def test_source_that_is_noise_is_refused_with_its_mistakes(
    source: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    status, err = run(source.encode("utf-8", "surrogatepass"), capsysbinary, "--dom0")
    assert status in (0, 2, 3, 5)
    assert bool(err) == (status != 0)


@pytest.mark.nightly
@settings(FEW, max_examples=5000)
@given(data=st.one_of(damaged_kernels(), random_code()), dom0=st.booleans())
def test_many_damaged_kernels_fail_alone(
    data: bytes, dom0: bool, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    status, _ = run(data, capsysbinary, *["--dom0"] * dom0)
    assert status in (0, 2, 3, 4, 5)
