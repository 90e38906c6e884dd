"""The table of hypercalls: the number, name, arguments and callers of each, from which all else is made."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pvemu.abi.word import check_word

ARGUMENT_REGISTERS: Final[Mapping[str, int]] = {
    "u32": 1,
    "ulong": 1,  # a guest word, a virtual address included
    "handle": 1,  # virtual address of a structure or array in the guest
    "domid": 1,
    "u64": 2,
    "maddr64": 2,  # machine address
    "pte64": 2,  # page-table entry
}
"""Every argument type, with the registers it takes on x86_32, low half first; on x86_64 each takes one."""

PV32: Final = "pv32"
PV64: Final = "pv64"
HVM: Final = "hvm"
_PV: Final = frozenset({PV32, PV64})
_ALL: Final = frozenset({PV32, PV64, HVM})
_NONE: Final[frozenset[str]] = frozenset()


class Argument(NamedTuple):
    """One argument: its name, its type (a key of ``ARGUMENT_REGISTERS``), and if it may be left out."""

    name: str
    type: str
    optional: bool = False

    def registers(self, word: int) -> int:
        """Return how many registers the argument takes in a guest whose long has ``word`` bytes."""
        return ARGUMENT_REGISTERS[self.type] if check_word(word) == 4 else 1


def _arguments(text: str) -> tuple[Argument, ...]:
    pairs = (item.split() for item in text.split(",") if item)
    return tuple(Argument(name, kind.rstrip("?"), kind.endswith("?")) for name, kind in pairs)


class Hypercall(NamedTuple):
    """One row of the table.

    ``subcommands`` is the prefix of the constants that choose what the call does, None if it does one thing.
    ``continuable``: Xen may stop in the middle and let the guest enter again with adjusted arguments.
    ``guests``: the kinds ("pv32", "pv64", "hvm") that Xen 4.17 gives the call to; others get -ENOSYS.
    """

    number: int
    name: str
    arguments: tuple[Argument, ...]
    subcommands: str | None
    continuable: bool
    guests: frozenset[str]
    arguments64: tuple[Argument, ...] | None = None
    """The arguments on x86_64, where they are others."""

    def signature(self, word: int) -> tuple[Argument, ...]:
        """Return the arguments for a guest whose long has ``word`` bytes."""
        if check_word(word) == 8 and self.arguments64 is not None:
            return self.arguments64
        return self.arguments

    def registers(self, word: int) -> int:
        """Return how many argument registers the call uses, of ebx ecx edx esi edi or rdi rsi rdx r10 r8."""
        return sum(argument.registers(word) for argument in self.signature(word))


def _row(
    number: int,
    name: str,
    arguments: str = "",
    *,
    commands: str | None = None,
    continuable: bool = False,
    guests: frozenset[str] = _ALL,
    arguments64: str | None = None,
) -> Hypercall:
    others = None if arguments64 is None else _arguments(arguments64)
    return Hypercall(number, name, _arguments(arguments), commands, continuable, guests, others)


_BATCH = "count u32, pdone handle, foreigndom u32"
_HYPFS = "cmd u32, arg1 handle, arg2 ulong, arg3 handle, arg4 ulong"
_CALLBACKS32 = "event_selector ulong, event_address ulong, failsafe_selector ulong, failsafe_address ulong"
_CALLBACKS64 = "event_address ulong, failsafe_address ulong, syscall_address ulong"

# Names and numbers are those of xen.h, which gives 11 and 43 to 47 to nobody; who may call is as in Xen 4.17.
# sched_op's third argument is for SCHEDOP_shutdown with SHUTDOWN_suspend: the frame of the start_info page.
HYPERCALLS: Final[tuple[Hypercall, ...]] = (
    _row(0, "set_trap_table", "traps handle", continuable=True, guests=_PV),
    _row(1, "mmu_update", f"ureqs handle, {_BATCH}", commands="MMU_", continuable=True, guests=_PV),
    _row(2, "set_gdt", "frame_list handle, entries u32", guests=_PV),
    _row(3, "stack_switch", "ss ulong, esp ulong", guests=_PV),
    _row(4, "set_callbacks", _CALLBACKS32, guests=_PV, arguments64=_CALLBACKS64),
    _row(5, "fpu_taskswitch", "set u32", guests=_PV),
    _row(6, "sched_op_compat", "cmd u32, arg ulong", commands="SCHEDOP_", guests=_PV),
    _row(7, "platform_op", "op handle", commands="XENPF_", continuable=True),
    _row(8, "set_debugreg", "reg u32, value ulong", guests=_PV),
    _row(9, "get_debugreg", "reg u32", guests=_PV),
    _row(10, "update_descriptor", "maddr maddr64, desc u64", guests=_PV),
    _row(
        12,
        "memory_op",
        "cmd u32, arg handle",
        commands="XENMEM_",
        continuable=True,
        arguments64="cmd ulong, arg handle",
    ),
    _row(13, "multicall", "call_list handle, nr_calls u32", continuable=True),
    _row(14, "update_va_mapping", "va ulong, val pte64, flags ulong", continuable=True, guests=_PV),
    _row(15, "set_timer_op", "timeout u64"),
    _row(16, "event_channel_op_compat", "op handle", commands="EVTCHNOP_", guests=_PV),
    _row(17, "xen_version", "cmd u32, arg handle", commands="XENVER_"),
    _row(18, "console_io", "cmd u32, count u32, buffer handle", commands="CONSOLEIO_", continuable=True),
    _row(19, "physdev_op_compat", "op handle", commands="PHYSDEVOP_", guests=_PV),
    _row(20, "grant_table_op", "cmd u32, uop handle, count u32", commands="GNTTABOP_", continuable=True),
    _row(21, "vm_assist", "cmd u32, type u32", commands="VMASST_CMD_"),
    _row(
        22,
        "update_va_mapping_otherdomain",
        "va ulong, val pte64, flags ulong, domid domid",
        continuable=True,
        guests=_PV,
    ),
    _row(23, "iret", guests=_PV),  # its frame is on the stack
    _row(24, "vcpu_op", "cmd u32, vcpuid u32, arg handle", commands="VCPUOP_", continuable=True),
    _row(25, "set_segment_base", "which u32, base ulong", commands="SEGBASE_", guests=frozenset({PV64})),
    _row(26, "mmuext_op", f"uops handle, {_BATCH}", commands="MMUEXT_", continuable=True),
    _row(27, "xsm_op", "op handle"),
    _row(28, "nmi_op", "cmd u32, arg handle", commands="XENNMI_", guests=_PV),
    _row(29, "sched_op", "cmd u32, arg handle, start_info_mfn ulong?", commands="SCHEDOP_"),
    _row(30, "callback_op", "cmd u32, arg handle", commands="CALLBACKOP_", guests=_PV),
    _row(31, "xenoprof_op", "op u32, arg handle", commands="XENOPROF_", guests=_PV),
    _row(32, "event_channel_op", "cmd u32, arg handle", commands="EVTCHNOP_", continuable=True),
    _row(33, "physdev_op", "cmd u32, arg handle", commands="PHYSDEVOP_"),
    _row(
        34,
        "hvm_op",
        "op u32, arg handle",
        commands="HVMOP_",
        continuable=True,
        arguments64="op ulong, arg handle",
    ),
    _row(35, "sysctl", "op handle", commands="XEN_SYSCTL_", continuable=True),
    _row(36, "domctl", "op handle", commands="XEN_DOMCTL_", continuable=True),
    _row(37, "kexec_op", "op u32, arg handle", commands="KEXEC_CMD_", continuable=True, guests=_PV),
    _row(38, "tmem_op", "op handle", guests=_NONE),
    _row(39, "argo_op", "cmd u32, arg1 handle, arg2 handle, arg3 ulong, arg4 ulong", commands="XEN_ARGO_OP_"),
    _row(40, "xenpmu_op", "op u32, arg handle", commands="XENPMU_"),
    _row(41, "dm_op", "domid domid, nr_bufs u32, bufs handle", commands="XEN_DMOP_", continuable=True),
    _row(42, "hypfs_op", _HYPFS, commands="XEN_HYPFS_OP_"),
    _row(48, "arch_0", "op handle", commands="XEN_MC_", guests=_PV),  # mca on x86
    _row(49, "arch_1", "op handle", continuable=True),  # the rest of a domctl that was stopped
    _row(50, "arch_2", guests=_NONE),
    _row(51, "arch_3", guests=_NONE),
    _row(52, "arch_4", guests=_NONE),
    _row(53, "arch_5", guests=_NONE),
    _row(54, "arch_6", guests=_NONE),
    _row(55, "arch_7", guests=_NONE),
)

BY_NUMBER: Final[Mapping[int, Hypercall]] = {row.number: row for row in HYPERCALLS}
BY_NAME: Final[Mapping[str, Hypercall]] = {row.name: row for row in HYPERCALLS} | {"mca": BY_NUMBER[48]}
"""By Xen's name without __HYPERVISOR_; ``mca`` is x86's other name of ``arch_0``."""
