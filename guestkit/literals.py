"""Numbers, character constants and strings as they are written, turned into values."""

import re

from guestkit.errors import Mistake

_NUMBER = re.compile(
    r"0[xX](?P<hex>[0-9a-fA-F_]+)|0[bB](?P<binary>[01_]+)|0[oO](?P<octal>[0-7_]+)|(?P<decimal>[0-9][0-9_]*)"
)
_BASES = {"hex": 16, "binary": 2, "octal": 8, "decimal": 10}
_LONGEST_NUMBER = 80

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "v": b"\v",
    "e": b"\x1b",
    "\\": b"\\",
    '"': b'"',
    "'": b"'",
}


def parse_number(text: str, column: int) -> int:
    """Return the value of a number as it is written; Mistake when it is none."""
    match = _NUMBER.fullmatch(text)
    if match is None or match.lastgroup is None or not match[match.lastgroup].strip("_"):
        raise Mistake(
            f"{text} is no number; write 0x1f, 0b101, 0o17 or 31 (underscores may separate)", column
        )
    digits = match[match.lastgroup].replace("_", "")
    if len(digits) > _LONGEST_NUMBER:
        raise Mistake(f"a number has at most {_LONGEST_NUMBER} digits", column)
    if match.lastgroup == "decimal" and len(digits) > 1 and digits[0] == "0":
        raise Mistake(f"{text} begins with 0; write 0o{digits[1:]} for octal, or leave the 0 out", column)
    return int(digits, _BASES[match.lastgroup])


def parse_text(quoted: str, column: int) -> bytes:
    """Return the bytes of a string or character constant, given with its quotes: UTF-8, with C's escapes.

    Raises Mistake for an escape that C does not have, or a character that can't be encoded.
    """
    parts = []
    end = 1
    for match in _ESCAPE.finditer(quoted, 1, len(quoted) - 1):
        parts.append(_encode(quoted[end : match.start()], column + end))
        parts.append(_unescape(match[1], column + match.start()))
        end = match.end()
    parts.append(_encode(quoted[end:-1], column + end))
    return b"".join(parts)


def parse_characters(quoted: str, column: int) -> int:
    """Return the value of a character constant: up to 8 bytes, the first one lowest, as in memory."""
    data = parse_text(quoted, column)
    if len(data) > 8:
        raise Mistake(
            f"a character constant has at most 8 bytes, not {len(data)}; a string has double quotes", column
        )
    return int.from_bytes(data, "little")


def _encode(text: str, column: int) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Mistake(
            "this character can't be written as UTF-8; use \\x escapes", column + error.start
        ) from error


def _unescape(code: str, column: int) -> bytes:
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code[0] == "x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[0] in "01234567":
        number = int(code, 8)
        if number > 0xFF:
            raise Mistake(f"\\{code} is more than a byte holds (\\377)", column)
        return bytes([number])
    raise Mistake(
        f"there is no escape \\{code}; there are \\n \\r \\t \\a \\b \\f \\v \\e \\\\ \\\" \\' \\x1f \\0",
        column,
    )
