"""Sizes and offsets that guests of both widths rely on, as gcc gives them for Xen's public headers."""

import pytest

from pvemu.abi.vocabulary import structures

#   structure or field path             x86_32  x86_64
SIZES = """
    start_info                            1112    1168
    shared_info                           2344    3136
    vcpu_info                               64      64
    vcpu_time_info                          32      32
    mmu_update                              16      16
    mmuext_op                               12      24
    multicall_entry                         32      64
    trap_info                                8      16
    cpu_user_regs                           68     200
    vcpu_guest_context                    2800    5168
    vcpu_runstate_info                      44      48
    xencons_interface                     3088    3088
    sched_poll                              16      24
    xen_memory_reservation                  20      32
    callback_register                       12      16
    evtchn_status                           24      24
"""


@pytest.mark.parametrize("row", SIZES.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_a_structure_has_the_size_guests_know(row):
    name, word4, word8 = row.split()
    structure = structures()[name]
    assert (structure.size(4), structure.size(8)) == (int(word4), int(word8))


@pytest.mark.parametrize(
    ("name", "path", "word", "offset"),
    [
        ("vcpu_info", "arch.cr2", 4, 8),
        ("vcpu_info", "time.version", 4, 32),
        ("vcpu_info", "time.version", 8, 32),
        ("shared_info", "vcpu_info[31]", 4, 31 * 64),
        ("shared_info", "evtchn_pending", 4, 2048),
        ("shared_info", "evtchn_mask", 4, 2048 + 32 * 4),
        ("shared_info", "evtchn_mask", 8, 2048 + 64 * 8),
        ("shared_info", "wc_version", 4, 2048 + 2 * 32 * 4),
        ("start_info", "pt_base", 4, 60),
        ("start_info", "cmd_line", 4, 80),
        ("xencons_interface", "in_cons", 4, 1024 + 2048),
    ],
)
def test_a_field_is_where_guests_look_for_it(name, path, word, offset):
    assert structures()[name].offset(path, word) == offset
