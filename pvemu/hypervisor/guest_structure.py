"""Structures that a guest hands over by their address: read, and written back."""

from typing import Any

from pvemu.abi.structure import Structure
from pvemu.hypervisor.domain import Domain


def read_structure(domain: Domain, structure: Structure, address: int) -> Any:
    """An object with the fields of the structure that a domain has put at an address.

    Raises:
        GuestFault: it can't be read.
    """
    return structure.unpack(domain.word, domain.memory.copy_from_guest(address, structure.size(domain.word)))


def copy_back(domain: Domain, structure: Structure, address: int, op: Any) -> None:
    """Write what became of a structure that was read from an address.

    Xen copies all of it both ways, so what lies between its fields stays as the guest had it (golden:
    programs/padding).

    Raises:
        GuestFault: it can't be written.
    """
    memory, word = domain.memory, domain.word
    raw = memory.copy_from_guest(address, structure.size(word))
    memory.copy_to_guest(address, structure.pack_over(raw, word, **vars(op)))
