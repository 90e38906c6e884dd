"""The commands of grant_table_op that take a list: each operation is carried out in turn and gets a status.

Xen translates the lists of `transfer` and `copy` for 32-bit guests in pieces of two pages: a piece that can't
be read whole is not begun, and its statuses are written at its end.
"""

import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import GrantRefused, HypercallError
from pvemu.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_gntref,
    GNTST_eagain,
    GNTST_okay,
    gnttab_copy,
    gnttab_map_grant_ref,
    gnttab_swap_grant_ref,
    gnttab_transfer,
    gnttab_unmap_and_replace,
    gnttab_unmap_grant_ref,
)
from pvemu.abi.structure import Structure
from pvemu.hypervisor.continuation import REQUEST_COST, Continuation
from pvemu.hypervisor.grant_copy import Copier, Side
from pvemu.hypervisor.grant_map import Unmap, map_grant_ref, unmap
from pvemu.hypervisor.grant_transfer import transfer
from pvemu.hypervisor.vcpu import Vcpu
from pvemu.memory.guest import GuestFault
from pvemu.memory.ram import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from pvemu.hypervisor.grant_table import GrantTable

#: Unmapping asks whether time is up only so often, as Xen, which flushes TLBs between.
_UNMAPS_AT_ONCE: Final = 32
#: Bytes in which Xen translates, and how large the 64-bit forms of the operations are in it.
_TRANSLATION_AREA: Final = 2 * PAGE_SIZE
_HANDLE_AND_ADDRESS: Final = struct.Struct("<hIQ")
_STATUS: Final = struct.Struct("<h")
#: A reference has 32 bits, where a frame number has those of a word.
_REFERENCE_MASK: Final = 0xFFFFFFFF


# --- lists that are carried out as they are read --------------------------------------------------


def _each(
    vcpu: Vcpu, command: int, argument: int, count: int, size: int, *, at_once: int = 1
) -> Iterator[int]:
    """The addresses of the operations. Between them the call may stop, to go on later.

    Raises:
        Continuation: time was up.
    """
    hypervisor = vcpu.domain.hypervisor
    for done in range(count):
        at = argument + done * size
        if done and not done % at_once and hypervisor.hypercall_preempt_check(vcpu):
            raise Continuation(command, at, count - done)
        hypervisor.charge(REQUEST_COST)
        yield at
        if vcpu.domain.has_shut_down:
            return


def map_grant_refs(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
    """GNTTABOP_map_grant_ref; raises GuestFault for an operation that can't be read or written."""
    domain, word = vcpu.domain, vcpu.domain.word
    codec, size = gnttab_map_grant_ref.codec(word), gnttab_map_grant_ref.size(word)
    results = gnttab_map_grant_ref.offset("status", word)
    for at in _each(vcpu, command, argument, count, size):
        host_addr, flags, ref, domid, _, handle, address = codec.unpack(
            domain.memory.copy_from_guest(at, size)
        )
        status = GNTST_okay
        try:
            handle, mfn = map_grant_ref(domain, vcpu.id, host_addr, flags, ref, domid)
            address = mfn << PAGE_SHIFT
        except GrantRefused as refused:
            status = refused.status
        domain.memory.pack(at + results, _HANDLE_AND_ADDRESS, status, handle, address)
    return 0


def unmap_grant_refs(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
    """GNTTABOP_unmap_grant_ref; raises GuestFault."""

    def wanted(host_addr: int, dev_bus_addr: int, handle: int, _status: int) -> Unmap:
        return Unmap(handle, host_addr, dev_bus_addr)

    return _unmap_each(vcpu, command, argument, count, gnttab_unmap_grant_ref, wanted)


def unmap_and_replaces(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
    """GNTTABOP_unmap_and_replace; raises GuestFault."""

    def wanted(host_addr: int, new_addr: int, handle: int, _status: int) -> Unmap:
        return Unmap(handle, host_addr, new_addr=new_addr)

    return _unmap_each(vcpu, command, argument, count, gnttab_unmap_and_replace, wanted)


def _unmap_each(
    vcpu: Vcpu, command: int, argument: int, count: int, structure: Structure, wanted: Callable[..., Unmap]
) -> int:
    domain, word = vcpu.domain, vcpu.domain.word
    codec, size, at_status = structure.codec(word), structure.size(word), structure.offset("status", word)
    try:
        for at in _each(vcpu, command, argument, count, size, at_once=_UNMAPS_AT_ONCE):
            fields = codec.unpack(domain.memory.copy_from_guest(at, size))
            status = GNTST_okay
            try:
                unmap(domain, wanted(*fields))
            except GrantRefused as refused:
                status = refused.status
            domain.memory.pack(at + at_status, _STATUS, status)
    finally:
        domain.hypervisor.flush_stale_tlb()
    return 0


def swap_grant_refs(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
    """GNTTABOP_swap_grant_ref; raises GuestFault."""
    memory, word = vcpu.domain.memory, vcpu.domain.word
    codec, size = gnttab_swap_grant_ref.codec(word), gnttab_swap_grant_ref.size(word)
    at_status = gnttab_swap_grant_ref.offset("status", word)
    for at in _each(vcpu, command, argument, count, size):
        first, second, _ = codec.unpack(memory.copy_from_guest(at, size))
        status = _swap(vcpu.domain.grant_table, first, second)
        memory.pack(at + at_status, _STATUS, status)
    return 0


def _swap(table: "GrantTable", first: int, second: int) -> int:
    if max(first, second) >= table.entries:
        return GNTST_bad_gntref
    if first == second:
        return GNTST_okay
    if first in table.active or second in table.active:
        return GNTST_eagain
    table.swap(first, second)
    return GNTST_okay


# --- lists that are translated in pieces ----------------------------------------------------------


def transfers(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
    """GNTTABOP_transfer; raises GuestFault."""

    def carry_out(mfn: int, domid: int, ref: int, _status: int) -> None:
        transfer(vcpu.domain, mfn, domid, ref)

    return _run_pieces(vcpu, (command, argument, count), gnttab_transfer, carry_out)


def copies(vcpu: Vcpu, command: int, argument: int, count: int) -> int:
    """GNTTABOP_copy; raises GuestFault."""
    copier = Copier(vcpu.domain)

    def side(domid: int, is_reference: int, number: int, offset: int) -> Side:
        return Side(domid, bool(is_reference), number & _REFERENCE_MASK if is_reference else number, offset)

    def carry_out(*fields: int) -> None:
        source, source_domid, source_offset, destination, domid, offset, length, flags, _ = fields
        copier.copy(
            side(source_domid, flags & GNTCOPY_source_gref, source, source_offset),
            side(domid, flags & GNTCOPY_dest_gref, destination, offset),
            length,
        )

    return _run_pieces(vcpu, (command, argument, count), gnttab_copy, carry_out, copier.close)


def _nothing() -> None:
    return


def _run_pieces(
    vcpu: Vcpu,
    call: tuple[int, int, int],
    structure: Structure,
    carry_out: Callable[..., None],
    end_piece: Callable[[], None] = _nothing,
) -> int:
    """Read a piece, carry its operations out, write their statuses, and so on to the end of the list.

    Raises:
        Continuation: time was up.
        HypercallError: EFAULT, a piece can't be read, or a status not written.
    """
    command, argument, count = call
    word, memory = vcpu.domain.word, vcpu.domain.memory
    codec, size, at_status = structure.codec(word), structure.size(word), structure.offset("status", word)
    # The lists of 64-bit guests need no translation: each operation is read, carried out and answered.
    per_piece = _TRANSLATION_AREA // structure.size(8) if word == 4 else 1
    done = 0
    while done < count:
        at = argument + done * size
        piece = [
            codec.unpack(memory.copy_from_guest(at + index * size, size))
            for index in range(min(per_piece, count - done))
        ]
        try:
            statuses = _run_piece(vcpu, piece, carry_out)
        finally:
            end_piece()
        _write_statuses(vcpu, at + at_status, size, statuses)
        done += len(statuses)
        if len(statuses) < len(piece):
            raise Continuation(command, argument + done * size, count - done)
    return 0


def _run_piece(vcpu: Vcpu, piece: list[tuple[int, ...]], carry_out: Callable[..., None]) -> list[int]:
    """Carry operations out until time is up; their statuses."""
    hypervisor = vcpu.domain.hypervisor
    statuses: list[int] = []
    for fields in piece:
        if statuses and hypervisor.hypercall_preempt_check(vcpu):
            break
        hypervisor.charge(REQUEST_COST)
        try:
            carry_out(*fields)
        except GrantRefused as refused:
            statuses.append(refused.status)
        else:
            statuses.append(GNTST_okay)
    return statuses


def _write_statuses(vcpu: Vcpu, at: int, size: int, statuses: list[int]) -> None:
    """Write the statuses of a piece, every one that can be written."""
    is_whole = True
    for index, status in enumerate(statuses):
        try:
            vcpu.domain.memory.pack(at + index * size, _STATUS, status)
        except GuestFault:
            is_whole = False
    if not is_whole:
        raise HypercallError(Errno.EFAULT)
