"""No HVM guest takes the process down by its page tables, nor by code, stacks and descriptors on them.

Each guest here comes to a defined end: it goes on to power off, shuts down by a triple fault (a reboot), is
crashed with a reason, or runs until its time is up. Counts and shadows are right after each of them.
"""

from collections.abc import Callable
from typing import Final

import pytest
from hostile_guest import (
    ENDS,
    HOLE,
    HOLE_FRAME,
    ITSELF,
    LAPIC,
    LAPIC_FRAME,
    MEMORY,
    ROOT,
    UNMAPPED,
    UPPER_TABLE,
    Hostile,
    Options,
    every_variant,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from page_table_guest import HVM, NO_TRAP, Code, Run, Variant
from page_table_kernel import DATA, FIRST, KERNEL, SECOND, SHARED, UPPER, Kernel
from page_table_model import CODE_OFFSET
from test_three_pagings import WORK

from pvemu.cpu import exits
from pvemu.hypervisor.shadow.paging import LEAST_FRAMES
from pvemu.memory.page_tables import ACCESSED, DIRTY, FOUR_LEVEL, PAE, PRESENT, TWO_LEVEL
from pvemu.memory.ram import PAGE_SHIFT
from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

IS_NIGHTLY: Final = settings.default is not None and settings.default.max_examples > 50


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cr3",
    [0x7FFFF000, 0xFEE00000, 0xC0000123, 0x1003, 0xFFFFFFFF, (1 << 64) - 1],
)
@every_variant
def test_a_garbage_cr3_ends_in_a_triple_fault(variant: Variant, cr3: int, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        guest.do(Code.SET_CONTROL, value=cr3 if guest.bits == 64 else cr3 & 0xFFFFFFFF, detail=3)
        assert guest.end() is Outcome.REBOOT


@every_variant
def test_tables_that_refer_to_themselves_at_every_level_translate_as_they_say(
    variant: Variant, machine_options: Options
) -> None:
    with Run(variant, **machine_options) as run:
        kernel = Kernel(run)
        root = run.root >> PAGE_SHIFT
        slot = run.variant.root_slot
        upper = [run.frames[index] for index in UPPER[: len(variant.form.levels) - 2]]
        for number in (*upper, run.frames[FIRST]):
            for other in range(4):
                kernel.program.write_entry(number, other, number << PAGE_SHIFT | SHARED)
        flags = PRESENT if variant.form is PAE else SHARED
        for number in (*upper, run.frames[FIRST]):
            kernel.program.write_entry(root, slot, number << PAGE_SHIFT | flags)
            for page in range(4):
                for code in (Code.KERNEL_READ, Code.USER_READ, Code.USER_WRITE, Code.KERNEL_CHANGE):
                    # The first bytes are left alone, so that the tables stay what they are.
                    kernel.access(code, 0, page, 0x7F0 + page * 4, 0xF0F0F0)
                    kernel.access(code, 1, page, 0x7F0 + page * 4, 0xF0F0F0)
        kernel.finish()


@every_variant
def test_a_root_that_refers_to_itself_is_seen_at_one_page(variant: Variant, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        slot, root = variant.root_slot, run.root >> PAGE_SHIFT
        flags = PRESENT if variant.form is PAE else KERNEL
        guest.program.write_entry(root, slot, root << PAGE_SHIFT | flags)
        guest.do(Code.FLUSH_ALL)
        # The same entry at every level.
        page = variant.window + sum(slot % level.entries << level.shift for level in variant.form.levels[1:])
        at = guest.do(Code.KERNEL_READ, page + slot * guest.size)
        guest.do(Code.USER_READ, page)
        assert guest.end() is Outcome.POWEROFF
        assert run.results[at].vector == NO_TRAP
        assert run.results[at].value & ~(ACCESSED | DIRTY) == root << PAGE_SHIFT | flags
        assert run.results[at + 1].vector == exits.PF


@every_variant
def test_tables_where_no_memory_is_read_as_ones(variant: Variant, machine_options: Options) -> None:
    accesses = [code for code in Code if Code.KERNEL_READ <= code <= Code.USER_FETCH]
    # All ones: reserved bits with 8 bytes; with 4 a page that is nowhere, which no code comes from.
    trap = exits.GP if variant.form is TWO_LEVEL else exits.PF
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        done = []
        for number in (LAPIC_FRAME, HOLE_FRAME, 0xFFFFF, 0xFEC00):
            guest.program.write_entry(*guest.kernel.upper(1), number << PAGE_SHIFT | SHARED)
            guest.do(Code.FLUSH_ALL)
            done += [(code, guest.do(code, guest.kernel.address(1, 3) + 0x10, 1)) for code in accesses]
        assert guest.end() is Outcome.POWEROFF
        expected = NO_TRAP if variant.form is TWO_LEVEL else exits.PF
        fetches = (Code.KERNEL_FETCH, Code.USER_FETCH)
        for code, at in done:
            assert run.results[at].vector == (trap if code in fetches else expected)


@every_variant
def test_tables_in_read_only_memory_are_used_and_not_marked(
    variant: Variant, machine_options: Options
) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        number = run.frames[SECOND]
        target = run.frames[DATA[2]] << PAGE_SHIFT | SHARED
        contents = b"".join(target.to_bytes(guest.size, "little") for _ in range(512))
        code = guest.code("mov eax, 0x1234567\nret")
        guest.write(number, 0, contents)
        guest.write(run.frames[DATA[2]], CODE_OFFSET, code)
        p2m = run.machine.domain.p2m
        mfn = p2m.get(number)
        assert mfn is not None
        p2m.set(number, mfn, writable=False)
        guest.program.write_entry(*guest.kernel.upper(1), number << PAGE_SHIFT | SHARED)
        read = guest.do(Code.USER_READ, guest.kernel.address(1, 7) + CODE_OFFSET)
        guest.do(Code.USER_WRITE, guest.kernel.address(1, 8) + 0x10, 0xABCDEF)
        again = guest.do(Code.KERNEL_READ, guest.kernel.address(1, 9) + 0x10)
        fetch = guest.do(Code.USER_FETCH, guest.kernel.address(1, 10) + CODE_OFFSET)
        outcome = guest.end()
        assert run.results[read].value == int.from_bytes(code[:4], "little")
        assert run.results[again].value == 0xABCDEF
        # AMD-V walks tables as if to write them, so that under nested paging each instruction is emulated.
        assert outcome is Outcome.POWEROFF
        assert (run.results[fetch].vector, run.results[fetch].value) == (NO_TRAP, 0x1234567)
        assert run.frame(number)[: len(contents)] == contents


_WORDS: Final = st.builds(
    lambda frame, flags, high: frame << PAGE_SHIFT | flags | high,
    st.one_of(st.integers(0x100, 0x140), st.integers(0, 0x800), st.sampled_from((0xFEE00, 0xC0000, 0xFFFFF))),
    st.one_of(st.sampled_from((0, 1, 3, 7, 7, 7, 0x67, 0x87, 0xE7)), st.integers(0, 0xFFF)),
    st.sampled_from((0, 0, 0, 0, 0, 1 << 63, 1 << 45)),
)


@every_variant
def test_random_bytes_as_tables_lead_to_a_defined_end(variant: Variant, machine_options: Options) -> None:
    accesses = st.tuples(
        st.sampled_from([code for code in Code if Code.KERNEL_READ <= code <= Code.USER_CHANGE]),
        st.integers(0, 1),
        st.integers(0, 511),
        st.integers(0, 0xFFF),
        st.integers(0, 0xFFFFFFFF),
    )

    @settings(max_examples=100 if IS_NIGHTLY else 2)
    @given(
        words=st.lists(_WORDS, min_size=32, max_size=128), todo=st.lists(accesses, min_size=10, max_size=40)
    )
    def check(words: list[int], todo: list[tuple[Code, int, int, int, int]]) -> None:
        with Run(variant, **machine_options) as run:
            guest = Hostile(run)
            mask = (1 << 8 * guest.size) - 1
            table = b"".join((word & mask).to_bytes(guest.size, "little") for word in words)
            for number in run.frames[:8]:
                guest.write(number, 0, (table * (4096 // len(table) + 1))[:4096])
                table = table[guest.size :] + table[: guest.size]
            for region in (0, 1):
                guest.program.write_entry(
                    *guest.kernel.upper(region), run.frames[region] << PAGE_SHIFT | SHARED
                )
            for code, region, page, offset, value in todo:
                guest.do(code, guest.kernel.address(region, page) + offset, value)
                guest.do(Code.FLUSH_ALL)
            assert guest.end(0.005) in ENDS

    check()


# --- code and stacks on tables -------------------------------------------------------------------

#: Fills a part of the page that it is on, then writes the instruction that comes next.
_FILL_AND_PATCH: Final = """
start:  lea $di, [$bx - 0x800 + 0x400]
        mov ecx, 64
        xor eax, eax
.fill:  mov [$di], eax
        add $di, 4
        loop .fill
        mov ecx, 64
        rep stosd
        lea $si, [$bx + patched - start + 1]
        mov dword [$si], 0x5EED
        invlpg [$bx]
patched: mov eax, 0
        mov $dx, cr3
        mov cr3, $dx
        ret
"""


@pytest.mark.parametrize("page", [ITSELF, UPPER_TABLE, ROOT])
@every_variant
def test_code_may_change_the_table_that_it_is_on(
    variant: Variant, page: int, machine_options: Options
) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        numbers = {ITSELF: run.frames[FIRST], UPPER_TABLE: run.frames[UPPER[0]], ROOT: run.root >> PAGE_SHIFT}
        number = numbers[page]
        guest.write(number, CODE_OFFSET, guest.code(_FILL_AND_PATCH))
        guest.write(number, 0x400, b"\xa2\x55" * 0x100)
        at = [guest.do(Code.KERNEL_FETCH, guest.at(page) + CODE_OFFSET) for _ in range(3)]
        assert guest.end() is Outcome.POWEROFF, run.machine.log_lines
        assert [(run.results[each].vector, run.results[each].value) for each in at] == [(NO_TRAP, 0x5EED)] * 3
        assert not any(run.frame(number)[0x400:0x600])


_PUSH_AND_FAULT: Final = """
        mov $bp, $sp
        mov $sp, $cx
        push 1
        push 2
        pushf
        call .next
.next:  pop $ax
        popf
        pop $ax
        pop $ax
        cmp $sp, $cx
        jne .wrong
        ud2
.wrong: int3
"""


@pytest.mark.parametrize("page", [ITSELF, UPPER_TABLE, ROOT])
@every_variant
def test_a_stack_may_be_on_a_table(variant: Variant, page: int, machine_options: Options) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        if guest.bits == 64:
            source = _PUSH_AND_FAULT.replace(
                "mov $sp, $cx", f"mov rsp, {guest.at(page) + 0xC00:#x}\nmov rcx, rsp"
            )
        else:
            source = _PUSH_AND_FAULT.replace(
                "mov $sp, $cx", f"mov esp, {guest.at(page) + 0xC00:#x}\nmov ecx, esp"
            )
        at = [guest.call(source) for _ in range(2)]
        assert guest.end() is Outcome.POWEROFF, run.machine.log_lines
        assert [run.results[each].vector for each in at] == [exits.UD] * 2


# --- descriptor tables and the task state --------------------------------------------------------

#: Copies what a descriptor-table register has to the place in EDI, and loads it from there.
_MOVE_TABLE: Final = """
        sub $sp, 16
        s{table} [$sp]
        mov $si, [$sp + 2]
        mov [$sp + 2], $di
        mov word [$sp], 0x1ff
        mov ecx, 0x200 / 4
        cld
        {copy}
        l{table} [$sp]
        add $sp, 16
        mov eax, ds
        mov ds, eax
        mov eax, ss
        mov ss, eax
        {fault}
        mov eax, 1
        ret
"""
#: Makes another place the task state.
_MOVE_TASK: Final = """
        sub $sp, 16
        sgdt [$sp]
        mov $dx, [$sp + 2]
        add $sp, 16
        xor eax, eax
        str ax
        add $dx, $ax
        mov eax, [$dx + 2]
        and eax, 0xffffff
        movzx esi, byte [$dx + 7]
        shl esi, 24
        or esi, eax
        mov ecx, 0x68 / 4
        mov $bp, $di
        cld
        {copy}
        mov $ax, $bp
        mov [$dx + 2], ax
        shr $ax, 16
        mov [$dx + 4], al
        mov [$dx + 7], ah
        {upper}
        mov byte [$dx + 5], 0x89
        str ax
        ltr ax
        mov eax, 1
        ret
"""


def _moved(guest: Hostile, what: str, page: int) -> str:
    copies = page in (ITSELF, UPPER_TABLE, ROOT)
    copy = "rep movsd" if copies else ""
    place = f"mov $di, {guest.at(page) + 0xA00:#x}\n"
    if what == "task":
        upper = "shr rax, 16\nmov [rdx + 8], eax" if guest.bits == 64 else ""
        return place + _MOVE_TASK.format(copy=copy, upper=upper)
    return place + _MOVE_TABLE.format(table=what, copy=copy, fault="ud2" if what == "idt" else "")


@pytest.mark.parametrize("what", ["gdt", "idt", "task"])
@pytest.mark.parametrize("page", [ITSELF, UPPER_TABLE, ROOT])
@every_variant
def test_what_the_processor_looks_up_may_be_on_a_table(
    variant: Variant, page: int, what: str, machine_options: Options
) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        guest.do(Code.USER_READ, guest.at(MEMORY))
        at = guest.call(_moved(guest, what, page))
        after = [guest.do(Code.USER_READ, guest.at(MEMORY)) for _ in range(2)] if what == "task" else []
        assert guest.end() is Outcome.POWEROFF, (run.machine.log_lines, run.text)
        found = run.results[at]
        assert (found.vector, found.value) == ((exits.UD, 0) if what == "idt" else (NO_TRAP, 1))
        assert all(run.results[each].vector == NO_TRAP for each in after)


@pytest.mark.parametrize("what", ["gdt", "idt", "task"])
@pytest.mark.parametrize("page", [UNMAPPED, LAPIC, HOLE])
@every_variant
def test_what_the_processor_looks_up_may_be_nowhere(
    variant: Variant, page: int, what: str, machine_options: Options
) -> None:
    with Run(variant, **machine_options) as run:
        guest = Hostile(run)
        guest.do(Code.USER_READ, guest.at(MEMORY))
        guest.call(_moved(guest, what, page))
        guest.do(Code.USER_READ, guest.at(UNMAPPED))
        ends = {Outcome.REBOOT} if page == UNMAPPED else {Outcome.REBOOT, Outcome.CRASH}
        outcome = guest.end()
        assert outcome in ends, run.results
        assert outcome is Outcome.REBOOT or run.machine.log_lines


#: Goes on with a table of descriptors on the page in EBP, which has one more of them, that of a task.
_SWITCH_TASK: Final = """
        sub esp, 16
        sgdt [esp]
        mov esi, [esp + 2]
        lea edi, [ebp + 0x100]
        mov [esp + 2], edi
        mov word [esp], 0x37
        mov ecx, 0x30 / 4
        cld
        rep movsd
        lgdt [esp]
        {how} 0x30:0
"""
#: The new task powers off at once.
_POWER_OFF: Final = "mov eax, 1 << 13\nmov edx, 0xb004\nout dx, ax\nhlt"
_WITH_TASKS: Final = [variant for variant in HVM if variant.form is not FOUR_LEVEL]
_OTHER_CR3S: Final = (0, 0x1000, 0x100000, 0x400000, 0x7FFFF000, 0xFEE00000, 0xFFFFFFE0)


def _task_segment(guest: Hostile, cr3: int, eip: int) -> bytes:
    """A TSS with flat segments of ring 0, as the library has them."""
    task = bytearray(0x68)
    stack = guest.run.alias(DATA[2]) + 0xFF0
    for at, value in ((0x1C, cr3), (0x20, eip), (0x24, 2), (0x38, stack)):
        task[at : at + 4] = value.to_bytes(4, "little")
    for at, selector in ((0x48, 0x10), (0x4C, 0x08), (0x50, 0x10), (0x54, 0x10)):
        task[at : at + 2] = selector.to_bytes(2, "little")
    return bytes(task)


def _switch(guest: Hostile, how: str, cr3: int) -> Outcome:
    frame, base = guest.run.frames[DATA[1]], guest.run.alias(DATA[1])
    guest.write(frame, 0x300, guest.code(_POWER_OFF))
    guest.write(frame, 0x200, _task_segment(guest, cr3, base + 0x300))
    low = 0x67 | (base + 0x200 & 0xFFFFFF) << 16 | 0x89 << 40
    guest.write(frame, 0x130, low.to_bytes(8, "little"))
    guest.call(f"mov ebp, {base:#x}\n" + _SWITCH_TASK.format(how=how))
    guest.do(Code.SET_CONTROL, value=0xFFFFFFFF, detail=3)  # never reached; it would be a reboot
    return guest.end()


@pytest.mark.parametrize("how", ["jmp", "call"])
@pytest.mark.parametrize("variant", _WITH_TASKS, ids=lambda variant: variant.name)
def test_a_task_switch_loads_the_guests_cr3_and_no_other(
    variant: Variant, how: str, machine_options: Options
) -> None:
    with Run(variant, **machine_options) as run:
        assert _switch(Hostile(run), how, run.root) is Outcome.POWEROFF
    for cr3 in _OTHER_CR3S if how == "jmp" else ():
        with Run(variant, **machine_options) as run:
            # What is in a machine's frame of that number does not matter, whoever has it.
            assert _switch(Hostile(run), how, cr3) in {Outcome.REBOOT, Outcome.CRASH}


# --- little memory for shadows -------------------------------------------------------------------

#: Frames with which tables have to go all the time.
_FEW: Final = 49
#: Frames that something else has.
_MACHINE_MAP: Final = 2
_SHADOWED: Final = [variant for variant in HVM if variant.paging is Paging.SHADOW]


@pytest.mark.parametrize("variant", _SHADOWED, ids=lambda variant: variant.name)
def test_shadows_that_come_and_go_change_nothing(variant: Variant, machine_options: Options) -> None:
    for work in WORK:
        with Run(variant, **machine_options) as run:
            assert run.shadow is not None
            run.shadow.resize_pool(_FEW)
            kernel = Kernel(run)
            work(kernel)
            kernel.finish()


@pytest.mark.parametrize("frames", [LEAST_FRAMES, LEAST_FRAMES + 2, 10, 16])
@pytest.mark.parametrize("variant", _SHADOWED, ids=lambda variant: variant.name)
def test_too_little_memory_for_shadows_is_a_defined_end(
    variant: Variant, frames: int, machine_options: Options
) -> None:
    works: tuple[Callable[[Kernel], None], ...] = WORK[:1]
    for work in works:
        with Run(variant, **machine_options) as run:
            assert run.shadow is not None
            run.shadow.resize_pool(_MACHINE_MAP + frames)
            kernel = Kernel(run)
            work(kernel)
            assert run.start(kernel.program.finish(), 0.004) in ENDS
