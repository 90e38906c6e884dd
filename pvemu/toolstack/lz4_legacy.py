"""The LZ4 legacy frame, in which Linux kernels are packed with LZ4 (lz4_Frame_format.md, "Legacy frame")."""

import struct

MAGIC = b"\x02\x21\x4c\x18"
_BLOCK_LIMIT = 8 << 20
"""Bytes that one block may unpack to."""
_MIN_MATCH = 4
_LONG_FIELD = 15
"""A length nibble of this value is continued in the bytes that follow."""


class Lz4Error(ValueError):
    """The data is not a legacy frame, or it is damaged."""


def unpack_lz4_legacy(data: bytes, limit: int) -> bytes | None:
    """The unpacked data, or None if there are more than `limit` bytes of it. Raises Lz4Error.

    A bzImage appends the unpacked size to the frame: too few bytes for another block end the frame.
    """
    if not data.startswith(MAGIC):
        raise Lz4Error("it does not begin with the magic number")
    result = bytearray()
    at = len(MAGIC)
    while at + 4 < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        if at + size > len(data):
            raise Lz4Error("a block runs past the end")
        result += _unpack_block(data[at : at + size])
        at += size
        if len(result) > limit:
            return None
    return bytes(result)


def _unpack_block(block: bytes) -> bytearray:
    result = bytearray()
    at, end = 0, len(block)
    try:
        while True:
            token = block[at]
            literals, at = _length(block, at + 1, token >> 4)
            if at + literals > end:
                raise Lz4Error("literals run past the end of their block")
            result += block[at : at + literals]
            at += literals
            if at == end:
                return result
            distance = block[at] | block[at + 1] << 8
            length, at = _length(block, at + 2, token & 15)
            _copy_match(result, distance, length + _MIN_MATCH)
    except IndexError:
        raise Lz4Error("a block ends in the middle of a sequence") from None


def _length(block: bytes, at: int, nibble: int) -> tuple[int, int]:
    length = nibble
    if nibble == _LONG_FIELD:
        while (more := block[at]) == 255:
            length += more
            at += 1
        length += more
        at += 1
    return length, at


def _copy_match(result: bytearray, distance: int, length: int) -> None:
    start = len(result) - distance
    if distance == 0 or start < 0 or len(result) + length > _BLOCK_LIMIT:
        raise Lz4Error("a match points outside its block")
    if distance >= length:
        result += result[start : start + length]
    else:
        # A match may overlap what it produces: the bytes repeat with the period `distance`.
        result += (result[start:] * (length // distance + 1))[:length]
