"""Facts about the engine beyond those proved before every run: slower to try, so only `pvemu doctor` does."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from pvemu.cpu import binding, exits, layout
from pvemu.cpu.binding import TranslationBlock
from pvemu.cpu.calibration import Check
from pvemu.cpu.clock import BlockClock
from pvemu.cpu.errors import EngineError
from pvemu.cpu.laboratory import CODE, Laboratory
from pvemu.cpu.state_window import WindowKind

_INT82: Final = b"\xcd\x82"
_PAGE: Final = 0x1000
#: A page of the laboratory that nothing uses: zeros, and so a page table that maps nothing.
_EMPTY_TABLE: Final = 0x8000
_DATA: Final = 0x30000
_DEADLINE: Final = 100_000
_CR3: Final = layout.CR // 8 + 3


def examine_facts(window: WindowKind = "live") -> tuple[Check, ...]:
    """Try every fact through a kind of window, each on an engine of its own; a check tells what fails.

    Raises:
        EngineError: the engine is so different that nothing can be tried.
    """
    checks: list[Check] = []
    for fact in _FACTS:
        with closing(Laboratory(window)) as laboratory:
            checks.extend(fact(laboratory))
    return tuple(checks)


def _block_clock(laboratory: Laboratory) -> Iterator[Check]:
    """The clock that stops a guest is exact: the same code stops at the same place every time."""
    claim = "the block clock stops a loop at the same place twice"
    try:
        clock = BlockClock(laboratory.engine)
    except EngineError as refusal:
        yield Check(claim, False, str(refusal))
        return
    seen = []
    for _ in range(2):
        clock.now, clock.deadline = 0, _DEADLINE
        laboratory.window.u64[layout.RCX] = 0
        laboratory.window.store()
        left_by_exit = laboratory.run(1, b"\x41\xeb\xfd")  # 1: inc ecx ; jmp 1b
        seen.append((clock.now, laboratory.window.u64[layout.RCX], left_by_exit))
    stopped = seen[0][0] > _DEADLINE and seen[0][1] > 0 and seen[0][2] is None
    yield Check(claim, stopped and seen[0] == seen[1], repr([place[:2] for place in seen]))


def _port_input(laboratory: Laboratory) -> Iterator[Check]:
    """IN can only be stopped at the end of its block; with no memory left, the rest of it does no harm."""
    engine, window = laboratory.engine, laboratory.window
    kept: list[bytes] = []

    def on_in(_engine: int, _port: int, _size: int) -> int:
        window.fetch()
        kept.append(bytes(window.u8))
        window.u64[_CR3] = _EMPTY_TABLE
        window.store()
        engine.flush_tlb()
        engine.stop()
        return 0

    engine.hook(binding.HOOK_INSTRUCTION, binding.PORT_IN_CALLBACK(on_in), None, binding.INSTRUCTION_IN)
    write_data = b"\xc7\x05" + _DATA.to_bytes(4, "little") + b"\x11\x11\x11\x11"
    window.u64[layout.RAX] = 0x5555
    window.store()
    laboratory.run(3, b"\x90\xe4\x60" + write_data + _INT82)  # nop ; in al, 0x60 ; mov dword [data], ...
    if kept:
        window.u8[:] = kept[0]
    place, value = window.u64[layout.EIP // 8], window.u64[layout.RAX]
    untouched = laboratory.memory[_DATA : _DATA + 4] == bytes(4)
    yield Check(
        "IN in ring 3 can be faulted with registers and memory as before it",
        len(kept) == 1 and (place, value) == (CODE + 1, 0x5555) and untouched,
        f"{len(kept)} times, EIP 0x{place:x}, EAX 0x{value:x}, memory {'kept' if untouched else 'written'}",
    )


def _written_code(laboratory: Laboratory) -> Iterator[Check]:
    """Code that is written from outside the guest is in force after the translations were forgotten."""
    seen = []
    for value in (1, 2):
        laboratory.run(1, b"\xb8" + value.to_bytes(4, "little") + _INT82)  # mov eax, value
        seen.append(laboratory.window.u64[layout.RAX])
    yield Check("code written from outside runs after a flush", seen == [1, 2], repr(seen))


def _translation_hook(laboratory: Laboratory) -> Iterator[Check]:
    """Which frames hold translated code is known from the hook that reports every new block.

    It tells of a block and the one before it, so it is silent until an engine has gone from one to another.
    """
    laboratory.run(1, b"\xeb\x00" + _INT82)
    reported: set[int] = set()

    def on_translated(
        _engine: int, block: "ctypes._Pointer[TranslationBlock]", _previous: object, _data: int
    ) -> None:
        generated = block.contents
        reported.update((generated.pc, generated.pc + generated.size - 1))

    laboratory.engine.hook(binding.HOOK_TRANSLATED, binding.TRANSLATED_CALLBACK(on_translated))
    jump = b"\xe9" + (_PAGE - 5).to_bytes(4, "little")
    laboratory.memory[CODE + _PAGE : CODE + _PAGE + 2] = _INT82
    laboratory.run(1, jump)
    wanted = {CODE, CODE + len(jump) - 1, CODE + _PAGE, CODE + _PAGE + 1}
    yield Check(
        "from an engine's first jump on, every translated block is reported with its size",
        wanted <= reported,
        " ".join(f"{address:x}" for address in sorted(reported)),
    )


def _division(laboratory: Laboratory) -> Iterator[Check]:
    """The division that the engine leaves to the host, whose signal would end the process."""
    claim = "the least number divided by -1 is a divide error of the guest's"
    if not laboratory.engine.divides_safely:
        yield Check(claim, False, "the host's SIGFPE can't be taken: a guest can end the process")
        return
    # mov edx, 0x80000000 ; xor eax, eax ; mov ecx, -1 ; idiv ecx
    exit_ = laboratory.run(1, bytes.fromhex("ba00000080 31c0 b9ffffffff f7f9"))
    wanted = exit_ is not None and (exit_.number, exit_.eip) == (exits.EXCEPTION + exits.DE, CODE + 12)
    yield Check(claim, wanted, repr(exit_))


def _engines_beside(laboratory: Laboratory) -> Iterator[Check]:
    """A process may hold several machines."""
    with closing(Laboratory(laboratory.kind)) as other:
        seen = []
        for number in range(4):
            place = (laboratory, other)[number % 2]
            exit_ = place.run(1, b"\x05" + (number + 1).to_bytes(4, "little") + _INT82)  # add eax, number+1
            seen.append((exit_ is not None and exit_.number == 0x82, place.window.u64[layout.RAX]))
    wanted = [(True, 1), (True, 2), (True, 4), (True, 6)]
    yield Check("several engines in one process keep their states apart", seen == wanted, repr(seen))


_FACTS: Final[tuple[Callable[[Laboratory], Iterator[Check]], ...]] = (
    _block_clock,
    _port_input,
    _written_code,
    _translation_hook,
    _division,
    _engines_beside,
)
