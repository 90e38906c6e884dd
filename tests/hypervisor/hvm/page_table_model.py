"""What a program for page_table_guest.py must come to, by a plain software walk of the guest's tables.

The rule for the TLB: a processor may use a translation until it is told that it has changed, and a test
can't know whether it does. So `Program` never lets a guest make an access whose translation may be stale:
after any change to memory that may be a table, or to a control register that matters, it flushes the
pages of the next access (INVLPG), or all (CR3, where no entry can be global) before it.
"""

from typing import Final

from page_table_guest import IMAGE, NO_TRAP, Code, Operation, Result, Run
from reference_walk import Reached, Refused, reference_walk

from pvemu.cpu import exits
from pvemu.memory.guest_walk import PagingMode

_PAGE: Final = 4096
_FLUSH_ALL: Final = Operation(Code.FLUSH_ALL)
#: Guest frames where a PC has devices: their contents are no memory's.
_DEVICES: Final = frozenset({0xFEE00, 0xFEC00})

_ACCESSES: Final = {
    Code.KERNEL_READ: (False, ("read",)),
    Code.KERNEL_WRITE: (False, ("write",)),
    Code.KERNEL_CHANGE: (False, ("read", "write")),
    Code.KERNEL_FETCH: (False, ("fetch",)),
    Code.USER_READ: (True, ("read",)),
    Code.USER_WRITE: (True, ("write",)),
    Code.USER_CHANGE: (True, ("read", "write")),
    Code.USER_FETCH: (True, ("fetch",)),
}

#: How many of the test's frames are tables in a PV guest; there a frame is a table or can be written.
PV_TABLES: Final = 4

#: mov eax, ... ; ret: the code that may be called, and where it is in a frame.
CODE_OFFSET: Final = 0x800
_MOV, _RET = 0xB8, 0xC3
_CODE_SIZE: Final = 6


class Unknown(Exception):
    """An access leads to memory that is not the test's; it must not be made."""


class GuestRam(dict[int, bytearray]):
    """The frames that are the test's, as far as they have been looked at, as the model has them."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._own = {*run.frames, *run.large_frames}

    def get(self, number: int, default: object = None) -> bytearray | None:  # type: ignore[override]
        """A frame; None where nothing is."""
        known = dict.get(self, number)
        if known is not None:
            return known
        run = self._run
        if not run.has_frame(number):
            if number in _DEVICES:
                raise Unknown
            return None
        if number not in self._own and not run.variant.is_pv and number != run.root >> 12:
            raise Unknown
        self[number] = bytearray(run.frame(number))
        return self[number]


class Program:
    """A program that grows by operations that make sense, and what each of them must come to.

    Attributes:
        operations, expected: side by side; None where nothing is to be compared.
        mode: the paging mode that the guest is in at this point.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.memory = GuestRam(run)
        self.mode: PagingMode = run.variant.mode
        self.has_global_pages = False
        self.operations: list[Operation] = []
        self.expected: list[Result | None] = []
        self._all_clean, self._clean_pages = True, set[int]()

    def __len__(self) -> int:
        return len(self.operations)

    def finish(self) -> list[Operation]:
        """The whole program."""
        self.add(Operation(Code.END))
        return self.operations

    def add(self, operation: Operation, expected: Result | None = None) -> None:
        """Add an operation as it is."""
        self.operations.append(operation)
        self.expected.append(expected)

    # --- operations ------------------------------------------------------------------------------

    def write_entry(self, number: int, slot: int, value: int, detail: int = 0) -> None:
        """Write an entry of a table in a frame, by its number, with an instruction."""
        size = self._run.variant.form.entry_size
        frame = self.memory.get(number)
        assert frame is not None
        frame[slot * size : (slot + 1) * size] = value.to_bytes(size, "little")
        code = Code.WRITE_WIDE if size == 8 else Code.WRITE_NARROW
        if self._run.variant.is_pv:
            self.add(Operation(code, number << 12 | slot * size, value), Result(NO_TRAP, 0, 0))
        else:
            address = self._kernel_address(number) + slot * size
            self.add(Operation(code, address, value, detail))
        self.change()

    def set_control(self, register: int, value: int, mode: PagingMode) -> None:
        """Write CR0, CR4 or (8) EFER, which brings another mode."""
        self.add(Operation(Code.SET_CONTROL, value=value, detail=register))
        self.mode = mode
        self.change()

    def access(self, code: Code, address: int, value: int, *, flush_all: bool) -> None:
        """Make an access of 4 bytes, unless it would meet unknown memory or unknown code."""
        saved = {number: bytes(frame) for number, frame in self.memory.items()}
        try:
            expected = self._access(code, address, value)
        except Unknown:
            for number, contents in saved.items():
                self.memory[number][:] = contents
            return
        self._flush(address, flush_all=flush_all)
        self.add(Operation(code, address, value), expected)
        if "write" in _ACCESSES[code][1]:
            self.change()

    def change(self) -> None:
        """Something was written: no translation is known to be fresh any more."""
        self._all_clean = False
        self._clean_pages.clear()

    # --- inside ----------------------------------------------------------------------------------

    def _kernel_address(self, number: int) -> int:
        if number in self._run.frames:
            return self._run.alias(self._run.frames.index(number))
        assert number == self._run.root >> 12
        return number << 12

    def _flush(self, address: int, *, flush_all: bool) -> None:
        pages = {address // _PAGE, (address + 3) // _PAGE}
        if self._all_clean or pages <= self._clean_pages:
            return
        if flush_all and not self.has_global_pages:
            self.add(_FLUSH_ALL)
            self._all_clean = True
            return
        for page in sorted(pages):
            self.add(Operation(Code.FLUSH_PAGE, page * _PAGE))
        self._clean_pages |= pages

    def _access(self, code: Code, address: int, value: int) -> Result:
        user, steps = _ACCESSES[code]
        pieces = [(address, min(4, _PAGE - address % _PAGE))]
        if pieces[0][1] < 4 and steps != ("fetch",):
            pieces.append((address + pieces[0][1], 4 - pieces[0][1]))
            if len(steps) > 1:
                raise Unknown  # the order of its four translations is the processor's affair
        if self._run.variant.is_pv and not user and "write" in steps:
            for at, _ in pieces:
                self._refuse_table_of_pv(at)
        word, used = 0, list[int]()
        for step in steps:
            places = []
            for at, size in pieces:
                found = self._translate(at, write=step == "write", user=user, fetch=step == "fetch")
                if isinstance(found, Refused):
                    return Result(exits.PF, found.error_code, at)
                used += [place for place, _ in found.used]
                places.append((found.address, size))
            if step == "fetch":
                return self._fetch(places[0][0], user=user)
            if step == "read":
                word = int.from_bytes(b"".join(self._load(*place) for place in places), "little")
            else:
                self._refuse_change_of_way(steps, places, used)
                data = (word + value & 0xFFFFFFFF).to_bytes(4, "little")
                for place, size in places:
                    self._store(place, data[:size])
                    data = data[size:]
        return Result(NO_TRAP, 0, word)

    def _translate(self, address: int, *, write: bool, user: bool, fetch: bool) -> Reached | Refused:
        found = reference_walk(
            self.memory, self.mode, self._run.root, address, write=write, user=user, fetch=fetch
        )
        for place, bits in found.used:
            frame = self.memory.get(place >> 12)
            if frame is not None:
                frame[place % _PAGE] |= bits
        if isinstance(found, Reached):
            self._frame(found.address)
        return found

    def _frame(self, place: int) -> bytearray | None:
        number = place >> 12
        if not self._run.variant.is_pv and number in IMAGE and number not in self._run.frames:
            raise Unknown
        return self.memory.get(number)

    def _load(self, place: int, size: int) -> bytes:
        frame = self._frame(place)
        return b"\xff" * size if frame is None else bytes(frame[place % _PAGE : place % _PAGE + size])

    def _store(self, place: int, data: bytes) -> None:
        frame = self._frame(place)
        if frame is not None:
            frame[place % _PAGE : place % _PAGE + len(data)] = data

    def _fetch(self, place: int, *, user: bool) -> Result:
        frame = self._frame(place)
        if frame is None:
            return Result(exits.GP, 0, 0)
        offset = place % _PAGE
        code = frame[offset : offset + _CODE_SIZE]
        if len(code) < _CODE_SIZE or code[0] != _MOV or code[5] != _RET:
            raise Unknown
        return Result(NO_TRAP, 0, int.from_bytes(code[1:5], "little"))

    def _refuse_change_of_way(
        self, steps: tuple[str, ...], places: list[tuple[int, int]], used: list[int]
    ) -> None:
        """Whoever reads an entry, is marked there as a writer and writes it: processors differ."""
        if len(steps) > 1 and any(place - 8 < way < place + size for place, size in places for way in used):
            raise Unknown

    def _refuse_table_of_pv(self, address: int) -> None:
        """A PV kernel's store to one of its tables is carried out by Xen, and not this test's subject."""
        found = reference_walk(
            self.memory, self.mode, self._run.root, address, write=False, user=False, fetch=False
        )
        if isinstance(found, Reached) and found.address >> 12 in self._run.frames[:PV_TABLES]:
            raise Unknown


def compare(run: Run, program: Program) -> None:
    """Hold what the guest has found against the model, and its memory, too."""
    for number, (operation, expected, found) in enumerate(
        zip(program.operations, program.expected, run.results, strict=True)
    ):
        if expected is None:
            continue
        if operation.code in _WRITES and found.vector == expected.vector == NO_TRAP:
            continue
        assert found == expected, (
            f"{run.variant.name}, operation {number}: {operation}, {found}, expected {expected}"
        )
    for number, frame in program.memory.items():
        if number in run.frames or number in run.large_frames:
            real = bytes(run.frame(number))
            different = [at for at in range(_PAGE) if real[at] != frame[at]]
            assert not different, (
                f"{run.variant.name}: frame {number:#x} differs from 0x{different[0]:x} on: "
                f"{real[different[0]]:#x}, by the model {frame[different[0]]:#x}"
            )


_CHANGES: Final = frozenset({Code.KERNEL_CHANGE, Code.USER_CHANGE})
_WRITES: Final = _CHANGES | {Code.KERNEL_WRITE, Code.USER_WRITE}
