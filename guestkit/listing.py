"""The listing: every line of the program with the address and the bytes that it became."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from guestkit.source import Line

_BYTES_A_ROW = 8
_MOST_ROWS = 4


class ListedLine(NamedTuple):
    """A line with what it became: ``size`` bytes at ``address``, of which ``data`` is None of for a .bss."""

    line: Line
    address: int | None
    data: bytes
    size: int


def format_listing(lines: Sequence[ListedLine], bits: int) -> str:
    """Return the listing as text, one or more rows a line.

    Lines from macros, repetitions and included files have a ">" for each step that led to them.
    """
    rows: list[str] = []
    filename = None
    for listed in lines:
        if listed.line.filename != filename:
            filename = listed.line.filename
            rows.append(f"; {filename}")
        rows.extend(_rows(listed, bits // 4))
    return "\n".join(rows) + "\n"


def _rows(listed: ListedLine, digits: int) -> Iterator[str]:
    address = "" if listed.address is None else f"{listed.address:0{digits}x}"
    chunks = [listed.data[at : at + _BYTES_A_ROW] for at in range(0, len(listed.data), _BYTES_A_ROW)]
    texts = [chunk.hex(" ") for chunk in chunks] or ([f"({listed.size} bytes)"] if listed.size else [""])
    if len(texts) > _MOST_ROWS:
        texts[_MOST_ROWS - 1 :] = [f"... ({listed.size} bytes)"]
    source = f"{'>' * listed.line.depth()}{listed.line.text.rstrip()}"
    width = _BYTES_A_ROW * 3 - 1
    yield f"{listed.line.number:5} {address:{digits}} {texts[0]:{width}}  {source}".rstrip()
    for text in texts[1:]:
        yield f"{'':5} {'':{digits}} {text}"
