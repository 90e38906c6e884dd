"""The targets: what a guest may be built for."""

from enum import Enum


class Target(Enum):
    """How a guest runs (``pv`` knows Xen and has no ring 0, ``hvm`` has a PC), and how wide its words are."""

    PV32 = "pv", 32
    PV64 = "pv", 64
    HVM32 = "hvm", 32
    HVM64 = "hvm", 64

    @property
    def kind(self) -> str:
        """``pv`` or ``hvm``."""
        return self.value[0]

    @property
    def bits(self) -> int:
        """Bits of a word once the guest runs; an HVM guest is entered with 32 in any case."""
        return self.value[1]

    @property
    def is_hvm(self) -> bool:
        """Whether the guest is entered without paging, by its physical address, and owns its processor."""
        return self.kind == "hvm"

    @property
    def word(self) -> str:
        """The target's name in the language: ``hvm32``."""
        return f"{self.kind}{self.bits}"


TARGETS = {target.word: target for target in Target}
KINDS = tuple(dict.fromkeys(target.kind for target in Target))
