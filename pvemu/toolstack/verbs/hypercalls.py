"""`pvemu hypercalls`: the table of hypercalls, and which of them are supported."""

import json
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from pvemu.abi.hypercalls import HYPERCALLS, Hypercall
from pvemu.hypervisor.families import supported
from pvemu.toolstack.screen import Screen


def hypercalls(*, as_object: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """List every hypercall: number, name, arguments, and whether it is supported.

    Parameters
    ----------
    as_object
        Print the list as JSON.
    """
    have = frozenset(supported())
    if as_object:
        print(json.dumps([_as_json(row, row.name in have) for row in HYPERCALLS], indent=2))
        return 0
    table = Table("number", "name", "arguments", "supported")
    table.columns[0].justify = "right"
    for row in HYPERCALLS:
        arguments = ", ".join(argument.name + "?" * argument.optional for argument in row.arguments)
        table.add_row(str(row.number), row.name, arguments, "yes" if row.name in have else "no")
    Screen().print(table)
    return 0


def _as_json(row: Hypercall, is_supported: bool) -> dict[str, object]:
    return {
        "number": row.number,
        "name": row.name,
        "arguments": [
            {"name": argument.name, "type": argument.type, "optional": argument.optional}
            for argument in row.arguments
        ],
        "guests": sorted(row.guests),
        "supported": is_supported,
    }
