"""ACPI tables: found from the root pointer as a kernel finds them, and true of the machine."""

import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvemu.abi.ioreq import (
    ACPI_PM1A_CNT_BLK_ADDRESS_V1,
    ACPI_PM1A_EVT_BLK_ADDRESS_V1,
    ACPI_PM_TMR_BLK_ADDRESS_V1,
)
from pvemu.toolstack.acpi_tables import acpi_tables

BASE = 0xFC000000
FADT_LENGTH_5 = 268  # ACPI 5.0, table 5-34
Tables = Mapping[bytes, bytes]


def found(vcpus: int, *, is_pc: bool) -> Tables:
    """The tables by signature, as the root pointer leads to them; every sum is looked at."""
    tables = acpi_tables(BASE, vcpus=vcpus, is_pc=is_pc)

    def table_at(address: int) -> bytes:
        at = address - BASE
        (length,) = struct.unpack_from("<I", tables.data, at + 4)
        table = tables.data[at : at + length]
        assert len(table) == length
        return table

    rsdp = tables.rsdp
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp[:20]) % 256 == sum(rsdp) % 256 == 0
    revision, rsdt_at = struct.unpack_from("<BI", rsdp, 15)
    length, xsdt_at = struct.unpack_from("<IQ", rsdp, 20)
    assert (revision, length) == (2, len(rsdp))
    rsdt, xsdt = table_at(rsdt_at), table_at(xsdt_at)
    listed = [address for (address,) in struct.iter_unpack("<Q", xsdt[36:])]
    assert listed == [address for (address,) in struct.iter_unpack("<I", rsdt[36:])]
    by_signature = {table[:4]: table for table in (rsdt, xsdt, *map(table_at, listed))}
    fadt = by_signature[b"FACP"]
    facs, dsdt = struct.unpack_from("<2I", fadt, 36)
    assert struct.unpack_from("<2Q", fadt, 132) == (facs, dsdt)
    by_signature[b"DSDT"] = table_at(dsdt)
    for table in by_signature.values():
        assert sum(table) % 256 == 0
    assert facs % 64 == 0
    by_signature[b"FACS"] = table_at(facs)
    return by_signature


@pytest.mark.parametrize("is_pc", [True, False])
@given(vcpus=st.integers(1, 32))
def test_every_processor_is_listed_once_with_xens_apic_number(is_pc: bool, vcpus: int) -> None:
    madt = found(vcpus, is_pc=is_pc)[b"APIC"]
    at, processors, io_apics = 44, [], 0
    while at < len(madt):
        kind, length = madt[at], madt[at + 1]
        if kind == 0:
            processors.append(struct.unpack_from("<BBI", madt, at + 2))
        io_apics += kind == 1
        at += length
    assert at == len(madt)
    assert processors == [(vcpu, 2 * vcpu, 1) for vcpu in range(vcpus)]
    assert io_apics == is_pc


@pytest.mark.parametrize("vcpus", [1, 5, 6, 32])
@pytest.mark.parametrize("is_pc", [True, False])
def test_the_dsdt_is_whole_blocks_with_an_object_for_every_processor(is_pc: bool, vcpus: int) -> None:
    """The number of processors decides whether a block's length takes one byte or two."""
    aml = found(vcpus, is_pc=is_pc)[b"DSDT"][36:]
    assert aml[0] == 0x10
    size = aml[1]
    if size >> 6:
        size = size & 0xF | aml[2] << 4
    scope, rest = aml[1 : 1 + size], aml[1 + size :]
    assert b"\\_SB_" in scope
    assert [b"PR%02X" % vcpu in scope for vcpu in range(vcpus)] == [True] * vcpus
    # Name (\_S5, Package (4) {0, 0, 0, 0}), as iasl compiles it.
    assert rest == (b"\x08\\_S5_\x12\x06\x04\0\0\0\0" if is_pc else b"")


def test_a_pc_is_told_of_its_ports() -> None:
    fadt = found(1, is_pc=True)[b"FACP"]
    assert len(fadt) == FADT_LENGTH_5
    event, _, control, _, _, timer = struct.unpack_from("<6I", fadt, 56)
    assert (event, control, timer) == (
        ACPI_PM1A_EVT_BLK_ADDRESS_V1,
        ACPI_PM1A_CNT_BLK_ADDRESS_V1,
        ACPI_PM_TMR_BLK_ADDRESS_V1,
    )
    assert struct.unpack_from("<BBBBQ", fadt, 172) == (1, 16, 0, 0, ACPI_PM1A_CNT_BLK_ADDRESS_V1)


def test_a_guest_without_a_pc_s_devices_is_told_so() -> None:
    fadt = found(1, is_pc=False)[b"FACP"]
    no_cmos_clock, legacy_devices = 1 << 5, 1 << 0
    (devices,) = struct.unpack_from("<H", fadt, 109)
    assert devices & no_cmos_clock and not devices & legacy_devices
    assert struct.unpack_from("<I", fadt, 76) == (0,)
