"""A kernel under the hypervisor that talks to the store over its ring page."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pvemu import Machine, Outcome
from pvemu.abi.xs_wire import XS_ERROR, XS_READ

CLIENT = Path(__file__).with_name("xenstore_client.gk").read_text()


@pytest.mark.parametrize(
    ("path", "printed"),
    [
        ("domid", f"{XS_READ} 1"),
        ("/local/domain/1/domid", f"{XS_READ} 1"),
        ("data/nothing", f"{XS_ERROR} ENOENT"),
        ("/tool", f"{XS_ERROR} EACCES"),
        ("/tool/", f"{XS_ERROR} EINVAL"),
    ],
)
def test_a_guest_reads_what_it_may(make_machine: Callable[..., Machine], path: str, printed: str) -> None:
    machine = make_machine(CLIENT.replace("QUERY", f'"{path}"'), memory=8)
    result = machine.run(seconds=1)
    assert bytes(machine.console_bytes).decode().split("\n")[0].strip() == printed, machine.log_lines
    assert result.outcome is Outcome.POWEROFF
