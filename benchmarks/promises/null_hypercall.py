"""A hypercall that does next to nothing: xen_version(0) by int 0x82, through the whole of pvemu."""

from functools import partial
from typing import Final

from benchmarks.promises.guests import program, run_on_pvemu, run_on_unicorn
from benchmarks.promises.measuring import Benchmark

_CALLS: Final = 40_000
_BODY: Final = f"""
        mov ebp, {_CALLS}
.again: mov eax, __HYPERVISOR_xen_version
        xor ebx, ebx
        xor ecx, ecx
        int 0x82
        dec ebp
        jnz .again
"""


def benchmarks() -> list[Benchmark]:
    """The loop on pvemu, and beside it with the binding's register calls."""
    image = program(_BODY)
    return [
        Benchmark(
            "null hypercall",
            "ns a hypercall",
            ours=partial(run_on_pvemu, image),
            other=partial(run_on_unicorn, image),
            other_name="reg_read/reg_write",
            scale=1e9 / _CALLS,
            goal=10.0,
        )
    ]
