"""The block back end: disk images served to guests over blkif rings (public header io/blkif.h)."""
