"""Padding for code: as few instructions that do nothing as possible."""

# The multi-byte forms that Intel's manual recommends (volume 2, NOP), by their length less one.
_NOPS = (
    bytes.fromhex("90"),
    bytes.fromhex("6690"),
    bytes.fromhex("0f1f00"),
    bytes.fromhex("0f1f4000"),
    bytes.fromhex("0f1f440000"),
    bytes.fromhex("660f1f440000"),
    bytes.fromhex("0f1f8000000000"),
    bytes.fromhex("0f1f840000000000"),
    bytes.fromhex("660f1f840000000000"),
)


def nops(size: int) -> bytes:
    """Return ``size`` bytes of instructions without effect, in 32-bit and in 64-bit code."""
    longest = len(_NOPS)
    whole, rest = divmod(size, longest)
    return _NOPS[-1] * whole + (_NOPS[rest - 1] if rest else b"")
