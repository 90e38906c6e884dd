"""What stops an emulated instruction (memory, segments, not being known), and what has changed then."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instruction_samples import Sample, samples
from native_rig import AREA, AreaMemory, NativeRig, OutsideArea, State, assembled, difference
from test_emulator_native import FAMILIES

from pvemu.cpu import exits, flags, layout
from pvemu.hypervisor.emulate import MOST_ITERATIONS, Emulator, InstructionFault, Unemulated

_DATA: Final = AREA.start + 0x1000
_LOW: Final = 0xFFFFFFFF
_DS = (layout.SEGMENTS + layout.DS * layout.SEGMENT_SIZE) // 4
_SS = (layout.SEGMENTS + layout.SS * layout.SEGMENT_SIZE) // 4
_CS = (layout.SEGMENTS + layout.CS * layout.SEGMENT_SIZE) // 4
_LIMIT, _ATTRIBUTES = layout.LIMIT // 4, layout.ATTRIBUTES // 4
_HFLAGS: Final = layout.HFLAGS // 4


class NotThere(Exception):
    """The user's own exception."""


class FailingMemory(AreaMemory):
    """Memory whose n-th access is refused."""

    def __init__(self, data: bytes, accesses: int) -> None:
        super().__init__(data)
        self.left = accesses

    def read(self, address: int, size: int) -> bytes:
        self._access()
        return super().read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self._access()
        super().write(address, data)

    def _access(self) -> None:
        if not self.left:
            raise NotThere
        self.left -= 1


class RecordingMemory(AreaMemory):
    """Memory that tells what it was asked for."""

    def __init__(self) -> None:
        super().__init__(bytes(len(AREA)))
        self.calls: list[tuple[str, int]] = []

    def read(self, address: int, size: int) -> bytes:
        self.calls.append(("read", address))
        return super().read(address, size)

    def read_for_write(self, address: int, size: int) -> bytes:
        self.calls.append(("read_for_write", address))
        return super().read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self.calls.append(("write", address))
        super().write(address, data)

    def replace(self, address: int, old: bytes, new: bytes) -> None:
        self.calls.append(("replace", address))
        assert old == super().read(address, len(old))
        super().write(address, new)


def state(bits: int = 32, **registers: int) -> State:
    """Registers by their names; the rest is zero, and so is all memory."""
    names = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
    values = [registers.get(name, 0) for name in names] + [0] * 8
    return State(values, flags.IF | flags.FIXED, bytes(len(AREA)), bits, bits)


def step(rig: NativeRig, code: bytes, before: State, memory: AreaMemory) -> tuple[State, bool]:
    """One step from a state: what is left, and whether a single-step trap is due."""
    rig.prepare(before)
    single = Emulator(rig.window).step(memory, code.ljust(15, b"\x90"))
    return rig.state(before, bytes(memory.data)), single


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "strings"])
@given(st.data(), st.integers(0, 1))
def test_an_access_that_is_refused_leaves_everything_as_it_was(
    rig: NativeRig, family: str, data: st.DataObject, accesses: int
) -> None:
    sample: Sample = data.draw(st.sampled_from(FAMILIES[family]).flatmap(samples))
    before, memory = sample.state, FailingMemory(sample.state.memory, accesses)
    rig.prepare(before)
    try:
        Emulator(rig.window).step(memory, sample.code.ljust(15, b"\x90"))
    except (NotThere, InstructionFault):
        assert difference(before, rig.state(before, bytes(memory.data))) == []
    else:
        assert memory.left == 0


@pytest.mark.parametrize(
    ("source", "accesses", "done"),
    [
        ("rep movsb", 5, 2),
        ("rep stosd", 3, 3),
        ("repe cmpsw", 7, 3),
        ("repne scasd", 4, 4),
        ("rep lodsb", 1, 1),
    ],
)
def test_a_string_instruction_keeps_the_iterations_before_the_refused_one(
    rig: NativeRig, source: str, accesses: int, done: int
) -> None:
    before = state(cx=10, si=_DATA, di=_DATA + 0x100, ax=1)
    rig.prepare(before)
    memory = FailingMemory(bytes(len(AREA)), accesses)
    with pytest.raises(NotThere):
        Emulator(rig.window).step(memory, assembled(source).ljust(15, b"\x90"))
    after = rig.state(before, bytes(memory.data))
    assert (after.registers[layout.RCX], after.passed) == (10 - done, 0)


def test_a_long_string_instruction_comes_back_before_its_end(rig: NativeRig) -> None:
    count, memory = 2 * MOST_ITERATIONS + 10, AreaMemory(bytes(len(AREA)))
    after, code = state(cx=count, di=_DATA, ax=0x5A), assembled("rep stosb")
    seen = []
    for _ in range(3):
        after, _ = step(rig, code, after, memory)
        seen.append((after.registers[layout.RCX], after.passed))
    assert seen == [(count - MOST_ITERATIONS, 0), (10, 0), (0, len(code))]
    assert memory.data.count(0x5A) == count


def test_a_repeat_count_of_zero_touches_nothing(rig: NativeRig) -> None:
    memory = RecordingMemory()
    after, _ = step(rig, assembled("rep movsd"), state(si=_DATA, di=_DATA), memory)
    assert (memory.calls, after.passed, after.registers[layout.RSI]) == ([], 2, _DATA)


def test_a_single_step_is_due_after_each_iteration(rig: NativeRig) -> None:
    before = state(cx=3, di=_DATA)
    before.eflags |= flags.TF
    after, single = step(rig, assembled("rep stosb"), before, AreaMemory(before.memory))
    assert (single, after.registers[layout.RCX], after.passed) == (True, 2, 0)
    before.eflags &= ~flags.TF
    assert not step(rig, assembled("stosb"), before, AreaMemory(before.memory))[1]


def test_an_instruction_ends_the_shadow_of_sti_and_clears_rf(rig: NativeRig) -> None:
    before = state(bx=_DATA)
    before.eflags |= flags.RF
    rig.prepare(before)
    rig.window.u32[_HFLAGS] |= layout.HF_INHIBIT_IRQ
    Emulator(rig.window).step(AreaMemory(before.memory), assembled("mov [ebx], eax"))
    assert not rig.window.u32[_HFLAGS] & layout.HF_INHIBIT_IRQ
    assert not flags.read_eflags(rig.window) & flags.RF


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("mov [ebx], eax", ["write"]),
        ("mov eax, [ebx]", ["read"]),
        ("cmp [ebx], eax", ["read"]),
        ("test [ebx], eax", ["read"]),
        ("add eax, [ebx]", ["read"]),
        ("add [ebx], eax", ["read_for_write", "replace"]),
        ("lock or [ebx], eax", ["read_for_write", "replace"]),
        ("xchg [ebx], eax", ["read_for_write", "write"]),
        ("cmpxchg [ebx], ecx", ["read_for_write", "write"]),
        ("cmpxchg [ebx], edx", ["read_for_write", "write"]),
        ("bt [ebx], eax", ["read"]),
        ("bts [ebx], eax", ["read_for_write", "replace"]),
        ("shl dword [ebx], cl", ["read_for_write", "replace"]),
        ("movsd", ["read", "write"]),
        ("push dword [ebx]", ["read", "write"]),
        ("setz [ebx]", ["write"]),
    ],
)
def test_memory_is_asked_for_what_the_processor_does(rig: NativeRig, source: str, calls: list[str]) -> None:
    memory = RecordingMemory()
    step(rig, assembled(source), state(bx=_DATA, si=_DATA, di=_DATA, sp=_DATA), memory)
    assert [name for name, _ in memory.calls] == calls


def test_a_comparison_that_fails_writes_back_what_was_there(rig: NativeRig) -> None:
    memory = RecordingMemory()
    step(rig, assembled("cmpxchg [ebx], ecx"), state(bx=_DATA, ax=1, cx=2), memory)
    assert memory.calls == [("read_for_write", _DATA), ("replace", _DATA)]
    assert not any(memory.data)


# --- segments ------------------------------------------------------------------------------------

_EXPANDING_DOWN: Final = 0x00CFF700
_READ_ONLY: Final = 0x00CFF100
_EXECUTE_ONLY: Final = 0x00CFF900
_READABLE_CODE: Final = 0x00CFFB00
_NULL: Final = 0


def _limit(at: int, value: int) -> Callable[[NativeRig], None]:
    def change(rig: NativeRig) -> None:
        rig.window.u32[at + _LIMIT] = value

    return change


def _kind(at: int, attributes: int, limit: int = _LOW) -> Callable[[NativeRig], None]:
    def change(rig: NativeRig) -> None:
        rig.window.u32[at + _ATTRIBUTES] = attributes
        rig.window.u32[at + _LIMIT] = limit

    return change


@pytest.mark.parametrize(
    ("change", "source", "vector"),
    [
        (_limit(_DS, _DATA + 3), "mov [ebx], eax", None),
        (_limit(_DS, _DATA + 2), "mov [ebx], eax", exits.GP),
        (_limit(_DS, _DATA + 2), "mov eax, [ebx]", exits.GP),
        (_limit(_DS, _DATA + 2), "mov [ebx], ax", None),
        (_limit(_DS, _DATA - 1), "mov ax, [ebx]", exits.GP),
        (_limit(_SS, _DATA + 2), "mov eax, [ebp]", exits.SS),
        (_limit(_SS, _DATA - 2), "push eax", exits.SS),
        (_limit(_SS, _DATA - 1), "push eax", None),
        (_limit(_DS, _DATA), "movsd", exits.GP),
        (_limit(_DS, _DATA), "stosd", None),
        (_limit(_DS, _DATA + 6), "bt [ebx], edx", exits.GP),
        (_limit(_DS, _DATA + 7), "bt [ebx], edx", None),
        (_kind(_DS, _READ_ONLY), "mov eax, [ebx]", None),
        (_kind(_DS, _READ_ONLY), "cmp [ebx], eax", None),
        (_kind(_DS, _READ_ONLY), "mov [ebx], eax", exits.GP),
        (_kind(_DS, _READ_ONLY), "inc dword [ebx]", exits.GP),
        (_kind(_DS, _EXECUTE_ONLY), "mov eax, [ebx]", exits.GP),
        (_kind(_DS, _READABLE_CODE), "mov eax, [ebx]", None),
        (_kind(_DS, _READABLE_CODE), "mov [ebx], eax", exits.GP),
        (_kind(_DS, _NULL), "mov eax, [ebx]", exits.GP),
        (_kind(_DS, _EXPANDING_DOWN, _DATA - 1), "mov [ebx], eax", None),
        (_kind(_DS, _EXPANDING_DOWN, _DATA), "mov [ebx], eax", exits.GP),
        (_kind(_DS, _EXPANDING_DOWN & ~(1 << 22), 0), "mov [ebx], eax", exits.GP),
        (_kind(_CS, _READABLE_CODE), "mov [cs:ebx], eax", exits.GP),
        (_kind(_CS, _READABLE_CODE), "mov eax, [cs:ebx]", None),
    ],
)
def test_a_segment_forbids_what_it_does_on_a_processor(
    rig: NativeRig, change: Callable[[NativeRig], None], source: str, vector: int | None
) -> None:
    before = state(bx=_DATA, bp=_DATA, si=_DATA, di=_DATA, sp=_DATA, dx=32)
    rig.prepare(before)
    change(rig)
    seen = None
    try:
        Emulator(rig.window).step(AreaMemory(before.memory), assembled(source).ljust(15, b"\x90"))
    except InstructionFault as fault:
        seen = fault.vector
        assert fault.error_code == 0
    assert seen == vector


def test_real_mode_knows_limits_but_no_rights(rig: NativeRig) -> None:
    mov_ds_bx_ax, before = b"\x89\x07", state(16, bx=0xFFFD)
    before.bases[layout.DS] = AREA.start
    for bx, expected in ((0xFFFE, True), (0xFFFF, False)):
        before.registers[layout.RBX] = bx
        rig.prepare(before)
        rig.window.u32[_HFLAGS] &= ~layout.HF_PE
        _kind(_DS, _READ_ONLY, 0xFFFF)(rig)
        memory = AreaMemory(before.memory)
        if expected:
            Emulator(rig.window).step(memory, mov_ds_bx_ax)
        else:
            with pytest.raises(InstructionFault):
                Emulator(rig.window).step(memory, mov_ds_bx_ax)


@pytest.mark.parametrize(
    ("source", "address", "vector"),
    [
        ("mov rax, [rbx]", 0x0000_8000_0000_0000, exits.GP),
        ("mov rax, [rbx]", 0x0000_7FFF_FFFF_FFF9, exits.GP),
        ("mov [rbx], rax", 0xFFFF_7FFF_FFFF_FFFF, exits.GP),
        ("mov rax, [rbp]", 0x0000_8000_0000_0000, exits.SS),
        ("push rax", 0x0000_8000_0000_0009, exits.SS),
    ],
)
def test_an_address_of_64_bits_has_to_be_canonical(
    rig: NativeRig, source: str, address: int, vector: int
) -> None:
    before = state(64, bx=address, bp=address, sp=address)
    rig.prepare(before)
    with pytest.raises(InstructionFault) as caught:
        Emulator(rig.window).step(AreaMemory(before.memory), assembled(source, 64).ljust(15, b"\x90"))
    assert caught.value.vector == vector


@pytest.mark.parametrize("source", ["mov rax, [rbx]", "mov [rbx], rax", "movups [rbx], xmm0"])
@pytest.mark.parametrize("address", [0x0000_7FFF_FFFF_FFF0, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FFFF_FFF0])
def test_the_ends_of_both_halves_are_canonical(rig: NativeRig, source: str, address: int) -> None:
    class Anywhere(AreaMemory):
        seen = 0

        def read(self, address: int, size: int) -> bytes:
            self.seen = address
            return bytes(size)

        def write(self, address: int, data: bytes) -> None:
            self.seen = address

    memory = Anywhere(b"")
    rig.prepare(state(64, bx=address))
    Emulator(rig.window).step(memory, assembled(source, 64))
    assert memory.seen == address


@pytest.mark.parametrize("source", ["movaps [ebx], xmm1", "movdqa xmm1, [ebx]", "movntdq [ebx], xmm1"])
def test_aligned_moves_of_vectors_want_alignment(rig: NativeRig, source: str) -> None:
    for offset in (0, 8):
        before = state(bx=_DATA + offset)
        rig.prepare(before)
        emulator, memory = Emulator(rig.window), AreaMemory(before.memory)
        if offset:
            with pytest.raises(InstructionFault):
                emulator.step(memory, assembled(source))
        else:
            emulator.step(memory, assembled(source))


# --- what is not known ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (assembled("fild dword [ebx]"), "fild memory"),
        (assembled("mov ds, [ebx]"), "mov segment, memory"),
        (assembled("movq mm0, [ebx]"), "movq other, memory"),
        (assembled("paddd xmm0, [ebx]"), "paddd vector, memory"),
        (assembled("hlt"), "hlt"),
        (b"\x0f\x0b", "ud2"),
        (b"\x0f\x04\x00", "the bytes 0f 04 00"),
        (b"\x89", "the bytes 89"),
        (b"", "the bytes"),
    ],
)
def test_what_is_not_known_is_named_and_changes_nothing(rig: NativeRig, code: bytes, text: str) -> None:
    before = state(bx=_DATA)
    rig.prepare(before)
    with pytest.raises(Unemulated, match=text):
        Emulator(rig.window).step(AreaMemory(before.memory), code)
    assert difference(before, rig.state(before, before.memory)) == []


@given(st.binary(min_size=1, max_size=15), st.sampled_from([16, 32, 64]))
def test_no_bytes_make_the_emulator_fail(rig: NativeRig, code: bytes, bits: int) -> None:
    before = state(bits, bx=_DATA, si=_DATA, di=_DATA, sp=_DATA)
    rig.prepare(before)
    with suppress(Unemulated, InstructionFault, NotThere, OutsideArea):
        Emulator(rig.window).step(FailingMemory(before.memory, 3), code)


def test_the_emulator_remembers_a_bounded_number_of_instructions(rig: NativeRig) -> None:
    rig.prepare(state(bx=_DATA))
    emulator, memory = Emulator(rig.window), AreaMemory(bytes(len(AREA)))
    head = assembled("mov dword [ebx], 0")[:-4]
    for number in range(10_000):
        emulator.step(memory, head + number.to_bytes(4, "little"))
    [operations] = emulator._modes.values()
    assert len(operations._cache) <= 4096
