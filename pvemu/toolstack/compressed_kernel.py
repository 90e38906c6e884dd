"""Unpacking of kernel files: gzip, and the payload of a Linux bzImage (boot protocol 2.08 and later)."""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

from pvemu.toolstack.errors import KernelRefused
from pvemu.toolstack.lz4_legacy import Lz4Error, unpack_lz4_legacy

MAX_UNPACKED_SIZE = 256 << 20
"""Bytes; no kernel comes near, and a file made to unpack for ever ends here."""
_MAX_MEMORY = 256 << 20
"""Bytes that xz and lzma may use to unpack; Linux asks for a dictionary of 32 MiB at most."""

_BOOT_FLAG_AT, _BOOT_FLAG = 0x1FE, b"\x55\xaa"
_HEADER_MAGIC_AT, _HEADER_MAGIC = 0x202, b"HdrS"
_SETUP_SECTORS_AT = 0x1F1
_VERSION_AT = 0x206
_PAYLOAD_AT = 0x248
_HEADER_END = 0x250
_SECTOR_SIZE = 512
_DEFAULT_SETUP_SECTORS = 4
_FIRST_VERSION_WITH_PAYLOAD = 0x208


def unpack_kernel(data: bytes) -> bytes:
    """The ELF file inside `data`, which may be an ELF file, a gzip file or a bzImage; else `data` itself.

    Raises KernelRefused if it is compressed and cannot be unpacked, or becomes larger than MAX_UNPACKED_SIZE.
    """
    if data[_BOOT_FLAG_AT:][:2] == _BOOT_FLAG and data[_HEADER_MAGIC_AT:][:4] == _HEADER_MAGIC:
        data = _bzimage_payload(data)
    for magic, unpack in _FORMATS.items():
        if data.startswith(magic):
            return unpack(data)
    return data


def _bzimage_payload(data: bytes) -> bytes:
    if (
        len(data) < _HEADER_END
        or struct.unpack_from("<H", data, _VERSION_AT)[0] < _FIRST_VERSION_WITH_PAYLOAD
    ):
        raise KernelRefused(
            "unsupported bzImage", "its boot protocol is older than 2.08; give the ELF file (vmlinux) instead"
        )
    payload_offset, payload_length = struct.unpack_from("<II", data, _PAYLOAD_AT)
    sectors = 1 + (data[_SETUP_SECTORS_AT] or _DEFAULT_SETUP_SECTORS)
    start = sectors * _SECTOR_SIZE + payload_offset
    if start + payload_length > len(data):
        raise _damaged("bzImage payload", "it runs past the end of the file")
    return data[start : start + payload_length]


def _damaged(what: str, why: str) -> KernelRefused:
    return KernelRefused(f"damaged {what}", f"{why}; copy or build the kernel again")


def _too_large() -> KernelRefused:
    return KernelRefused(
        "compressed kernel is too large", f"it unpacks to more than {MAX_UNPACKED_SIZE} bytes"
    )


class _Decompressor(Protocol):
    """What the decompressor objects of zlib, bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _stream_unpacker(name: str, new: Callable[[], _Decompressor]) -> Callable[[bytes], bytes]:
    """Unpacks with one of the standard library's decompressors; what follows the stream is ignored."""

    def unpack(data: bytes) -> bytes:
        stream = new()
        try:
            result = stream.decompress(data, MAX_UNPACKED_SIZE)
        except (zlib.error, lzma.LZMAError, OSError) as error:
            raise _damaged(f"{name} data", str(error)) from None
        if not stream.eof:
            if len(result) == MAX_UNPACKED_SIZE:
                raise _too_large()
            raise _damaged(f"{name} data", "the file ends in the middle of it")
        return result

    return unpack


def _unpack_lz4(data: bytes) -> bytes:
    try:
        result = unpack_lz4_legacy(data, MAX_UNPACKED_SIZE)
    except Lz4Error as error:
        raise _damaged("lz4 data", str(error)) from None
    if result is None:
        raise _too_large()
    return result


def _refuse_zstd(data: bytes) -> bytes:
    raise KernelRefused("unsupported compression (zstd)", "give the ELF file (vmlinux) instead")


def _refuse_lzo(data: bytes) -> bytes:
    raise KernelRefused("unsupported compression (lzo)", "give the ELF file (vmlinux) instead")


_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_FORMATS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": _stream_unpacker("gzip", lambda: zlib.decompressobj(_GZIP_WINDOW)),
    b"BZh": _stream_unpacker("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": _stream_unpacker("xz", lambda: lzma.LZMADecompressor(memlimit=_MAX_MEMORY)),
    b"\x5d\0\0": _stream_unpacker("lzma", lambda: lzma.LZMADecompressor(memlimit=_MAX_MEMORY)),
    b"\x02\x21\x4c\x18": _unpack_lz4,
    b"\x28\xb5\x2f\xfd": _refuse_zstd,
    b"\x89LZO": _refuse_lzo,
}
