"""The page of a PV console (io/console.h): two byte rings whose indices run on and are masked on use."""

from pvemu.abi.structure import Field, Structure

xencons_interface = Structure(
    "xencons_interface",
    Field("in", "char", 1024),  # to the guest
    Field("out", "char", 2048),  # from the guest
    Field("in_cons", "u32"),
    Field("in_prod", "u32"),
    Field("out_cons", "u32"),
    Field("out_prod", "u32"),
)
