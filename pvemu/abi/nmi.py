"""NMIs that Xen passes to the guest that owns the hardware (nmi.h)."""

from pvemu.abi.structure import Field, Structure

XENNMI_register_callback = 0  # xennmi_callback
XENNMI_unregister_callback = 1

# arch_shared_info.nmi_reason
XEN_NMIREASON_io_error = 1 << 0
XEN_NMIREASON_pci_serr = 1 << 1
XEN_NMIREASON_unknown = 1 << 2

xennmi_callback = Structure("xennmi_callback", Field("handler_address", "ulong"), Field("pad", "ulong"))
