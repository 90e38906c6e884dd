"""Statements that describe structures: struct, its fields, and endstruct."""

from guestkit.assembly import Assembly, OpenStructure
from guestkit.errors import Mistake
from guestkit.program import LARGEST_IMAGE
from guestkit.structures import SCALARS, UserStructure
from guestkit.symbols import StructureSymbol
from guestkit.syntax import Directive, Expression, Name, Path


def begin(assembly: Assembly, directive: Directive) -> None:
    """Open a structure; its name means something once it is closed."""
    word = assembly.bits // 8
    structure = UserStructure(directive.name, packed=bool(directive.options), word=word)
    # Open even when something is wrong with it: its fields are fields all the same.
    assembly.structure = OpenStructure(structure, assembly.line)
    unknown = next((option for option in directive.options if option.name != "packed" or option.value), None)
    if unknown is not None:
        raise Mistake(f'a structure may be "packed", {unknown.name} is unknown', unknown.column)
    if "." in directive.name:
        raise Mistake("the name of a structure has no dot", directive.name_column)
    assembly.symbols.define(
        directive.name, StructureSymbol(structure, assembly.place()), directive.name_column
    )


def add_field(assembly: Assembly, directive: Directive) -> None:
    """Add a field to the open structure."""
    assert assembly.structure is not None
    structure = assembly.structure.structure
    (kind,) = directive.values
    assert kind is not None
    name = directive.name
    if "." in name or "@" in name:
        raise Mistake("the name of a field has no dot", directive.name_column)
    if name in structure.members:
        raise Mistake(f"{structure.name} already has a field {name}", directive.name_column)
    type_name, count = _type(assembly, kind)
    inner = assembly.symbols.structure(type_name) if type_name else None
    if inner is structure:
        raise Mistake(f"{structure.name} can't contain itself", kind.column)
    if type_name in SCALARS:
        structure.add_scalar(name, type_name, count)
    elif inner is not None:
        structure.add_structure(name, inner, count)
    else:
        structure.add_bytes(name, _size(assembly, kind, "the size of a field"))
    if structure.size() > LARGEST_IMAGE:
        raise Mistake(f"{structure.name} is larger than {LARGEST_IMAGE} bytes", kind.column)


def end(assembly: Assembly, directive: Directive) -> None:
    """Close the structure."""
    if assembly.structure is None:
        raise Mistake("this endstruct has no struct above it", directive.column)
    assembly.structure = None


def _type(assembly: Assembly, kind: Expression) -> tuple[str, int | None]:
    """Return the type that a field names and its number of elements; no name when it is a plain size."""
    match kind:
        case Name(name=name) if name in SCALARS or assembly.symbols.structure(name) is not None:
            return name, None
        case Path(root=root, steps=((index, ""),)):
            if root not in SCALARS and assembly.symbols.structure(root) is None:
                raise Mistake(
                    f"{root} is no type; types are {', '.join(sorted(SCALARS))} and structures", kind.column
                )
            return root, _size(assembly, index, "the number of elements")
        case _:
            return "", None


def _size(assembly: Assembly, expression: Expression, what: str) -> int:
    number = assembly.evaluator.constant(expression, assembly.place(), what)
    if not 0 <= number <= LARGEST_IMAGE:
        raise Mistake(f"{what} is 0 to {LARGEST_IMAGE}, not {number}", expression.column)
    return number
