"""Fragments of data: numbers and strings, filled space, padding and the contents of files."""

from collections.abc import Sequence

from guestkit.errors import Mistake
from guestkit.evaluator import Evaluator
from guestkit.nops import nops
from guestkit.program import LARGEST_IMAGE, Fragment
from guestkit.syntax import Expression, Text


def count_of(evaluator: Evaluator, expression: Expression, fragment: Fragment, what: str) -> int:
    """Return a number of bytes or repetitions; Mistake when it is negative or larger than any image."""
    count = evaluator.number(expression, fragment.place)
    if not 0 <= count <= LARGEST_IMAGE:
        raise Mistake(f"{what} is 0 to {LARGEST_IMAGE}, not {count}", expression.column)
    return count


class FixedBytes(Fragment):
    """Bytes that depend on nothing."""

    is_fixed = True

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def emit(self, evaluator: Evaluator) -> bytes:
        """Return them."""
        return self.data


class Data(Fragment):
    """Numbers of ``unit`` bytes each, and strings padded with zeros to whole units; perhaps several times."""

    def __init__(self, unit: int, items: Sequence[Expression], count: Expression | None = None) -> None:
        self.unit = unit
        self.items = items
        self.count = count
        self._once = sum(self._item_size(item) for item in items)
        self._times = 1
        self.size = self._once
        self.is_fixed = count is None

    def resize(self, evaluator: Evaluator) -> None:
        """Count the repetitions."""
        if self.count is not None:
            self._times = count_of(evaluator, self.count, self, "the number of repetitions")
            self.size = self._once * self._times

    def emit(self, evaluator: Evaluator) -> bytes:
        """Return the items as little-endian numbers."""
        once = b"".join(self._item(evaluator, item) for item in self.items)
        return once * self._times

    def _item_size(self, item: Expression) -> int:
        return -(-len(item.data) // self.unit) * self.unit if isinstance(item, Text) else self.unit

    def _item(self, evaluator: Evaluator, item: Expression) -> bytes:
        if isinstance(item, Text):
            return item.data.ljust(self._item_size(item), b"\0")
        number = evaluator.number(item, self.place)
        return pack(number, self.unit, item.column)


class Fill(Fragment):
    """Space of a size that may depend on addresses, filled with one byte."""

    def __init__(self, count: Expression, byte: Expression | None, size: int | None) -> None:
        """``size`` is the value of ``count``, when it is known already."""
        self.count = count
        self.byte = byte
        self.size = size or 0
        self.is_fixed = size is not None

    def resize(self, evaluator: Evaluator) -> None:
        """Evaluate the size anew."""
        self.size = count_of(evaluator, self.count, self, "a reserved size in bytes")

    def emit(self, evaluator: Evaluator) -> bytes:
        """Return the space, zeros unless another byte was named."""
        byte = (
            b"\0" if self.byte is None else pack(evaluator.number(self.byte, self.place), 1, self.byte.column)
        )
        return byte * self.size


class Alignment(Fragment):
    """Padding up to the next multiple of ``step``: nops in code, else zeros or the byte that was named."""

    def __init__(self, step: int, byte: Expression | None) -> None:
        self.step = step
        self.byte = byte

    def resize(self, evaluator: Evaluator) -> None:
        """Pad from where the fragment begins now; sections begin at a multiple of every alignment in them."""
        self.size = -self.offset % self.step

    def emit(self, evaluator: Evaluator) -> bytes:
        """Return the padding."""
        if self.byte is not None:
            return pack(evaluator.number(self.byte, self.place), 1, self.byte.column) * self.size
        return nops(self.size) if self.place.section.is_code else bytes(self.size)


def pack(number: int, size: int, column: int) -> bytes:
    """Return a number as ``size`` bytes, signed or not; Mistake when it does not fit."""
    bits = 8 * size
    if not -(1 << bits - 1) <= number < 1 << bits:
        raise Mistake(f"{hex(number)} does not fit into {size} byte{'s' if size > 1 else ''}", column)
    return (number & (1 << bits) - 1).to_bytes(size, "little")
