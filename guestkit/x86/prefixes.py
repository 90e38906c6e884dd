"""The prefixes that a person writes before an instruction, and which instructions each of them goes with."""

from collections.abc import Sequence

from guestkit.x86.errors import EncodeError
from guestkit.x86.operands import Memory, Operand, Register

_SIZES = "bwdq"
_MOVES = frozenset(f"{stem}{size}" for stem in ("movs", "stos", "lods", "ins", "outs") for size in _SIZES)
_COMPARES = frozenset(f"{stem}{size}" for stem in ("cmps", "scas") for size in _SIZES)
_LOADS = frozenset(f"{stem}{size}" for stem in ("movs", "cmps", "lods", "outs") for size in _SIZES)
_STRINGS = _MOVES | _COMPARES

# REP RET is the two-byte return that AMD's optimization guide asks for.
_REP = (0xF3, _STRINGS | {"ret"}, "the string instructions")
_REPNE = (0xF2, _COMPARES, "CMPS and SCAS")
# A segment prefix on its own; an instruction with a memory operand has its segment inside that.
_SEGMENTS = {"es": 0x26, "cs": 0x2E, "ss": 0x36, "ds": 0x3E, "fs": 0x64, "gs": 0x65}
_IMPLIED_MEMORY = _LOADS | {"xlat", "xlatb"}
_IMPLIED_MEMORY_WORDING = "MOVS, CMPS, LODS, OUTS and XLAT; elsewhere write it inside the brackets"
# Intel manual, volume 2, LOCK
_LOCK_NAMES = "add adc and btc btr bts cmpxchg cmpxchg8b cmpxchg16b dec inc neg not or sbb sub xor xadd xchg"
_LOCKABLE = frozenset(_LOCK_NAMES.split())

_PLAIN_PREFIXES: dict[str, tuple[int, frozenset[str], str]] = {
    "rep": _REP,
    "repe": _REP,
    "repz": _REP,
    "repne": _REPNE,
    "repnz": _REPNE,
    **{name: (byte, _IMPLIED_MEMORY, _IMPLIED_MEMORY_WORDING) for name, byte in _SEGMENTS.items()},
}
_ADDRESS_SIZE_PREFIXES = {"a16": 32, "a32": 64}  # each is an exception in the code of that many bits
LOCK = 0xF0
OPERAND_SIZE = 0x66
ADDRESS_SIZE = 0x67
WAIT = 0x9B

# UD2 and the letters "xen": the forced emulation prefix, with which a PV guest asks for the virtual CPUID.
FORCED_EMULATION = b"\x0f\x0bxen"

_ORDER = (WAIT, *_SEGMENTS.values(), ADDRESS_SIZE, OPERAND_SIZE, 0xF2, 0xF3, LOCK)


def segment_prefix(segment: Register) -> int:
    """The prefix byte that overrides the segment of a memory operand."""
    if segment.name not in _SEGMENTS:
        raise EncodeError(f"{segment.name} is not a segment register")
    return _SEGMENTS[segment.name]


def prefix_codes(prefixes: Sequence[str], mnemonic: str, operands: Sequence[Operand], bits: int) -> set[int]:
    """The bytes of the written prefixes but ``fep``; raises EncodeError for one that is out of place."""
    codes = set()
    for prefix in prefixes:
        if prefix == "lock":
            _check_lock(mnemonic, operands)
            codes.add(LOCK)
        elif prefix in _PLAIN_PREFIXES:
            code, allowed, wording = _PLAIN_PREFIXES[prefix]
            if mnemonic not in allowed:
                raise EncodeError(f"{prefix} does not go with {mnemonic.upper()}, but with {wording}")
            codes.add(code)
        elif prefix in _ADDRESS_SIZE_PREFIXES:
            if _ADDRESS_SIZE_PREFIXES[prefix] != bits:
                raise EncodeError(f"{prefix} is a prefix of {_ADDRESS_SIZE_PREFIXES[prefix]}-bit code only")
            codes.add(ADDRESS_SIZE)
        elif prefix != "fep":
            known = ", ".join(["fep", "lock", *_PLAIN_PREFIXES, *_ADDRESS_SIZE_PREFIXES])
            raise EncodeError(f"unknown prefix {prefix!r}; there are: {known}")
    return codes


def ordered_prefixes(codes: set[int]) -> bytes:
    """Prefix bytes in the order in which GNU as writes them."""
    return bytes(code for code in _ORDER if code in codes)


def _check_lock(mnemonic: str, operands: Sequence[Operand]) -> None:
    if mnemonic not in _LOCKABLE:
        lockable = ", ".join(sorted(_LOCKABLE))
        raise EncodeError(f"lock does not go with {mnemonic.upper()}, but with {lockable}")
    destinations = operands if mnemonic == "xchg" else operands[:1]
    if not any(isinstance(operand, Memory) for operand in destinations):
        raise EncodeError("lock needs a memory operand as the destination", 0 if operands else None)
