"""Writes a structure back to where the guest gave it."""

from typing import Any

from pvemu.abi.structure import Structure
from pvemu.hypervisor.domain import Domain


def copy_back(domain: Domain, address: int, structure: Structure, op: Any) -> None:
    """Write what became of a structure that was read from `address`.

    Xen copies all of it both ways, so what lies between its fields stays as the guest had it (golden:
    programs/padding).

    Raises:
        GuestFault: it can't be written.
    """
    memory, word = domain.memory, domain.word
    raw = memory.copy_from_guest(address, structure.size(word))
    memory.copy_to_guest(address, structure.pack_over(raw, word, **vars(op)))
