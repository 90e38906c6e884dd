"""HVM parameters and what else hvm_op, vcpu_op, xen_version, vm_assist and physdev_op say to an HVM guest."""

import pytest
from translated import Guest, Translated

from pvemu.abi import features, hvm_op
from pvemu.abi.errno import Errno
from pvemu.abi.hvm_vcpu import VCPU_HVM_MODE_32B, VCPU_HVM_MODE_64B, vcpu_hvm_context
from pvemu.abi.hypercalls import HVM, HYPERCALLS
from pvemu.abi.physdev import PHYSDEVOP_eoi, PHYSDEVOP_get_free_pirq, PHYSDEVOP_map_pirq
from pvemu.abi.sched import SHUTDOWN_reboot
from pvemu.abi.vcpu import VCPUOP_initialise, VCPUOP_is_up, VCPUOP_up
from pvemu.abi.version import (
    XENVER_get_features,
    XENVER_platform_parameters,
    xen_feature_info,
    xen_platform_parameters,
)
from pvemu.abi.xen import (
    DOMID_SELF,
    MMUEXT_TLB_FLUSH_LOCAL,
    VMASST_CMD_enable,
    VMASST_TYPE_runstate_update_flag,
    VMASST_TYPE_writable_pagetables,
)

WORDS = (4, 8)
SETTABLE = {
    hvm_op.HVM_PARAM_CALLBACK_IRQ: 5,
    hvm_op.HVM_PARAM_VM86_TSS: 0x2000,
    hvm_op.HVM_PARAM_VM86_TSS_SIZED: 200 << 32 | 0x3000,
    hvm_op.HVM_PARAM_ACPI_IOPORTS_LOCATION: 1,
    hvm_op.HVM_PARAM_VM_GENERATION_ID_ADDR: 0x1234,
    hvm_op.HVM_PARAM_STORE_EVTCHN: 7,
    hvm_op.HVM_PARAM_CONSOLE_EVTCHN: 8,
    hvm_op.HVM_PARAM_X87_FIP_WIDTH: 8,
}
READABLE = (hvm_op.HVM_PARAM_STORE_PFN, hvm_op.HVM_PARAM_CONSOLE_PFN, hvm_op.HVM_PARAM_ALTP2M)
RETIRED = (4, 13, 20, 21, 22, 23, 24, 25, 26, 30)


def set_param(guest: Guest, index: int, value: int, domid: int = DOMID_SELF) -> int:
    """HVMOP_set_param."""
    fields = {"domid": domid, "index": index, "value": value}
    return guest.command("hvm_op", hvm_op.HVMOP_set_param, hvm_op.xen_hvm_param, **fields).result


def get_param(guest: Guest, index: int, domid: int = DOMID_SELF) -> int:
    """HVMOP_get_param: the value, or the error."""
    answer = guest.command(
        "hvm_op", hvm_op.HVMOP_get_param, hvm_op.xen_hvm_param, domid=domid, index=index, value=99
    )
    return int(answer.op.value) if answer.result == 0 else answer.result


@pytest.mark.parametrize("word", WORDS)
def test_a_guest_sets_what_is_its_own_and_reads_it_back(word: int) -> None:
    with Translated(word=word) as machine:
        for index, value in SETTABLE.items():
            assert set_param(machine[1], index, value) == 0
        expected = SETTABLE | {hvm_op.HVM_PARAM_VM86_TSS: 0x3000}
        assert {index: get_param(machine[1], index) for index in SETTABLE} == expected


def test_a_guest_reads_where_the_toolstack_has_put_its_rings() -> None:
    with Translated() as machine:
        for index in READABLE:
            machine.domctl.hvm.set_parameter(machine[1].domain, index, 0xFEFFC)
            assert get_param(machine[1], index) == 0xFEFFC
            assert set_param(machine[1], index, 1) == -Errno.EPERM


def test_what_is_the_toolstacks_a_guest_neither_sets_nor_reads() -> None:
    with Translated() as machine:
        for index in range(hvm_op.HVM_NR_PARAMS):
            if index in RETIRED:
                assert (set_param(machine[1], index, 1), get_param(machine[1], index)) == (-Errno.EINVAL,) * 2
            elif index not in SETTABLE and index not in READABLE:
                assert (set_param(machine[1], index, 1), get_param(machine[1], index)) == (-Errno.EPERM,) * 2
        beyond = hvm_op.HVM_NR_PARAMS
        assert (set_param(machine[1], beyond, 1), get_param(machine[1], beyond)) == (-Errno.EINVAL,) * 2


def test_values_that_make_no_sense_are_refused() -> None:
    with Translated() as machine:
        assert set_param(machine[1], hvm_op.HVM_PARAM_X87_FIP_WIDTH, 5) == -Errno.EINVAL
        assert set_param(machine[1], hvm_op.HVM_PARAM_STORE_EVTCHN, 7, domid=2) == -Errno.EPERM
        assert get_param(machine[1], hvm_op.HVM_PARAM_STORE_EVTCHN, domid=2) == -Errno.EPERM
        assert get_param(machine[1], hvm_op.HVM_PARAM_STORE_EVTCHN, domid=55) == -Errno.ESRCH
        assert get_param(machine[1], hvm_op.HVM_PARAM_STORE_EVTCHN, domid=1) == 0
        assert set_param(machine[1], hvm_op.HVM_PARAM_VM86_TSS_SIZED, 1 << 63) == 0
        assert get_param(machine[1], hvm_op.HVM_PARAM_VM86_TSS_SIZED) == 0x20 + 0x2000 + 104 + 1 << 32
        assert not machine[1].domain.has_shut_down
        assert set_param(machine[1], hvm_op.HVM_PARAM_VM86_TSS_SIZED, 0x3000) == -Errno.EINVAL
        assert machine[1].domain.has_shut_down


def test_the_toolstacks_reason_for_a_triple_fault_is_what_it_becomes() -> None:
    with Translated() as machine:
        machine[1].load()
        machine[1].vcpu.hvm.triple_fault()
        assert machine[1].domain.shutdown_reason == SHUTDOWN_reboot


def test_other_operations_answer_as_for_an_hvm_guest() -> None:
    with Translated() as machine, Translated(paging="shadow") as shadowed:
        for each in (machine[1], shadowed[1]):
            assert each.call("hvm_op", hvm_op.HVMOP_flush_tlbs, 0) == 0
            assert each.call("hvm_op", hvm_op.HVMOP_flush_tlbs, 8) == -Errno.EINVAL
            assert each.call("hvm_op", hvm_op.HVMOP_altp2m, 0) == -Errno.EOPNOTSUPP
            assert each.call("hvm_op", 0x1000, 0) == -Errno.ENOSYS
        dying = hvm_op.HVMOP_pagetable_dying, hvm_op.xen_hvm_pagetable_dying
        assert machine[1].command("hvm_op", *dying, domid=DOMID_SELF).result == -Errno.EINVAL
        assert shadowed[1].command("hvm_op", *dying, domid=DOMID_SELF).result == 0
        assert shadowed[1].command("hvm_op", *dying, domid=2).result == -Errno.EOPNOTSUPP
        kind = hvm_op.HVMOP_get_mem_type, hvm_op.xen_hvm_get_mem_type
        for pfn, expected in ((3, 0), (0x700, 2)):
            answer = machine[1].command("hvm_op", *kind, domid=DOMID_SELF, pfn=pfn)
            assert (answer.result, answer.op.mem_type) == (0, expected)


def test_a_vector_of_a_vcpus_own_is_not_an_exceptions() -> None:
    with Translated() as machine:

        def choose(vcpu: int, vector: int) -> int:
            structure = hvm_op.xen_hvm_evtchn_upcall_vector
            command = hvm_op.HVMOP_set_evtchn_upcall_vector
            return machine[1].command("hvm_op", command, structure, vcpu=vcpu, vector=vector).result

        assert choose(0, 0xF) == -Errno.EINVAL
        assert choose(1, 0x40) == -Errno.ENOENT
        assert choose(0, 0x40) == 0


@pytest.mark.parametrize("word", WORDS)
def test_features_say_what_an_hvm_guest_can_rely_on(word: int) -> None:
    with Translated(word=word) as machine:
        answer = machine[1].command("xen_version", XENVER_get_features, xen_feature_info, submap_idx=0)
        present = {number for number in range(32) if answer.op.submap >> number & 1}
        assert present == {
            features.XENFEAT_writable_page_tables,
            features.XENFEAT_auto_translated_physmap,
            features.XENFEAT_hvm_callback_vector,
            features.XENFEAT_hvm_safe_pvclock,
            features.XENFEAT_memory_op_vnode_supported,
            features.XENFEAT_not_direct_mapped,
        }
        answer = machine[1].command("xen_version", XENVER_platform_parameters, xen_platform_parameters)
        assert answer.op.virt_start == (0 if word == 4 else 0xFFFF_8000_0000_0000)


@pytest.mark.parametrize("word", WORDS)
def test_hypercalls_that_are_for_pv_guests_only_are_missing(word: int) -> None:
    with Translated(word=word) as machine:
        guest = machine[1]
        for row in HYPERCALLS:
            if HVM not in row.guests:
                assert guest.call(row.name, 0, 0) == -Errno.ENOSYS, row.name
        for command in (PHYSDEVOP_map_pirq, PHYSDEVOP_eoi, PHYSDEVOP_get_free_pirq, 24):
            assert guest.call("physdev_op", command, guest.put(bytes(64))) == -Errno.ENOSYS
        request = guest.put(bytes((MMUEXT_TLB_FLUSH_LOCAL, *bytes(31))))
        assert guest.call("mmuext_op", request, 1, 0, DOMID_SELF) == -Errno.EINVAL
        assist = VMASST_CMD_enable
        assert guest.call("vm_assist", assist, VMASST_TYPE_runstate_update_flag) == 0
        assert guest.call("vm_assist", assist, VMASST_TYPE_writable_pagetables) == -Errno.EINVAL


# --- further vCPUs --------------------------------------------------------------------------------

FLAT = {
    **{f"{name}_limit": 0xFFFFFFFF for name in ("cs", "ds", "ss", "es")},
    "cs_ar": 0xC9B,
    "ds_ar": 0xC93,
    "ss_ar": 0xC93,
    "es_ar": 0,
    "tr_ar": 0x8B,
    "tr_limit": 0x67,
}
LONG = {"cr0": 0x80000001, "cr4": 0x20, "efer": 0x500, "rip": 0x1000}


def initialise(guest: Guest, mode: int, pad: int = 0, **registers: int) -> int:
    """VCPUOP_initialise of vCPU 1."""
    form = "x86_32" if mode == VCPU_HVM_MODE_32B else "x86_64"
    context = vcpu_hvm_context.pack(guest.word, mode=mode, pad=pad, cpu_regs={form: registers})
    return guest.call("vcpu_op", VCPUOP_initialise, 1, guest.put(context))


@pytest.mark.parametrize(
    "mistake",
    [
        {"pad1": 1},
        {"cs_ar": 0x1C9B},
        {"cs_ar": 0xC93},
        {"cs_ar": 0},
        {"ss_ar": 0xC91},
        {"ss_ar": 0xC9B},
        {"ss_ar": 0xCF3},
        {"ds_ar": 0xC13},
        {"ds_ar": 0xC99},
        {"ds_ar": 0xCF3},
        {"tr_ar": 0x82},
        {"tr_ar": 0x9B},
        {"eip": 0x2000, "cs_limit": 0xFFF, "cs_ar": 0x49B},
        {"efer": 0x400},
        {"efer": 0x1000},
        {"cr4": 1 << 31},
    ],
)
def test_registers_that_no_processor_has_are_refused(mistake: dict[str, int]) -> None:
    with Translated(vcpus=2) as machine:
        assert initialise(machine[1], VCPU_HVM_MODE_32B, **FLAT | mistake) == -Errno.EINVAL
        assert machine[1].call("vcpu_op", VCPUOP_up, 1, 0) == -Errno.EINVAL


@pytest.mark.parametrize(
    "mistake", [{"rip": 1 << 47}, {"cr0": 1}, {"cr4": 0}, {"efer": 0}, {"efer": 1 << 20}]
)
def test_sixty_four_bits_want_long_mode(mistake: dict[str, int]) -> None:
    with Translated(vcpus=2, word=8) as machine:
        assert initialise(machine[1], VCPU_HVM_MODE_64B, **LONG | mistake) == -Errno.EINVAL
        assert initialise(machine[1], 2, **LONG) == -Errno.EINVAL
        assert initialise(machine[1], VCPU_HVM_MODE_64B, 1, **LONG) == -Errno.EINVAL


@pytest.mark.parametrize("word", WORDS)
def test_a_vcpu_is_described_once_and_then_let_up(word: int) -> None:
    with Translated(vcpus=2, word=word) as machine:
        guest = machine[1]
        assert guest.call("vcpu_op", VCPUOP_is_up, 1, 0) == 0
        assert initialise(guest, VCPU_HVM_MODE_32B, cr0=1, **FLAT) == 0
        assert initialise(guest, VCPU_HVM_MODE_32B, cr0=1, **FLAT) == -Errno.EEXIST
        assert guest.call("vcpu_op", VCPUOP_up, 1, 0) == 0
        assert guest.call("vcpu_op", VCPUOP_is_up, 1, 0) == 1
        assert guest.call("vcpu_op", VCPUOP_is_up, 2, 0) == -Errno.ENOENT


@pytest.mark.parametrize(
    "registers", [{"cr0": 0x80000000}, {"cr0": 0x20000001}, {"cr0": 0x80000001, "efer": 0x100}]
)
def test_a_state_in_which_no_processor_runs_crashes_the_domain(registers: dict[str, int]) -> None:
    with Translated(vcpus=2) as machine:
        guest = machine[1]
        assert initialise(guest, VCPU_HVM_MODE_32B, **FLAT | registers) == 0
        assert guest.call("vcpu_op", VCPUOP_up, 1, 0) == 0
        machine.hypervisor.switch_to(guest.domain.vcpus[1])
        assert guest.domain.has_shut_down
