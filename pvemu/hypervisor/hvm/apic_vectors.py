"""What a local APIC knows of the 256 vectors: which are requested or in service, and who goes first.

Source: Intel SDM volume 3, section 11.8. The priority of a vector is its upper four bits.
"""

from typing import Final

_CLASS: Final = 0xF0


def _highest(vectors: int) -> int:
    """The highest vector of a set; 0 of an empty one, for no interrupt has that number."""
    return max(vectors.bit_length() - 1, 0)


class ApicVectors:
    """Sets of vectors, each a number with a bit for each vector.

    Attributes:
        requests, in_service, level: the registers IRR, ISR and TMR.
        task_priority: the register TPR.
    """

    def __init__(self) -> None:
        self.requests = self.in_service = self.level = 0
        self.task_priority = 0

    @property
    def priority(self) -> int:
        """The processor priority: of the task, or of the interrupt in service if that is higher."""
        in_service = _highest(self.in_service) & _CLASS
        return self.task_priority if self.task_priority & _CLASS >= in_service else in_service

    def highest_pending(self) -> int | None:
        """The requested vector that goes before what is being done, if there is one."""
        vector = _highest(self.requests)
        return vector if vector & _CLASS > self.priority & _CLASS else None

    def request(self, vector: int, *, is_level: bool) -> None:
        """Request an interrupt."""
        bit = 1 << vector
        self.level = self.level | bit if is_level else self.level & ~bit
        self.requests |= bit

    def acknowledge(self, vector: int) -> None:
        """Take a requested vector into service."""
        self.requests &= ~(1 << vector)
        self.in_service |= 1 << vector

    def end(self) -> int | None:
        """End the highest interrupt in service; its vector if it was level-triggered, else None."""
        vector = _highest(self.in_service)
        self.in_service &= ~(1 << vector)
        return vector if vector and self.level >> vector & 1 else None

    def word(self, index: int) -> int:
        """One of the 24 words of 32 bits in which ISR, TMR and IRR are read, in this order."""
        vectors = (self.in_service, self.level, self.requests)[index // 8]
        return vectors >> index % 8 * 32 & 0xFFFF_FFFF
