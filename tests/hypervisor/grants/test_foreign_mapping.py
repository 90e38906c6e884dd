"""A page of a guest that a service has mapped stays what it is, whatever the guest does with it."""

import struct

from three_domains import ThreeDomains

from pvemu.abi.memory import XENMEM_decrease_reservation, xen_memory_reservation
from pvemu.abi.xen import DOMID_SELF, MMUEXT_PIN_L1_TABLE, mmuext_op
from pvemu.hypervisor.audit import Auditor


def test_a_mapped_page_can_be_neither_freed_nor_made_a_page_table() -> None:
    with ThreeDomains() as machine:
        guest, frames = machine.guests[1], machine.hypervisor.frames
        mfn = guest.pool[0]
        auditor = Auditor(machine.hypervisor)
        page = machine.outside.map_foreign(1, mfn)
        pin = guest.put(mmuext_op.pack(4, cmd=MMUEXT_PIN_L1_TABLE, arg1={"mfn": mfn}))
        assert guest.call("mmuext_op", pin, 1, 0, DOMID_SELF) == -22
        listed = guest.put(struct.pack("<I", mfn), 1024)
        request = guest.put(
            xen_memory_reservation.pack(4, extent_start=listed, nr_extents=1, domid=DOMID_SELF)
        )
        assert guest.call("memory_op", XENMEM_decrease_reservation, request) == 1
        assert frames.owner[mfn] == 1
        page[:4] = b"mine"
        auditor.audit()
        machine.destroy(1)
        assert frames.owner[mfn] != 1
        auditor.audit()
