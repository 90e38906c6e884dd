"""The trace of a run: a line for every exit of the guest, the same in every run of the same guest."""

from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

from pvemu.abi.errors import PvemuError
from pvemu.cpu import layout
from pvemu.cpu.exits import describe
from pvemu.toolstack.machine import Machine

_EIP: Final = layout.EIP // 8
_WORD: Final = 0xFFFFFFFF


class ExitTrace:
    """Writes `cycle exit eip=... eax=...` for each exit of a machine, before it is handled.

    Raises:
        PvemuError: the file can't be written, now or in the middle of the run.
    """

    def __init__(self, path: Path, machine: Machine) -> None:
        self._path = path
        cpu = machine.hypervisor.cpu
        self._clock, self._registers = cpu.clock, cpu.window.u64
        try:
            self._file: TextIO = path.open("w", encoding="ascii")
        except OSError as error:
            raise self._refused(error) from error
        cpu.trace(self._record)

    def __enter__(self) -> "ExitTrace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError as error:
            if kind is None:
                raise self._refused(error) from error

    def _record(self, exit_number: int) -> None:
        registers = self._registers
        try:
            self._file.write(
                f"{self._clock.now} {describe(exit_number)} "
                f"eip={registers[_EIP] & _WORD:08x} eax={registers[layout.RAX] & _WORD:08x}\n"
            )
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> PvemuError:
        return PvemuError(
            f"{self._path} can't be written ({error.strerror}): give --trace a file in a folder with room"
        )
