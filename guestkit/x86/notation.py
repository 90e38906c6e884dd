"""The notation of the instruction table: rows of text become the forms that the encoder chooses from.

The rows are those of the instruction pages of the Intel manual (volume 2, section 3.1.1), folded with the
letters of its opcode maps (appendix A). A heading names mnemonics; the indented rows below it say
``operands | opcode | validity``, in order of preference: the first that fits the operands is used. ::

    shl/sal shr - sar
        r/m8, imm8   | C0 /n ib
        r/mv, imm8   | C1 /n ib

*Headings.* Words separated by spaces are numbered n = 0, 1, 2...; ``-`` skips a number; ``/`` separates names
of one instruction; ``{cc}`` stands for the sixteen conditions, in the order of their numbers.

*Operands.* ``r8 r16 r32 r64 Sreg CRn DRn mm xmm STi`` are registers, ``m8`` to ``m128`` memory, ``m`` memory
of any size, ``r/m32`` and ``xmm/m64`` either; ``m16:32`` is a far pointer in memory and ``ptr16:32`` one in
the instruction; ``moffs32`` is an absolute address; ``rel8`` and ``rel32`` are jump targets. ``imm8`` is a
number that fills its field, signed or not; ``simm8`` one that the processor extends to the size of the
operand; ``known32`` one of 32 bits that it extends to 64, and that does not depend on a symbol. Capitals
(``AL``, ``DX``, ``ST``) are one fixed register, a digit is that number. ``v`` stands for 16, 32 and 64 bits,
``y`` for 32 and 64, ``z`` for an immediate of at most 32: such a row is one form for each size, with the
prefix 66 for 16 bits and REX.W for 64.

*Opcode.* Bytes in hex, ``66``, ``F2``, ``F3``, ``67``, ``9B`` and ``REX.W`` standing before them. ``+n`` and
``+8n`` add the number of the mnemonic, ``+r`` and ``+i`` that of the register operand. ``/r`` is a ModRM byte
with two operands, ``/0`` to ``/7`` and ``/n`` one with an opcode extension, ``/rr`` one that names the same
register twice. ``ib iw id io iz iv`` are immediates, ``cb cd cp`` code offsets.

*Validity.* ``i64``: not in 64-bit code; ``o64``: only there; ``d64``: in 64-bit code the operand is 64 bits
wide without REX.W and cannot be 32; ``f64``: nor can it be 16.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, TypeAlias

# Where an operand goes. "both" is reg and rm at once; "implied" is nowhere, the opcode says it.
Place: TypeAlias = Literal["reg", "rm", "both", "plus", "immediate", "relative", "far", "moffs", "implied"]

CONDITIONS = "o no b/c/nae ae/nb/nc e/z ne/nz be/na a/nbe s ns p/pe np/po l/nge ge/nl le/ng g/nle"

# What v, y and z stand for at each operand size; None where there is no such size. The sizes stand in order
# of preference: 32 and 64 bits are the usual ones of the two modes.
_SIZES = (32, 64, 16)
_SIZED: dict[str, tuple[str | None, str | None, str | None]] = {
    "rv": ("r32", "r64", "r16"),
    "r/mv": ("r/m32", "r/m64", "r/m16"),
    "mv": ("m32", "m64", "m16"),
    "rAX": ("EAX", "RAX", "AX"),
    "immz": ("imm32", "simm32", "imm16"),
    "immv": ("imm32", "imm64", "imm16"),
    "simm8": ("simm8:32", "simm8:64", "simm8:16"),
    "moffsv": ("moffs32", "moffs64", "moffs16"),
    "m16:v": ("m16:32", "m16:64", "m16:16"),
    "ry": ("r32", "r64", None),
    "r/my": ("r/m32", "r/m64", None),
    "my": ("m32", "m64", None),
    "iz": ("id", "id", "iw"),
    "iv": ("id", "io", "iw"),
}
_FIELD_TOKENS = {
    "imm8": "ib", "simm8:16": "ib", "simm8:32": "ib", "simm8:64": "ib", "imm16": "iw", "imm32": "id",
    "simm32": "id", "known32": "id", "imm64": "io", "rel8": "cb", "rel32": "cd", "ptr16:32": "cp",
}  # fmt: skip
_TOKEN_BYTES = {"ib": 1, "iw": 2, "id": 4, "io": 8, "cb": 1, "cd": 4, "cp": 6}
FIELD_BYTES = {name: _TOKEN_BYTES[token] for name, token in _FIELD_TOKENS.items()}

_PREFIXES = {"66": 0x66, "F2": 0xF2, "F3": 0xF3, "67": 0x67, "9B": 0x9B}
_REX_W = "REX.W"
_OPCODE_BYTE = re.compile(r"([0-9A-F]{2})(?:\+(\d?)n)?(\+[ri])?")
_MODES = {"": (32, 64), "d64": (32, 64), "f64": (32, 64), "i64": (32,), "o64": (64,)}


@dataclass(frozen=True, slots=True)
class Form:
    """One way to encode one mnemonic, for one size of its operands.

    ``operands`` are names of the notation and ``places`` say where each of them goes. ``digit`` is the opcode
    extension in ModRM, if there is one. ``is_default`` marks the size that an operand without a size has.
    """

    mnemonic: str
    operands: tuple[str, ...]
    places: tuple[Place, ...]
    modes: tuple[int, ...]
    prefixes: frozenset[int]
    rex_w: bool
    opcode: bytes
    has_modrm: bool
    digit: int | None
    is_default: bool


def parse(text: str) -> Iterator[Form]:
    """Yield the forms of a table in the order of its rows; a row that breaks the notation is a ValueError."""
    heading = ""
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            heading = line
            continue
        operand_text, opcode, validity = [*(column.strip() for column in line.split("|")), ""][:3]
        operands = operand_text.split(", ") if operand_text else []
        for n, mnemonic in _mnemonics(heading):
            for form in _forms(mnemonic, n, operands, opcode.split(), validity):
                if form.modes:
                    yield form


def _mnemonics(heading: str) -> Iterator[tuple[int, str]]:
    """The numbered mnemonics of a heading, each alias on its own."""
    if heading.endswith("{cc}"):
        stem = heading.removesuffix("{cc}")
        heading = " ".join("/".join(stem + name for name in names.split("/")) for names in CONDITIONS.split())
    for n, names in enumerate(heading.split()):
        if names != "-":
            yield from ((n, name) for name in names.split("/"))


def _forms(mnemonic: str, n: int, operands: list[str], opcode: list[str], validity: str) -> Iterator[Form]:
    """The forms of one row for one mnemonic: one, or one for each operand size."""
    if validity not in _MODES:
        raise ValueError(f"{mnemonic}: {validity!r} is not one of {', '.join(filter(None, _MODES))}")
    modes = _MODES[validity]
    if not any(name in _SIZED for name in operands):
        yield _form(mnemonic, n, operands, opcode, modes, is_default=False)
        return
    fixed_in_64 = validity in ("d64", "f64")
    size_prefixes = {32: [], 64: [] if fixed_in_64 else [_REX_W], 16: ["66"]}
    size_modes = {
        32: modes[:1] if fixed_in_64 else modes,
        64: tuple(mode for mode in modes if mode == 64),
        16: modes[:1] if validity == "f64" else modes,
    }
    for column, size in enumerate(_SIZES):
        at_size = [_SIZED[name][column] if name in _SIZED else name for name in operands]
        names = [name for name in at_size if name is not None]
        if len(names) == len(operands):
            tokens = [_SIZED[token][column] or token if token in _SIZED else token for token in opcode]
            is_default = fixed_in_64 and size != 16
            yield _form(
                mnemonic, n, names, size_prefixes[size] + tokens, size_modes[size], is_default=is_default
            )


def _form(
    mnemonic: str, n: int, operands: list[str], tokens: list[str], modes: tuple[int, ...], *, is_default: bool
) -> Form:
    """One form: the opcode column is read token by token, and every operand is given its place."""
    # The last token is never a prefix: 9B alone is the instruction WAIT.
    prefixes = list(takewhile(lambda token: token in _PREFIXES or token == _REX_W, tokens[:-1]))
    tokens = tokens[len(prefixes) :]
    code = bytearray()
    adds_register = False
    modrm = ""
    fields = []
    for token in tokens:
        if match := _OPCODE_BYTE.fullmatch(token):
            byte, step, register = match.groups()
            code.append(int(byte, 16) + (0 if step is None else int(step or 1) * n))
            adds_register = register is not None
        elif token.startswith("/"):
            modrm = token[1:]
        else:
            fields.append(token)
    if fields != [_FIELD_TOKENS[name] for name in operands if name in _FIELD_TOKENS]:
        raise ValueError(
            f"the fields of {mnemonic} {', '.join(operands)} are not those of its opcode: {fields}"
        )
    return Form(
        mnemonic=mnemonic,
        operands=tuple(operands),
        places=_places(operands, modrm, adds_register),
        modes=modes,
        prefixes=frozenset(_PREFIXES[token] for token in prefixes if token != _REX_W),
        rex_w=_REX_W in prefixes,
        opcode=bytes(code),
        has_modrm=bool(modrm),
        digit=n if modrm == "n" else int(modrm) if modrm.isdigit() else None,
        is_default=is_default,
    )


def _places(operands: Sequence[str], modrm: str, adds_register: bool) -> tuple[Place, ...]:
    """Where each operand goes; what no other rule places belongs to the ModRM byte."""
    places = [_fixed_place(name) for name in operands]
    open_indices = [index for index, place in enumerate(places) if place is None]
    if adds_register:
        rest: list[Place] = ["plus"]
    elif modrm == "rr":
        rest = ["both"]
    elif modrm == "r":
        # The one that may be memory is rm; of two registers, the general one next to a CRn, Sreg or mm.
        first, second = (operands[index] for index in open_indices)
        rest = ["rm", "reg"] if _rm_rank(first) > _rm_rank(second) else ["reg", "rm"]
    else:
        rest = ["rm"] if modrm else []
    if len(rest) != len(open_indices):
        raise ValueError(f"the operands {', '.join(operands)} do not fit into the opcode")
    for index, place in zip(open_indices, rest, strict=True):
        places[index] = place
    return tuple(place for place in places if place is not None)


def _fixed_place(name: str) -> Place | None:
    if name.isupper() or name.isdigit():
        return "implied"
    if name in FIELD_BYTES:
        return "relative" if name.startswith("rel") else "far" if name.startswith("ptr") else "immediate"
    return "moffs" if name.startswith("moffs") else None


def _rm_rank(name: str) -> int:
    if "/" in name or (name.startswith("m") and name != "mm"):
        return 2
    return 1 if name.startswith("r") else 0
