"""The grant_table_op hypercall: its commands, and the batches in which most of them come.

An operation that fails tells it in its own status; the hypercall's result is 0 all the same, but for lists
that can't be read and commands that take one structure alone.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused, HypercallError
from pvemu.abi.grant_table import (
    GNTST_bad_domain,
    GNTST_bad_virt_addr,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
    GNTTABOP_cache_flush,
    GNTTABOP_copy,
    GNTTABOP_get_status_frames,
    GNTTABOP_get_version,
    GNTTABOP_map_grant_ref,
    GNTTABOP_query_size,
    GNTTABOP_set_version,
    GNTTABOP_setup_table,
    GNTTABOP_swap_grant_ref,
    GNTTABOP_transfer,
    GNTTABOP_unmap_and_replace,
    GNTTABOP_unmap_grant_ref,
    gnttab_get_status_frames,
    gnttab_get_version,
    gnttab_query_size,
    gnttab_set_version,
    gnttab_setup_table,
)
from pvemu.abi.structure import Structure
from pvemu.abi.xen import DOMID_SELF
from pvemu.hypervisor import grant_batch, grant_version
from pvemu.hypervisor.gfn import frame_number
from pvemu.hypervisor.grant_cache_flush import cache_flush
from pvemu.hypervisor.grant_table import MAX_FRAMES, status_frames_for
from pvemu.hypervisor.guest_structure import read_structure
from pvemu.hypervisor.hypercall import Handler, made_hypercall
from pvemu.hypervisor.physmap import any_domain
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.core import Hypervisor
    from pvemu.hypervisor.domain import Domain

#: A call's upper bits say where it goes on; only one command may have some.
COMMAND_MASK: Final = 0xFFF
_INT_MAX: Final = (1 << 31) - 1

_Command = Callable[[Vcpu, int, int, int], int]


@made_hypercall("grant_table_op")
def make_grant_table_op(hypervisor: "Hypervisor") -> Handler:
    """Make the handler of grant_table_op for a machine."""
    commands, u16 = _COMMANDS, hypervisor.ram.u16

    def grant_table_op(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
        """Carry out one GNTTABOP_* command on a list of so many structures."""
        if command == GNTTABOP_query_size and count == 1:
            # Short, because it stands for what the family costs: a domain asks about itself in a known page.
            memory, inside = vcpu.domain.memory, argument & PAGE_MASK
            page = memory.readable.get(argument >> PAGE_SHIFT)
            if page is not None and inside <= _LAST_IN_PAGE and u16[page + inside >> 1] == DOMID_SELF:
                frames = len(vcpu.domain.grant_table.frames)
                memory.pack(argument + _SIZES, _SIZES_AND_STATUS, frames, MAX_FRAMES, GNTST_okay)
                return 0
        if vcpu.domain.is_hvm and command not in _HVM_COMMANDS:
            raise HypercallError(Errno.ENOSYS)
        if command in commands:
            return commands[command](vcpu, command, argument, count)
        if count > _INT_MAX:
            raise HypercallError(Errno.EINVAL)
        if command & COMMAND_MASK == GNTTABOP_cache_flush:
            return cache_flush(vcpu, command, argument, count)
        raise HypercallError(Errno.EINVAL if command > COMMAND_MASK else Errno.ENOSYS)

    return grant_table_op


def _batch(carry_out: _Command) -> _Command:
    def command(vcpu: Vcpu, number: int, argument: int, count: int) -> int:
        if count > _INT_MAX:
            raise HypercallError(Errno.EINVAL)
        return carry_out(vcpu, number, argument, count)

    return command


def _single(carry_out: Callable[[Vcpu, int], int], *, none_is_fine: bool = False) -> _Command:
    """A command on exactly one structure; some, as Xen translates them for 32-bit guests, allow none."""

    def command(vcpu: Vcpu, _number: int, argument: int, count: int) -> int:
        if count != 1:
            if count == 0 and none_is_fine:
                return 0
            raise HypercallError(Errno.EINVAL)
        return carry_out(vcpu, argument)

    return command


def _any_number(carry_out: Callable[[Vcpu, int], int]) -> _Command:
    """A command on one structure that doesn't look at the count, but for its sign."""
    return _batch(lambda vcpu, number, argument, count: carry_out(vcpu, argument))


#: How a status tells what else an error number would.
_STATUS: Final = {Errno.ESRCH: GNTST_bad_domain, Errno.EPERM: GNTST_permission_denied}


def _any_domain(vcpu: Vcpu, domid: int) -> "Domain":
    """The domain that a command is about; raises GrantRefused: GNTST_bad_domain, GNTST_permission_denied."""
    try:
        return any_domain(vcpu, domid)
    except HypercallError as error:
        raise GrantRefused(_STATUS[error.errno]) from error


# --- the table ------------------------------------------------------------------------------------


_QUERY: Final = gnttab_query_size.codec(4)
_LAST_IN_PAGE: Final = PAGE_SIZE - _QUERY.size
_SIZES: Final = gnttab_query_size.offset("nr_frames", 4)
_SIZES_AND_STATUS: Final = struct.Struct("<IIh")


def _query_size(vcpu: Vcpu, argument: int) -> int:
    memory = vcpu.domain.memory
    domid, frames, most, _ = _QUERY.unpack(memory.copy_from_guest(argument, _QUERY.size))
    status = GNTST_okay
    try:
        frames, most = len(_any_domain(vcpu, domid).grant_table.frames), MAX_FRAMES
    except GrantRefused as refused:
        status = refused.status
    memory.pack(argument + _SIZES, _SIZES_AND_STATUS, frames, most, status)
    return 0


def _setup_table(vcpu: Vcpu, argument: int) -> int:
    """Give the table so many frames, and tell which they are."""
    op = read_structure(vcpu.domain, gnttab_setup_table, argument)
    _check_list(vcpu, op.frame_list, op.nr_frames, vcpu.domain.word)
    status = GNTST_okay
    try:
        table = _any_domain(vcpu, op.dom).grant_table
        if op.nr_frames > MAX_FRAMES:
            raise GrantRefused(GNTST_general_error)
        too_few = op.nr_frames > len(table.frames) or (
            table.version > 1 and status_frames_for(op.nr_frames) > len(table.status_frames)
        )
        if too_few and not table.grow(op.nr_frames):
            raise GrantRefused(GNTST_general_error)
        frames = [frame_number(table.domain, mfn) for mfn in table.frames[: op.nr_frames]]
        if not _tell_frames(vcpu, op.frame_list, frames, vcpu.domain.word):
            status = GNTST_bad_virt_addr
    except GrantRefused as refused:
        status = refused.status
    return _write_status(vcpu, gnttab_setup_table, argument, status)


def _get_status_frames(vcpu: Vcpu, argument: int) -> int:
    op = read_structure(vcpu.domain, gnttab_get_status_frames, argument)
    _check_list(vcpu, op.frame_list, op.nr_frames, _FRAME_SIZE)
    status = GNTST_okay
    try:
        table = _any_domain(vcpu, op.dom).grant_table
        if op.nr_frames > len(table.status_frames):
            raise GrantRefused(GNTST_general_error)
        frames = [frame_number(table.domain, mfn) for mfn in table.status_frames[: op.nr_frames]]
        _tell_frames(vcpu, op.frame_list, frames, _FRAME_SIZE)
    except GrantRefused as refused:
        status = refused.status
    return _write_status(vcpu, gnttab_get_status_frames, argument, status)


_FRAME_SIZE: Final = 8  #: bytes of a frame number in the list of get_status_frames


def _check_list(vcpu: Vcpu, listed: int, number: int, size: int) -> None:
    if not vcpu.domain.memory.range_okay(listed, max(number * size, 1)):
        raise HypercallError(Errno.EFAULT)


def _tell_frames(vcpu: Vcpu, listed: int, frames: list[int], size: int) -> bool:
    """Write a list of frames, as much of it as can be written; False: something could not be.

    A 32-bit guest is not told that (recorded: versions, no-list).
    """
    is_whole = True
    for index, number in enumerate(frames):
        try:
            vcpu.domain.memory.write_word(listed + index * size, size, number)
        except GuestFault:
            is_whole = False
    return is_whole or vcpu.domain.word == 4


def _write_status(vcpu: Vcpu, structure: Structure, argument: int, status: int) -> int:
    at = argument + structure.offset("status", vcpu.domain.word)
    vcpu.domain.memory.copy_to_guest(at, status.to_bytes(2, "little", signed=True))
    return 0


# --- versions -------------------------------------------------------------------------------------


def _set_version(vcpu: Vcpu, argument: int) -> int:
    """Change the form of the caller's entries; the version that holds afterwards is told in any case."""
    op = read_structure(vcpu.domain, gnttab_set_version, argument)
    result = 0
    try:
        grant_version.set_version(vcpu.domain, op.version)
    except HypercallError as error:
        result = error.result
    vcpu.domain.memory.write_u32(argument, vcpu.domain.grant_table.version)
    return result


def _get_version(vcpu: Vcpu, argument: int) -> int:
    """This one command tells in the hypercall's result what others tell in a status."""
    op = read_structure(vcpu.domain, gnttab_get_version, argument)
    version = any_domain(vcpu, op.dom).grant_table.version
    at = argument + gnttab_get_version.offset("version", vcpu.domain.word)
    vcpu.domain.memory.write_u32(at, version)
    return 0


_COMMANDS: Final[dict[int, _Command]] = {
    GNTTABOP_map_grant_ref: _batch(grant_batch.map_grant_refs),
    GNTTABOP_unmap_grant_ref: _batch(grant_batch.unmap_grant_refs),
    GNTTABOP_setup_table: _single(_setup_table, none_is_fine=True),
    GNTTABOP_transfer: _batch(grant_batch.transfers),
    GNTTABOP_copy: _batch(grant_batch.copies),
    GNTTABOP_query_size: _single(_query_size),
    GNTTABOP_unmap_and_replace: _batch(grant_batch.unmap_and_replaces),
    GNTTABOP_set_version: _any_number(_set_version),
    GNTTABOP_get_status_frames: _single(_get_status_frames, none_is_fine=True),
    GNTTABOP_get_version: _any_number(_get_version),
    GNTTABOP_swap_grant_ref: _batch(grant_batch.swap_grant_refs),
}
#: Those that an HVM guest has.
_HVM_COMMANDS: Final = frozenset(
    {
        GNTTABOP_query_size,
        GNTTABOP_setup_table,
        GNTTABOP_set_version,
        GNTTABOP_get_version,
        GNTTABOP_copy,
        GNTTABOP_map_grant_ref,
        GNTTABOP_unmap_grant_ref,
        GNTTABOP_swap_grant_ref,
    }
)
