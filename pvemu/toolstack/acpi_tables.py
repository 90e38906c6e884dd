"""ACPI tables for guests: enough to find processors and interrupt controllers, and the way to switch off.

Layouts: Advanced Configuration and Power Interface Specification 5.0, chapter 5; AML, chapter 20. What the
tables say is what Xen's toolstack says of such a machine; its ports are those of public header hvm/ioreq.h.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pvemu.abi.ioreq import (
    ACPI_GPE0_BLK_ADDRESS_V1,
    ACPI_GPE0_BLK_LEN_V1,
    ACPI_PM1A_CNT_BLK_ADDRESS_V1,
    ACPI_PM1A_EVT_BLK_ADDRESS_V1,
    ACPI_PM_TMR_BLK_ADDRESS_V1,
)

LAPIC_ADDRESS: Final = 0xFEE00000
IOAPIC_ADDRESS: Final = 0xFEC00000
RSDP_SIZE: Final = 36

_OEM: Final = struct.pack("<6s8sI4sI", b"Xen", b"HVM", 0, b"HVML", 0)
_HEADER: Final = struct.Struct("<4sIBB")
_HEADER_SIZE: Final = _HEADER.size + len(_OEM)
_CHECKSUM_AT: Final = 9
_ALIGNMENT: Final = 64
_REVISION: Final = 5

# Fixed ACPI description table (5.2.9).
_SCI: Final = 9
_NO_C2, _NO_C3 = 0x0FFF, 0x0FFF
_LEGACY_DEVICES, _NO_VGA, _NO_CMOS_RTC = 1 << 0, 1 << 2, 1 << 5
_WBINVD, _PROC_C1, _NO_POWER_BUTTON, _NO_SLEEP_BUTTON = 1 << 0, 1 << 2, 1 << 4, 1 << 5
_RTC_IS_NOT_FIXED, _TIMER_HAS_32_BITS = 1 << 6, 1 << 8
_SYSTEM_IO: Final = 1

# Multiple APIC description table (5.2.12).
_HAS_PICS: Final = 1
_LOCAL_APIC, _IO_APIC, _OVERRIDE = 0, 1, 2
_ENABLED: Final = 1
_IOAPIC_ID: Final = 1
_TIMER_IRQ, _TIMER_GSI = 0, 2

# AML (20.2).
_NAME, _PACKAGE, _SCOPE, _PROCESSOR, _ROOT = b"\x08", b"\x12", b"\x10", b"\x5b\x83", b"\\"
_ZERO: Final = b"\x00"
_PKG_LENGTH_BITS: Final = 4


@dataclass(frozen=True, slots=True)
class AcpiTables:
    """Tables that are ready to be put at `address`; `rsdp` leads to them, and may stand behind them."""

    address: int
    data: bytes
    rsdp: bytes


def acpi_tables(address: int, *, vcpus: int, is_pc: bool) -> AcpiTables:
    """The tables of a guest.

    Args:
        address: guest-physical, on a page.
        is_pc: it has a PC's devices, and is switched off through the PM1a control register (sleep type 0).
    """
    tables = _Tables(address)
    facs = tables.add(struct.pack("<4sI24xB31x", b"FACS", 64, 1))
    dsdt = tables.add(_table(b"DSDT", _REVISION, _dsdt(vcpus, is_pc=is_pc)))
    fadt = tables.add(_table(b"FACP", _REVISION, _fadt(facs, dsdt, is_pc=is_pc)))
    madt = tables.add(_table(b"APIC", 2, _madt(vcpus, is_pc=is_pc)))
    xsdt = tables.add(_table(b"XSDT", 1, struct.pack("<2Q", fadt, madt)))
    rsdt = tables.add(_table(b"RSDT", 1, struct.pack("<2I", fadt, madt)))
    tables.align()
    return AcpiTables(address, bytes(tables.data), _rsdp(rsdt, xsdt))


def local_apic_id(vcpu: int) -> int:
    """The local APIC's number of a vCPU: Xen gives out the even ones."""
    return 2 * vcpu


class _Tables:
    def __init__(self, address: int) -> None:
        self._address = address
        self.data = bytearray()

    def add(self, table: bytes) -> int:
        """Append a table; its address."""
        self.align()
        at = self._address + len(self.data)
        self.data += table
        return at

    def align(self) -> None:
        """Let the next table begin where any may."""
        self.data += bytes(-len(self.data) % _ALIGNMENT)


def _summed(data: bytes, at: int) -> bytes:
    """The data with a byte that makes its bytes' sum zero."""
    return data[:at] + bytes([-sum(data) & 0xFF]) + data[at + 1 :]


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    header = _HEADER.pack(signature, _HEADER_SIZE + len(body), revision, 0) + _OEM
    return _summed(header + body, _CHECKSUM_AT)


def _rsdp(rsdt: int, xsdt: int) -> bytes:
    """The root pointer (5.2.5.3): two sums, the first over what version 1 had."""
    first = struct.pack("<8sB6sBI", b"RSD PTR ", 0, b"Xen", 2, rsdt)
    whole = _summed(first, 8) + struct.pack("<IQB3x", RSDP_SIZE, xsdt, 0)
    return _summed(whole, 32)


def _io_block(address: int, size: int) -> bytes:
    """A generic address structure (5.2.3.1) of a block of ports; nothing if there is none."""
    return struct.pack("<4BQ", _SYSTEM_IO, size * 8, 0, 0, address) if size else bytes(12)


def _fadt(facs: int, dsdt: int, *, is_pc: bool) -> bytes:
    timer = (ACPI_PM_TMR_BLK_ADDRESS_V1, 4) if is_pc else (0, 0)
    event, control = (ACPI_PM1A_EVT_BLK_ADDRESS_V1, 4), (ACPI_PM1A_CNT_BLK_ADDRESS_V1, 2)
    general = (ACPI_GPE0_BLK_ADDRESS_V1, ACPI_GPE0_BLK_LEN_V1)
    blocks = (event, (0, 0), control, (0, 0), (0, 0), timer, general, (0, 0))
    flags = _WBINVD | _PROC_C1 | _NO_POWER_BUTTON | _NO_SLEEP_BUTTON | _RTC_IS_NOT_FIXED
    flags |= _TIMER_HAS_32_BITS if is_pc else 0
    devices = _NO_VGA | (_LEGACY_DEVICES if is_pc else _NO_CMOS_RTC)
    lengths = (event[1], control[1], 0, timer[1], general[1], 0)
    # There is no SMI command port: ACPI is on from the start.
    body = struct.pack("<IIBBHI4B", facs, dsdt, 0, 0, _SCI, 0, 0, 0, 0, 0)
    body += struct.pack("<8I", *(block[0] for block in blocks))
    body += struct.pack("<6BBB", *lengths, 0, 0)
    body += struct.pack("<4H5BHBI", _NO_C2, _NO_C3, 0, 0, 0, 0, 0, 0, 0, devices, 0, flags)
    body += bytes(12) + bytes(4)  # no reset register
    body += struct.pack("<2Q", facs, dsdt)
    body += b"".join(_io_block(*block) for block in blocks)
    return body + bytes(24)  # no sleep registers


def _madt(vcpus: int, *, is_pc: bool) -> bytes:
    body = struct.pack("<II", LAPIC_ADDRESS, _HAS_PICS if is_pc else 0)
    if is_pc:
        body += struct.pack("<4BIH", _OVERRIDE, 10, 0, _TIMER_IRQ, _TIMER_GSI, 0)
        body += struct.pack("<4BII", _IO_APIC, 12, _IOAPIC_ID, 0, IOAPIC_ADDRESS, 0)
    for vcpu in range(vcpus):
        body += struct.pack("<4BI", _LOCAL_APIC, 8, vcpu, local_apic_id(vcpu), _ENABLED)
    return body


def _dsdt(vcpus: int, *, is_pc: bool) -> bytes:
    processors = (
        _block(_PROCESSOR, b"PR%02X" % number + bytes([number]) + bytes(5)) for number in range(vcpus)
    )
    aml = _block(_SCOPE, _ROOT + b"_SB_" + b"".join(processors))
    if is_pc:
        aml += _NAME + _ROOT + b"_S5_" + _package([_ZERO] * 4)
    return aml


def _package(elements: Sequence[bytes]) -> bytes:
    return _block(_PACKAGE, bytes([len(elements)]) + b"".join(elements))


def _block(opcode: bytes, content: bytes) -> bytes:
    """An opcode, the length of the rest (20.2.4), and the rest; the length counts itself."""
    if len(content) + 1 < 1 << 6:
        return opcode + bytes([len(content) + 1]) + content
    length = len(content) + 2
    return opcode + bytes([1 << 6 | length & 0xF, length >> _PKG_LENGTH_BITS]) + content
