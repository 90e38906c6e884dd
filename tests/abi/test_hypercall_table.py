"""The table of hypercalls: complete, unambiguous, and within the registers that the ABI has."""

import pytest

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError, PvemuError
from pvemu.abi.hypercalls import ARGUMENT_REGISTERS, BY_NAME, BY_NUMBER, HYPERCALLS
from pvemu.abi.vocabulary import HEADERS, constants
from pvemu.abi.word import WORDS


def test_numbers_are_unique_and_leave_only_the_gaps_of_the_header():
    numbers = [row.number for row in HYPERCALLS]
    assert numbers == [number for number in range(56) if number != 11 and not 43 <= number <= 47]


def test_names_are_unique():
    assert len({row.name for row in HYPERCALLS}) == len(HYPERCALLS)


def test_every_row_is_found_by_number_and_by_name():
    for row in HYPERCALLS:
        assert BY_NUMBER[row.number] is row
        assert BY_NAME[row.name] is row
    assert BY_NAME["mca"] is BY_NAME["arch_0"]


@pytest.mark.parametrize("word", WORDS)
def test_no_hypercall_needs_more_than_five_registers(word):
    assert max(row.registers(word) for row in HYPERCALLS) == 5


@pytest.mark.parametrize(
    ("name", "word4", "word8"),
    [
        ("set_callbacks", 4, 3),
        ("update_descriptor", 4, 2),
        ("update_va_mapping", 4, 3),
        ("update_va_mapping_otherdomain", 5, 4),
        ("set_timer_op", 2, 1),
        ("stack_switch", 2, 2),
        ("iret", 0, 0),
    ],
)
def test_a_64_bit_argument_takes_two_registers_of_a_32_bit_guest(name, word4, word8):
    assert (BY_NAME[name].registers(4), BY_NAME[name].registers(8)) == (word4, word8)


@pytest.mark.parametrize("word", WORDS)
def test_every_argument_has_a_known_type_and_a_name_of_its_own(word):
    for row in HYPERCALLS:
        arguments = row.signature(word)
        assert {argument.type for argument in arguments} <= set(ARGUMENT_REGISTERS)
        assert len({argument.name for argument in arguments}) == len(arguments)


def test_only_last_arguments_are_optional():
    for row in HYPERCALLS:
        flags = [argument.optional for argument in row.arguments]
        assert flags == sorted(flags)


def test_every_guest_kind_is_known():
    assert set().union(*(row.guests for row in HYPERCALLS)) == {"pv32", "pv64", "hvm"}


def test_subcommand_prefixes_name_constants_of_the_headers_there_are():
    families = ("MMU_", "MMUEXT_", "SCHEDOP_", "XENMEM_", "EVTCHNOP_", "XENVER_", "CONSOLEIO_", "PHYSDEVOP_")
    families += ("VMASST_CMD_", "VCPUOP_", "SEGBASE_", "XENNMI_", "CALLBACKOP_")
    assert set(families) <= {row.subcommands for row in HYPERCALLS}
    for family in families:
        assert any(name.startswith(family) for name in constants())


def test_two_headers_never_give_a_name_two_values():
    seen: dict[str, object] = {}
    for module in HEADERS:
        for name, value in vars(module).items():
            if name.isupper() or "_" in name.strip("_"):
                assert seen.setdefault(name, value) is value or seen[name] == value, name


def test_the_vocabulary_has_hypercall_and_error_numbers():
    names = constants()
    assert names["__HYPERVISOR_sched_op"] == 29
    assert names["__HYPERVISOR_mca"] == 48
    assert names["EINVAL"] == 22
    assert names["EWOULDBLOCK"] == names["EAGAIN"] == 11


def test_the_vocabulary_follows_the_width_of_the_guest():
    assert (constants(4)["FLAT_KERNEL_CS"], constants(8)["FLAT_KERNEL_CS"]) == (0xE019, 0xE033)
    assert set(constants(4)) == set(constants(8))


def test_a_hypercall_error_gives_the_guest_a_negative_number():
    error = HypercallError(Errno.EINVAL)
    assert (error.errno, error.result, str(error)) == (22, -22, "EINVAL")
    assert not isinstance(error, PvemuError)
