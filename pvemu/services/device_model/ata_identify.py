"""What an ATA disk says of itself: the 256 words of IDENTIFY DEVICE (ATA/ATAPI-7, volume 1, section 6.17)."""

from typing import Final, NamedTuple

#: The longest block of READ MULTIPLE and WRITE MULTIPLE, in sectors.
MOST_PER_BLOCK: Final = 16
_MODEL: Final = "PVEMU DISK"
_FIRMWARE: Final = "1.0"
_WORDS: Final = 256
_LARGEST_LBA28: Final = 0x0FFF_FFFF

_FIXED_DISK: Final = 0x0040
_CAN_DO_LBA: Final = 0x0200
_HAS_IORDY: Final = 0x0800
#: Words of several bits whose two highest say that they are valid.
_VALID: Final = 0x4000
#: Words 54 to 58 and 64 to 70 are valid.
_FIELDS_VALID: Final = 0x0003
#: PIO modes 3 and 4, at 120 ns a word.
_PIO_3_AND_4: Final = 0x0003
_CYCLE_NS: Final = 120
#: ATA/ATAPI-4 to -7.
_VERSIONS: Final = 0x00F0
#: Power management, write cache, look-ahead; LBA48, FLUSH CACHE and FLUSH CACHE EXT.
_COMMAND_SETS: Final = (0x0068, 0x3400)
_PER_BLOCK_IS_SET: Final = 0x0100


class Geometry(NamedTuple):
    """Cylinders, heads, and sectors a track, as a computer of old wants to know them."""

    cylinders: int
    heads: int
    sectors: int

    @classmethod
    def of(cls, total: int) -> "Geometry":
        """The usual one for a disk of so many sectors."""
        heads, sectors = 16, 63
        return cls(min(max(total // (heads * sectors), 2), 16383), heads, sectors)


def identify(total: int, default: Geometry, current: Geometry, per_block: int, serial: str) -> bytes:
    """The words, as 512 bytes.

    Args:
        total: sectors of the disk.
        default, current: its geometry at first, and as the host has set it.
        per_block: sectors in a block of READ MULTIPLE; 0 when nobody has set it.
        serial: its number, up to 20 characters.
    """
    words = [0] * _WORDS
    words[0] = _FIXED_DISK
    words[1], words[3], words[6] = default
    _put_text(words, 10, 10, serial)
    _put_text(words, 23, 4, _FIRMWARE)
    _put_text(words, 27, 20, _MODEL)
    words[47] = 0x8000 | MOST_PER_BLOCK
    words[48] = 1  # the data port takes 32 bits at once
    words[49] = _CAN_DO_LBA | _HAS_IORDY
    words[50] = _VALID
    words[53] = _FIELDS_VALID
    words[54:57] = current
    _put_number(words, 57, 2, min(current.cylinders * current.heads * current.sectors, total))
    words[59] = _PER_BLOCK_IS_SET | per_block if per_block else 0
    _put_number(words, 60, 2, min(total, _LARGEST_LBA28))
    words[64] = _PIO_3_AND_4
    words[67] = words[68] = _CYCLE_NS
    words[80] = _VERSIONS
    words[82], words[83] = _COMMAND_SETS[0], _COMMAND_SETS[1] | _VALID
    words[84] = _VALID
    words[85], words[86] = _COMMAND_SETS
    words[87] = _VALID
    words[93] = _VALID | 1
    _put_number(words, 100, 4, total)
    return b"".join(word.to_bytes(2, "little") for word in words)


def _put_number(words: list[int], at: int, count: int, value: int) -> None:
    for index in range(count):
        words[at + index] = value >> 16 * index & 0xFFFF


def _put_text(words: list[int], at: int, count: int, text: str) -> None:
    """Text stands in words with the first character of each in its upper half."""
    padded = text.encode("ascii", "replace")[: 2 * count].ljust(2 * count)
    for index in range(count):
        words[at + index] = padded[2 * index] << 8 | padded[2 * index + 1]
