"""The shared ring of split drivers (io/ring.h): four indexes, then slots for requests and responses."""

from pvemu.abi.structure import Field, Structure, Union


def sring(name: str, request: Structure, response: Structure) -> Structure:
    """The shared page of a kind of ring, as DEFINE_RING_TYPES makes it; its last field is slot 0.

    Every index counts on without end, and is taken modulo the number of slots when it is used.
    """
    return Structure(
        f"{name}_sring",
        Field("req_prod", "u32"),
        Field("req_event", "u32"),
        Field("rsp_prod", "u32"),
        Field("rsp_event", "u32"),
        Field("pvt", Union("pvt", Field("pvt_pad", "u8", 4))),
        Field("__pad", "u8", 44),
        Field("ring", Union(f"{name}_sring_entry", Field("req", request), Field("rsp", response)), 1),
    )
