"""Xen as Debian packages it, as an HVM guest: a hypervisor in the hypervisor, with a guest of its own.

Of the emulated PC it uses nearly all: local APIC, I/O APIC, 8254, ACPI's timer, long mode, 2 MiB pages, MSRs.
"""

from typing import Any

import pytest

from guestkit import assemble
from pvemu import Outcome
from pvemu.toolstack.guest_config import GuestConfig
from pvemu.toolstack.guest_kind import GuestKind, Paging
from tests.real_guests.conftest import kernels, run

#: Xen takes the first word for the kernel's name. There is no BIOS that it could ask.
COMMAND_LINE = "xen com1=115200,8n1 console=com1 no-real-mode noreboot dom0_mem=16M"
#: Virtual time. Xen waits a second of it for a timer to settle.
SECONDS = 5
#: Prints in which ring it is, and powers off; Debian's Xen has 64-bit PV guests only.
DOMAIN_0 = """
guest "domain 0", target=pv64
section .text
start:  mov eax, cs
        and al, 3
        add [ring], al
        hypercall console_io, CONSOLEIO_write, text_end - text, text
        hypercall sched_op, SCHEDOP_shutdown, reason
section .data
text:   db "Domain 0 of Xen is in ring "
ring:   db "0.", 10
text_end:
align 4
reason: dd SHUTDOWN_poweroff
"""


def _xen() -> bytes:
    found = kernels("xen-4.*-amd64.gz")
    if not found:
        pytest.skip("Xen is not installed (Debian: apt install xen-hypervisor-4.17-amd64)")
    return found[-1].read_bytes()


@pytest.mark.parametrize(("paging", "vcpus"), [(Paging.NESTED, 2), (Paging.SHADOW, 1)])
def test_xen_boots_and_its_domain_0_says_hello(paging: Paging, vcpus: int, machine_options: Any) -> None:
    xen = GuestConfig(
        _xen(),
        name="xen",
        memory=256,
        vcpus=vcpus,
        kind=GuestKind.HVM,
        paging=paging,
        command_line=COMMAND_LINE,
        module=assemble(DOMAIN_0).elf,
    )
    result, console = run(xen, SECONDS, machine_options)
    assert "Bootloader: pvemu" in console
    assert f"Brought up {vcpus} CPUs" in console
    assert "Domain 0 of Xen is in ring 3." in console
    assert "Hardware Dom0 halted: halting machine" in console
    assert result.outcome is Outcome.POWEROFF
