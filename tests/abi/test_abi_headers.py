"""Every number and every layout is the one of Xen's public headers, with a C compiler as the judge."""

import re
from collections.abc import Iterator

import pytest

from pvemu.abi.errno import Errno
from pvemu.abi.structure import Structure
from pvemu.abi.vocabulary import constants, structures
from pvemu.abi.word import WORDS

INCLUDES = """
#include <stdint.h>
#include <stddef.h>
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/arch-x86/xen-mca.h>
#include <xen/callback.h>
#include <xen/elfnote.h>
#include <xen/domctl.h>
#include <xen/event_channel.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/params.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xen/vcpu.h>
#include <xen/version.h>
"""

# The headers give these bits only to function-like macros.
OUR_OWN_NAMES = {"TI_DPL_MASK", "TI_IF"}

FAMILIES = (
    *("DOMID_", "VIRQ_", "MMU_", "MMUEXT_", "UVMF_", "CONSOLEIO_", "VMASST_", "SIF_", "__HYPERVISOR_"),
    *("FLAT_", "SEGBASE_", "VGCF_", "XEN_CPUID_", "XEN_HVM_CPUID_", "FIRST_RESERVED_GDT_", "XEN_PVCLOCK_"),
    *(
        "SCHEDOP_",
        "SHUTDOWN_",
        "EVTCHN",
        "XENVER_",
        "VCPUOP_",
        "VCPU_",
        "RUNSTATE_",
        "CALLBACK",
        "XEN_ELFNOTE_",
    ),
    *("XENFEAT_", "PHYSDEVOP_", "MAP_PIRQ_TYPE_", "XENIRQSTAT_", "XENMEM_", "XENMEMF_", "XENMAP", "XENNMI_"),
    *("XEN_NMIREASON_", "BIND_PIRQ_", "XEN_ELFNOTE_", "XenbusState"),
    *("GNTTAB", "GNTMAP_", "GNTCOPY_", "GNTST_", "GTF_"),
    *("XEN_HVM_START_", "XEN_HVM_MEMMAP_"),
    *("BLKIF_", "VDISK_", "NETTXF_", "NETRXF_", "NETIF_", "XEN_NETIF_", "XS_", "XENSTORE_"),
)

# Sub-operations of memory sharing, paging and access, which are for tools on HVM guests; the spelling for
# assembly of HYPERVISOR_VIRT_*; the control ring of network devices, which our back end doesn't offer; and
# the messages for GNTST_* and the modes of XS_WRITE_*, which are no numbers.
LEFT_OUT = re.compile(
    r"XENMEM_((sharing|paging|access)_op|SHARING|FORK)_\w+|__HYPERVISOR_VIRT_\w+|XEN_NETIF_CTRL\w+"
    r"|GNTTABOP_error_msgs|XS_WRITE_\w+"
)


def macros(gcc, word: int) -> set[str]:
    listing = gcc(INCLUDES, word, "-E", "-dM")
    defined = set(re.findall(r"^#define (\w+)(?= )", listing, re.MULTILINE))
    for enumerators in re.findall(r"\benum\s+\w+\s*\{([^}]*)\}", gcc(INCLUDES, word, "-E", "-P")):
        defined |= set(re.findall(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", enumerators.strip()))
    return defined


def layout_assertions(structure: Structure, word: int) -> Iterator[str]:
    c_type = f"{'union' if structure.overlaid else 'struct'} {structure.name}"
    yield f"sizeof({c_type}) == {structure.size(word)}"
    for path, offset, size in structure.paths(word):
        yield f"offsetof({c_type}, {path}) == {offset}"
        if size:
            yield f"sizeof((({c_type} *)0)->{path}) == {size}"


def static(assertions: Iterator[str]) -> str:
    return "\n".join(f'_Static_assert({text}, "{text}");' for text in assertions)


@pytest.mark.parametrize("word", WORDS)
def test_structures_lie_as_the_headers_lay_them(gcc_with_headers, word):
    present = [each for each in structures().values() if each.size(word)]
    assert len(present) > 70
    gcc_with_headers(
        INCLUDES + static(line for each in present for line in layout_assertions(each, word)), word
    )


@pytest.mark.parametrize("word", WORDS)
def test_constants_have_the_values_of_the_headers(gcc_with_headers, word):
    defined = macros(gcc_with_headers, word)
    ours = {name: value for name, value in constants(word).items() if name in defined}
    assert len(ours) > 350
    mask = (1 << 64) - 1
    lines = (f"(unsigned long long)({name}) == {value & mask:#x}ULL" for name, value in ours.items())
    gcc_with_headers(INCLUDES + static(lines), word)


def test_no_constant_has_a_name_of_our_own(gcc_with_headers):
    theirs = set().union(*(macros(gcc_with_headers, word) for word in WORDS))
    assert set(constants()) - theirs - set(Errno.__members__) == OUR_OWN_NAMES


@pytest.mark.parametrize("word", WORDS)
def test_no_constant_of_the_headers_is_missing(gcc_with_headers, word):
    wanted = {name for name in macros(gcc_with_headers, word) if name.startswith(FAMILIES)}
    assert {name for name in wanted - set(constants(word)) if not LEFT_OUT.fullmatch(name)} == set()


def test_error_numbers_are_those_of_the_header(gcc_with_headers):
    lines = (f"XEN_{name} == {int(value)}" for name, value in Errno.__members__.items())
    gcc_with_headers("#define __XEN__ 1\n#include <xen/errno.h>\n" + static(lines), 8)


def test_no_error_number_of_the_header_is_missing(gcc_with_headers):
    source = "#define __XEN__ 1\n#include <xen/errno.h>\n"
    theirs = dict(re.findall(r"XEN_(\w+) = (\d+)", gcc_with_headers(source, 8, "-E")))
    assert {name: str(int(value)) for name, value in Errno.__members__.items()} == theirs
