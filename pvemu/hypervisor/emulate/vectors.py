"""Loads and stores of XMM registers, as compilers make them for copies and clearing; no arithmetic."""

from typing import Final, NamedTuple

from pvemu.cpu import exits, layout
from pvemu.hypervisor.emulate.memory import InstructionFault, Memory
from pvemu.hypervisor.emulate.moves import Translate
from pvemu.hypervisor.emulate.translation import Get, Run, Translation

_WHOLE: Final = 16


class _Kind(NamedTuple):
    """How an instruction moves: of which bytes of the register, and with what alignment.

    A load clears the rest of the register, unless it `keeps` that.
    """

    is_aligned: bool = False
    first: int = 0
    keeps: bool = False


_KINDS: Final[dict[str, _Kind]] = {
    **dict.fromkeys(("movups", "movupd", "movdqu", "lddqu", "movd", "movq", "movss", "movsd"), _Kind()),
    **dict.fromkeys(("movaps", "movapd", "movdqa"), _Kind(is_aligned=True)),
    **dict.fromkeys(("movntps", "movntpd", "movntdq", "movntdqa"), _Kind(is_aligned=True)),
    **dict.fromkeys(("movlps", "movlpd"), _Kind(keeps=True)),
    **dict.fromkeys(("movhps", "movhpd"), _Kind(first=8, keeps=True)),
}


def _move(kind: _Kind) -> Translate:
    def translate(translation: Translation) -> Run:
        target, source = translation.operands
        is_store = target.kind == "memory"
        memory_operand, register = (target, source) if is_store else (source, target)
        if memory_operand.kind != "memory" or register.kind != "vector":
            raise translation.unemulated()
        u8, size = translation.window.u8, memory_operand.size
        place = translation.place(memory_operand, size, write=is_store)
        if kind.is_aligned:
            place = _aligned(place)
        start = layout.XMM + register.number * layout.XMM_SIZE + kind.first
        end, rest = start + size, 0 if kind.keeps else _WHOLE - size

        def store(memory: Memory) -> bool:
            memory.write(place(), bytes(u8[start:end]))
            return False

        def load(memory: Memory) -> bool:
            u8[start : end + rest] = memory.read(place(), size) + bytes(rest)
            return False

        return store if is_store else load

    return translate


def _aligned(place: Get) -> Get:
    def aligned() -> int:
        address = place()
        if address & _WHOLE - 1:
            raise InstructionFault(exits.GP)
        return address

    return aligned


VECTORS: Final[dict[str, Translate]] = {name: _move(kind) for name, kind in _KINDS.items()}
