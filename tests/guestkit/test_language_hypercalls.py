"""The hypercall statement: every argument arrives in its register, and Xen is called."""

import pytest
from assembling import code, problems
from hypothesis import given
from hypothesis import strategies as st
from register_machine import RegisterMachine, memory_at

from guestkit import AssemblyError, assemble
from pvemu.abi.hypercalls import HYPERCALLS, Hypercall

_REGISTERS = {32: ["ebx", "ecx", "edx", "esi", "edi"], 64: ["rdi", "rsi", "rdx", "r10", "r8"]}
_OTHERS = {32: ["eax", "ebp"], 64: ["rax", "rbp", "r12"]}


def _sources(bits: int) -> st.SearchStrategy[str]:
    names = [*_REGISTERS[bits], *_OTHERS[bits]]
    register = st.sampled_from(names)
    number = st.integers(-(1 << 31), (1 << 32) - 1 if bits == 32 else (1 << 64) - 1).map(str)
    address = st.one_of(
        register.map(lambda base: f"[{base}]"),
        st.tuples(
            register, st.sampled_from(names), st.sampled_from([1, 2, 4, 8]), st.integers(-200, 5000)
        ).map(lambda parts: f"[{parts[0]} + {parts[1]} * {parts[2]} + {parts[3]}]"),
    )
    sizes = ["", "dword ", "word ", "byte "] + (["qword "] if bits == 64 else [])
    memory = st.tuples(st.sampled_from(sizes), address).map("".join)
    return st.one_of(register, number, memory, address.map("&".__add__))


def _expected(bits: int, source: str, before: RegisterMachine) -> int:
    """The value that a source has in the registers before."""
    kind, _, inner = source.partition("[")
    if not inner:
        return before.get(source) if source.isalnum() and not source.isdigit() else int(source) % (1 << bits)
    terms = [term.split(" * ") for term in inner.rstrip("]").split(" + ")]
    total = 0
    for term in terms:
        value = int(term[0]) if term[0].lstrip("-").isdigit() else before.get(term[0])
        total += value * (int(term[1]) if len(term) == 2 else 1)
    total %= 1 << bits
    if kind == "&":
        return total
    return memory_at(total, {"": bits // 8, "qword ": 8, "dword ": 4, "word ": 2, "byte ": 1}[kind])


def _machine(bits: int) -> RegisterMachine:
    names = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r10", "r12"]
    values = {name: (index + 1) * 0x1122334455667788 % (1 << bits) for index, name in enumerate(names)}
    return RegisterMachine(bits, values)


@pytest.mark.parametrize("bits", [32, 64])
@given(st.data())
def test_every_argument_arrives_in_its_register(bits: int, data: st.DataObject) -> None:
    sources = data.draw(st.lists(_sources(bits), min_size=5, max_size=5))
    try:
        program = code(f"hypercall hypfs_op, {', '.join(sources)}", bits)
    except AssemblyError as error:
        # Only sources that each read both registers have no order.
        assert "need each other's registers" in str(error)
        assert any("[" in source for source in sources)
        return
    machine = _machine(bits)
    machine.run(program)
    registers = [name.replace("e", "r", 1) if bits == 32 else name for name in _REGISTERS[bits]]
    found = [machine.registers[name] for name in registers]
    assert found == [_expected(bits, source, _machine(bits)) for source in sources]


@pytest.mark.parametrize("bits", [32, 64])
@given(st.data())
def test_any_permutation_of_the_argument_registers_works(bits: int, data: st.DataObject) -> None:
    sources = data.draw(st.permutations(_REGISTERS[bits]))
    machine = _machine(bits)
    machine.run(code(f"hypercall hypfs_op, {', '.join(sources)}", bits))
    before = _machine(bits)
    wholes = [name.replace("e", "r", 1) if bits == 32 else name for name in _REGISTERS[bits]]
    assert [machine.registers[name] for name in wholes] == [before.get(source) for source in sources]


def test_memory_whose_registers_are_overwritten_is_still_read_right() -> None:
    machine = _machine(32)
    machine.run(code("hypercall console_io, [ecx], [edx], [ebx + 4]"))
    before = _machine(32)
    addresses = [before.get("ecx"), before.get("edx"), before.get("ebx") + 4]
    assert [machine.registers[name] for name in ("rbx", "rcx", "rdx")] == [
        memory_at(at, 4) for at in addresses
    ]


def test_signs_in_an_address_change_nothing_of_the_order() -> None:
    plain, signed = ("ecx, [ebx], [edx + 4]", "ecx, [+ebx], [- -edx + 4]")
    assert code(f"hypercall console_io, {plain}") == code(f"hypercall console_io, {signed}")


def test_narrow_registers_are_widened_with_zeros() -> None:
    machine = _machine(64)
    machine.run(code("hypercall hypfs_op, edi, si, dl, esi, edi", 64))
    before = _machine(64)
    assert [machine.registers[name] for name in _REGISTERS[64]] == [
        before.get(name) for name in ("edi", "si", "dl", "esi", "edi")
    ]


def test_a_register_that_is_in_place_is_not_moved() -> None:
    assert code("hypercall memory_op, ebx, ecx") == bytes.fromhex("b80c000000cd82")


def test_zero_and_small_numbers_take_the_short_forms() -> None:
    assert code("hypercall memory_op, 0, 5", 64)[:7] == bytes.fromhex("31ff be05000000")


@pytest.mark.parametrize(
    "source", ["0x89abcdef_01234567", "0x89abcdef:0x01234567", "edx:eax", "[ebp + 8]", "qword [ebp + 8]"]
)
def test_a_64_bit_argument_takes_two_registers_low_half_first(source: str) -> None:
    machine = _machine(32)
    machine.registers |= {"rax": 0x01234567, "rdx": 0x89ABCDEF}
    machine.run(code(f"hypercall set_timer_op, {source}"))
    if "[" in source:
        address = _machine(32).registers["rbp"] + 8
        expected = [memory_at(address, 4), memory_at(address + 4, 4)]
    else:
        expected = [0x01234567, 0x89ABCDEF]
    assert [machine.registers["rbx"], machine.registers["rcx"]] == expected


@pytest.mark.parametrize("address", ["x", "&x"])
def test_an_address_is_a_64_bit_argument_with_an_upper_half_of_zero(address: str) -> None:
    assert code(f"x: hypercall set_timer_op, {address}")[:7] == bytes.fromhex("bb00000000 31c9")


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("row", HYPERCALLS, ids=lambda row: row.name)
def test_every_hypercall_calls_its_slot_of_the_page(bits: int, row: Hypercall) -> None:
    arguments = "".join(", 0" for _ in row.signature(bits // 8))
    image = assemble(f'guest "k", bits={bits}\nstart: hypercall {row.name}{arguments}\nhlt')
    page = image.symbols["hypercall_page"] - image.symbols["start"]
    target = _machine(bits).run(image.section_bytes(".text"))
    assert int(target, 0) == page + 32 * row.number


def test_iret_is_jumped_to_and_does_not_come_back() -> None:
    image = assemble('guest "k"\nstart: hypercall iret\nlast:')
    assert image.section_bytes(".text")[0] == 0xE9
    assert image.symbols["last"] - image.symbols["start"] == 5


@pytest.mark.parametrize(
    ("bits", "source", "expected"),
    [
        # What Xen itself writes into the slots of a hypercall page.
        (32, "hypercall memory_op, ebx, ecx", "b8 0c 00 00 00 cd 82"),
        (32, "hypercall iret", "50 b8 17 00 00 00 cd 82"),
        (64, "hypercall memory_op, rdi, rsi", "51 41 53 b8 0c 00 00 00 0f 05 41 5b 59"),
        (64, "hypercall iret", "51 41 53 50 b8 17 00 00 00 0f 05"),
    ],
)
def test_without_a_page_the_trap_itself_is_used(bits: int, source: str, expected: str) -> None:
    assert code(source, bits) == bytes.fromhex(expected)


def test_a_program_without_guest_uses_its_own_page() -> None:
    program = code("hypercall memory_op, ebx, ecx\nalign 4096\nhypercall_page: reserve 4096")
    assert program[0] == 0xE8
    assert int.from_bytes(program[1:5], "little") + 5 == 4096 + 12 * 32


def test_only_the_last_argument_of_sched_op_may_be_left_out() -> None:
    assert code("hypercall sched_op, 1, 0") == code("hypercall sched_op, 1, 0, edx")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hypercall sched_op", "sched_op takes 2 or 3 arguments: cmd, arg, start_info_mfn; 0 given"),
        ("hypercall memory_op, 1", "memory_op takes 2 arguments: cmd, arg; 1 given"),
        ("hypercall iret, 1", "iret takes no arguments; 1 given"),
        ("hypercall multicall, 1, 2, 3", "multicall takes 2 arguments: call_list, nr_calls; 3 given"),
        ("hypercall shed_op, 1", "there is no hypercall shed_op; did you mean sched_op?"),
        (
            "hypercall HYPERVISOR_sched_op, 1",
            "there is no hypercall HYPERVISOR_sched_op; did you mean sched_op?",
        ),
        ("hypercall set_timer_op, eax", "timeout has 64 bits: write high:low, for example 0:eax"),
        ("hypercall set_timer_op, dword [eax]", "timeout has 64 bits: a qword in memory, or high:low"),
        ("hypercall set_timer_op, 1 << 64", "0x10000000000000000 does not fit into 64 bits"),
        ("hypercall memory_op, 1:2, 3", "cmd takes one register, not two"),
        ("hypercall memory_op, &eax, 3", "a register has no address; & is for symbols and [memory]"),
        (
            "hypercall memory_op, [ebx + ecx], [ebx + ecx]",
            "these arguments need each other's registers; load one into another register first",
        ),
        ("hypercall memory_op, frob, 3", "frob is not defined"),
        ("mov eax, [&ebx]", 'expected a value, found "&"'),
    ],
)
def test_a_wrong_hypercall_is_explained(source: str, message: str) -> None:
    assert problems(source) == [message]
