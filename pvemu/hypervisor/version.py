"""The xen_version hypercall: what a guest may ask about the hypervisor. We present ourselves as Xen 4.17."""

from collections.abc import Callable
from typing import Final

from pvemu.abi import features
from pvemu.abi.arch_x86 import HYPERVISOR_VIRT_START
from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.version import (
    XEN_CAPABILITIES_INFO_LEN,
    XEN_CHANGESET_INFO_LEN,
    XEN_EXTRAVERSION_LEN,
    XENVER_build_id,
    XENVER_capabilities,
    XENVER_changeset,
    XENVER_commandline,
    XENVER_compile_info,
    XENVER_extraversion,
    XENVER_get_features,
    XENVER_guest_handle,
    XENVER_pagesize,
    XENVER_platform_parameters,
    XENVER_version,
    xen_compile_info,
    xen_feature_info,
    xen_platform_parameters,
)
from pvemu.abi.xen import VMASST_TYPE_pae_extended_cr3
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.ram import PAGE_SIZE

#: Major version in the upper half, minor in the lower.
XEN_VERSION: Final = 4 << 16 | 17

_EXTRAVERSION: Final = b".5-pvemu"
_CAPABILITIES: Final = b"xen-3.0-x86_32p hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
_CHANGESET: Final = b"unavailable"
_COMPILE_INFO: Final = {
    "compiler": b"CPython",
    "compile_by": b"pvemu",
    "compile_domain": b"localdomain",
    "compile_date": b"Thu Jan  1 00:00:00 UTC 2026",
}
_COMMANDLINE_LEN: Final = 1024
_HANDLE_LEN: Final = 16
#: As long as the SHA-1 that a linker puts into real Xen.
_BUILD_ID: Final = bytes.fromhex("70 76 65 6d 75 00 00 00 00 00 00 00 00 00 00 00 00 00 04 11")

#: What every PV guest has; what depends on the domain is added in `_get_features`.
_FEATURES: Final = (
    features.XENFEAT_mmu_pt_update_preserve_ad,
    features.XENFEAT_highmem_assist,
    features.XENFEAT_gnttab_map_avail_bits,
    features.XENFEAT_memory_op_vnode_supported,
    features.XENFEAT_direct_mapped,
)
#: What every auto-translated PV guest has. Its grants are mapped at frames, not in entries, and its root
#: table may be in any frame.
_TRANSLATED_FEATURES: Final = (
    features.XENFEAT_writable_page_tables,
    features.XENFEAT_writable_descriptor_tables,
    features.XENFEAT_auto_translated_physmap,
    features.XENFEAT_pae_pgdir_above_4gb,
    features.XENFEAT_mmu_pt_update_preserve_ad,
    features.XENFEAT_highmem_assist,
    features.XENFEAT_memory_op_vnode_supported,
    features.XENFEAT_not_direct_mapped,
)
#: What every HVM guest has.
_HVM_FEATURES: Final = (
    features.XENFEAT_memory_op_vnode_supported,
    features.XENFEAT_writable_page_tables,
    features.XENFEAT_auto_translated_physmap,
    features.XENFEAT_hvm_safe_pvclock,
    features.XENFEAT_hvm_callback_vector,
    features.XENFEAT_not_direct_mapped,
)
_DENIED: Final = b"<denied>\0"


def _padded(text: bytes, size: int) -> bytes:
    return text[: size - 1].ljust(size, b"\0")


def _string(text: bytes, size: int) -> Callable[[Vcpu, int], int]:
    def answer(vcpu: Vcpu, argument: int) -> int:
        vcpu.domain.memory.copy_to_guest(argument, _padded(text, size))
        return 0

    return answer


def _version(_vcpu: Vcpu, _argument: int) -> int:
    return XEN_VERSION


def _compile_info(vcpu: Vcpu, argument: int) -> int:
    sizes = {name: xen_compile_info.field_size(name, vcpu.domain.word) for name in _COMPILE_INFO}
    values = {name: _padded(text, sizes[name]) for name, text in _COMPILE_INFO.items()}
    vcpu.domain.memory.copy_to_guest(argument, xen_compile_info.pack(vcpu.domain.word, **values))
    return 0


def _platform_parameters(vcpu: Vcpu, argument: int) -> int:
    """Where the hypervisor begins in the guest's address space; a 32-bit HVM guest is told 0."""
    domain = vcpu.domain
    virt_start = 0 if domain.is_hvm and domain.word == 4 else HYPERVISOR_VIRT_START.of(domain.word)
    domain.memory.copy_to_guest(argument, xen_platform_parameters.pack(domain.word, virt_start=virt_start))
    return 0


def _get_features(vcpu: Vcpu, argument: int) -> int:
    domain = vcpu.domain
    asked = domain.memory.copy_from_guest(argument, xen_feature_info.size(domain.word))
    index = xen_feature_info.unpack(domain.word, asked).submap_idx
    if index >= features.XENFEAT_NR_SUBMAPS:
        raise HypercallError(Errno.EINVAL)
    own = _HVM_FEATURES if domain.is_hvm else _TRANSLATED_FEATURES if domain.is_translated else _FEATURES
    submap = sum(1 << number for number in own)
    if domain.vm_assist & 1 << VMASST_TYPE_pae_extended_cr3:
        submap |= 1 << features.XENFEAT_pae_pgdir_above_4gb
    if domain.privileged:
        submap |= 1 << features.XENFEAT_dom0
    domain.memory.copy_to_guest(argument, xen_feature_info.pack(domain.word, submap_idx=index, submap=submap))
    return 0


def _pagesize(_vcpu: Vcpu, argument: int) -> int:
    if argument:
        raise HypercallError(Errno.EINVAL)
    return PAGE_SIZE


def _commandline(vcpu: Vcpu, argument: int) -> int:
    """Ours, which is empty; an unprivileged domain is told so little by real Xen, too."""
    text = _padded(b"", _COMMANDLINE_LEN) if vcpu.domain.privileged else _DENIED
    vcpu.domain.memory.copy_to_guest(argument, text)
    return 0


def _build_id(vcpu: Vcpu, argument: int) -> int:
    """The length of the id; with a buffer, also the id. Only for a privileged domain."""
    if not vcpu.domain.privileged:
        raise HypercallError(Errno.EPERM)
    if argument:
        size = vcpu.domain.memory.read_u32(argument)
        if size == 0:
            raise HypercallError(Errno.EINVAL)
        if size < len(_BUILD_ID):
            raise HypercallError(Errno.ENOBUFS)
        vcpu.domain.memory.copy_to_guest(argument + 4, _BUILD_ID)
    return len(_BUILD_ID)


_COMMANDS: Final[dict[int, Callable[[Vcpu, int], int]]] = {
    XENVER_version: _version,
    XENVER_extraversion: _string(_EXTRAVERSION, XEN_EXTRAVERSION_LEN),
    XENVER_compile_info: _compile_info,
    XENVER_capabilities: _string(_CAPABILITIES, XEN_CAPABILITIES_INFO_LEN),
    XENVER_changeset: _string(_CHANGESET, XEN_CHANGESET_INFO_LEN),
    XENVER_platform_parameters: _platform_parameters,
    XENVER_get_features: _get_features,
    XENVER_pagesize: _pagesize,
    XENVER_guest_handle: _string(b"", _HANDLE_LEN),
    XENVER_commandline: _commandline,
    XENVER_build_id: _build_id,
}


@hypercall("xen_version")
def xen_version(vcpu: Vcpu, command: int, argument: int) -> int:
    """Answer a XENVER_* question."""
    answer = _COMMANDS.get(command)
    if answer is None:
        raise HypercallError(Errno.ENOSYS)
    return answer(vcpu, argument)
