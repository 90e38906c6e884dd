"""The block device interface (io/blkif.h): requests and responses on the ring, flags of a disk."""

from pvemu.abi.ring import sring
from pvemu.abi.structure import Field, Structure

BLKIF_OP_READ = 0
BLKIF_OP_WRITE = 1
BLKIF_OP_WRITE_BARRIER = 2
BLKIF_OP_FLUSH_DISKCACHE = 3
BLKIF_OP_RESERVED_1 = 4
BLKIF_OP_DISCARD = 5
BLKIF_OP_INDIRECT = 6

BLKIF_MAX_SEGMENTS_PER_REQUEST = 11
BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8

BLKIF_DISCARD_SECURE = 1 << 0

BLKIF_RSP_OKAY = 0
BLKIF_RSP_ERROR = -1
BLKIF_RSP_EOPNOTSUPP = -2

VDISK_CDROM = 0x1
VDISK_REMOVABLE = 0x2
VDISK_READONLY = 0x4

blkif_request_segment = Structure(
    "blkif_request_segment",
    Field("gref", "u32"),
    Field("first_sect", "u8"),  # both are part of the segment
    Field("last_sect", "u8"),
)
blkif_request = Structure(
    "blkif_request",
    Field("operation", "u8"),
    Field("nr_segments", "u8"),
    Field("handle", "u16"),
    Field("id", "u64"),
    Field("sector_number", "u64"),
    Field("seg", blkif_request_segment, BLKIF_MAX_SEGMENTS_PER_REQUEST),
)
blkif_request_discard = Structure(
    "blkif_request_discard",
    Field("operation", "u8"),
    Field("flag", "u8"),  # BLKIF_DISCARD_*
    Field("handle", "u16"),
    Field("id", "u64"),
    Field("sector_number", "u64"),
    Field("nr_sectors", "u64"),
)
blkif_request_indirect = Structure(
    "blkif_request_indirect",
    Field("operation", "u8"),
    Field("indirect_op", "u8"),
    Field("nr_segments", "u16"),
    Field("id", "u64"),
    Field("sector_number", "u64"),
    Field("handle", "u16"),
    Field("indirect_grefs", "u32", BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST),
    Field("pad", "u64", only=4),
)
blkif_response = Structure(
    "blkif_response",
    Field("id", "u64"),
    Field("operation", "u8"),
    Field("status", "s16"),
)
blkif_sring = sring("blkif", blkif_request, blkif_response)
