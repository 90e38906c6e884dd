"""EFLAGS from the engine's lazy form, judged by the engine itself."""

from collections.abc import Iterator

import pytest
from bare_guest import BareGuest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.cpu import flags, layout

_WORD = st.integers(0, 0xFFFFFFFF) | st.sampled_from(
    [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000]
)
_BINARY = st.sampled_from(["add", "adc", "sub", "sbb", "cmp", "and", "or", "xor", "test"])
_UNARY = st.sampled_from(["inc", "dec", "neg", "not"])
_SHIFT = st.sampled_from(["shl", "shr", "sar", "rol", "ror", "rcl", "rcr"])
_PAIR = st.sampled_from([("eax", "ecx"), ("ax", "cx"), ("al", "cl"), ("ah", "ch")])

#: One arithmetic instruction of every kind that the engine keeps flags of in its own way.
_INSTRUCTIONS = st.one_of(
    st.builds("{0} {1[0]}, {1[1]}".format, _BINARY, _PAIR),
    st.builds("{0} {1[0]}".format, _UNARY, _PAIR),
    st.builds("{0} {1[0]}, {2}".format, _SHIFT, _PAIR, st.integers(0, 31)),
    st.builds("{0} {1[0]}, cl".format, _SHIFT, _PAIR),
    st.builds("{0} {1[1]}".format, st.sampled_from(["mul", "imul"]), _PAIR),
    st.builds("{0} eax, ecx, {1}".format, st.sampled_from(["shld", "shrd"]), st.integers(0, 31)),
    st.builds(
        "{0} eax, ecx".format,
        st.sampled_from(["bt", "bts", "bsf", "bsr", "popcnt", "xadd", "cmpxchg", "imul"]),
    ),
    st.sampled_from(["xor eax, eax", "sub eax, eax", "cmpxchg8b [ebx]", "cmpsb", "scasb", "sahf", "cmc"]),
    st.sampled_from(["clc", "stc", "cld", "std", "daa", "das", "aaa", "aas", "aam", "aad"]),
)


@pytest.fixture(scope="module")
def shared_guest(machine_options: dict[str, str]) -> Iterator[BareGuest]:
    with BareGuest(**machine_options) as guest:  # type: ignore[arg-type]
        yield guest


@given(st.lists(_INSTRUCTIONS, min_size=1, max_size=3), _WORD, _WORD, st.integers(0, 0xFF))
def test_eflags_are_what_the_engine_says(
    shared_guest: BareGuest, instructions: list[str], eax: int, ecx: int, initial: int
) -> None:
    shared_guest.load("\n".join([*instructions, "int 0x82"]))
    u64 = shared_guest.cpu.window.u64
    u64[layout.RAX], u64[layout.RCX] = eax, ecx
    for register in (layout.RBX, layout.RSI, layout.RDI):
        u64[register] = 0x30000
    flags.write_eflags(shared_guest.cpu.window, initial | 0x202)
    shared_guest.cpu.run()
    assert shared_guest.seen[-1].number == 0x82
    mine = flags.read_eflags(shared_guest.cpu.window)
    assert mine == shared_guest.cpu.engine.read_register("EFLAGS") & 0xFFFFFFFF
    assert flags.make_read_eflags(shared_guest.cpu.window)() == mine


@given(_WORD, _WORD)
def test_eflags_are_what_the_guest_pushes(shared_guest: BareGuest, eax: int, ecx: int) -> None:
    shared_guest.load("sub eax, ecx\npushf\npop ebx\nint 0x82")
    u64 = shared_guest.cpu.window.u64
    u64[layout.RAX], u64[layout.RCX] = eax, ecx
    shared_guest.cpu.run()
    assert shared_guest.registers["ebx"] == flags.read_eflags(shared_guest.cpu.window)


@given(_WORD)
def test_what_is_written_to_eflags_is_read_back(shared_guest: BareGuest, value: int) -> None:
    flags.write_eflags(shared_guest.cpu.window, value)
    assert flags.read_eflags(shared_guest.cpu.window) == value | flags.FIXED


@given(_WORD)
def test_the_guest_sees_the_flags_that_were_written(shared_guest: BareGuest, value: int) -> None:
    shown = flags.ARITHMETIC | flags.DF | flags.IF | flags.AC | flags.ID | flags.FIXED
    shared_guest.load("pushf\npop ebx\ncld\nint 0x82")
    flags.write_eflags(shared_guest.cpu.window, value & shown)
    shared_guest.cpu.run()
    assert shared_guest.registers["ebx"] & shown == value & shown | flags.FIXED


_KIND = {"add": 1, "sub": 3, "logic": 5, "inc": 6, "dec": 7, "shl": 8, "sar": 9}


@given(st.sampled_from(["add", "sub"]), st.sampled_from([1, 2, 4]), _WORD, _WORD)
def test_lazy_flags_left_by_hand_are_those_of_the_instruction(
    shared_guest: BareGuest, operation: str, size: int, left: int, right: int
) -> None:
    registers = {1: "al, cl", 2: "ax, cx", 4: "eax, ecx"}[size]
    shared_guest.load(f"{operation} {registers}\nint 0x82")
    window = shared_guest.cpu.window
    window.u64[layout.RAX], window.u64[layout.RCX] = left, right
    shared_guest.cpu.run()
    expected = shared_guest.cpu.engine.read_register("EFLAGS") & flags.ARITHMETIC
    mask = (1 << 8 * size) - 1
    result = (left + right if operation == "add" else left - right) & mask
    flags.set_lazy(window, _KIND[operation], size, result, right & mask)
    assert flags.read_eflags(window) & flags.ARITHMETIC == expected
