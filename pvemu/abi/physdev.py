"""The operations on physical devices (physdev.h): I/O privilege, interrupts and PCI."""

from pvemu.abi.structure import Field, Structure, Union

PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4
PHYSDEVOP_irq_status_query = 5  # physdev_irq_status_query
PHYSDEVOP_set_iopl = 6  # physdev_set_iopl
PHYSDEVOP_set_iobitmap = 7  # physdev_set_iobitmap
PHYSDEVOP_apic_read = 8  # physdev_apic
PHYSDEVOP_apic_write = 9  # physdev_apic
PHYSDEVOP_alloc_irq_vector = 10  # physdev_irq
PHYSDEVOP_free_irq_vector = 11  # physdev_irq
PHYSDEVOP_eoi = 12  # physdev_eoi
PHYSDEVOP_map_pirq = 13  # physdev_map_pirq
PHYSDEVOP_unmap_pirq = 14  # physdev_unmap_pirq
PHYSDEVOP_manage_pci_add = 15  # physdev_manage_pci
PHYSDEVOP_manage_pci_remove = 16  # physdev_manage_pci
PHYSDEVOP_pirq_eoi_gmfn_v1 = 17  # physdev_pirq_eoi_gmfn
PHYSDEVOP_restore_msi = 19  # physdev_restore_msi
PHYSDEVOP_manage_pci_add_ext = 20  # physdev_manage_pci_ext
PHYSDEVOP_setup_gsi = 21  # physdev_setup_gsi
PHYSDEVOP_get_free_pirq = 23  # physdev_get_free_pirq
PHYSDEVOP_pci_mmcfg_reserved = 24  # physdev_pci_mmcfg_reserved
PHYSDEVOP_pci_device_add = 25  # physdev_pci_device_add
PHYSDEVOP_pci_device_remove = 26  # physdev_pci_device
PHYSDEVOP_restore_msi_ext = 27  # physdev_pci_device
PHYSDEVOP_pirq_eoi_gmfn_v2 = 28  # physdev_pirq_eoi_gmfn
PHYSDEVOP_pirq_eoi_gmfn = PHYSDEVOP_pirq_eoi_gmfn_v2
PHYSDEVOP_dbgp_op = 29  # physdev_dbgp_op
PHYSDEVOP_prepare_msix = 30  # physdev_pci_device
PHYSDEVOP_release_msix = 31  # physdev_pci_device

PHYSDEVOP_DBGP_RESET_PREPARE = 1
PHYSDEVOP_DBGP_RESET_DONE = 2
PHYSDEVOP_DBGP_BUS_UNKNOWN = 0
PHYSDEVOP_DBGP_BUS_PCI = 1

XENIRQSTAT_needs_eoi = 1 << 0
XENIRQSTAT_shared = 1 << 1

MAP_PIRQ_TYPE_MSI = 0
MAP_PIRQ_TYPE_GSI = 1
MAP_PIRQ_TYPE_UNKNOWN = 2
MAP_PIRQ_TYPE_MSI_SEG = 3
MAP_PIRQ_TYPE_MULTI_MSI = 4

XEN_PCI_MMCFG_RESERVED = 1
XEN_PCI_DEV_EXTFN = 1
XEN_PCI_DEV_VIRTFN = 2
XEN_PCI_DEV_PXM = 4

_BUS_DEVFN = (Field("bus", "u8"), Field("devfn", "u8"))

physdev_eoi = Structure("physdev_eoi", Field("irq", "u32"))
physdev_pirq_eoi_gmfn = Structure("physdev_pirq_eoi_gmfn", Field("gmfn", "ulong"))
physdev_irq_status_query = Structure(
    "physdev_irq_status_query",
    Field("irq", "u32"),
    Field("flags", "u32"),  # out: XENIRQSTAT_*
)
physdev_set_iopl = Structure("physdev_set_iopl", Field("iopl", "u32"))
physdev_set_iobitmap = Structure(
    "physdev_set_iobitmap",
    Field("bitmap", "ulong"),  # handle of u8
    Field("nr_ports", "u32"),
)
physdev_apic = Structure(
    "physdev_apic",
    Field("apic_physbase", "ulong"),
    Field("reg", "u32"),
    Field("value", "u32"),
)
physdev_irq = Structure("physdev_irq", Field("irq", "u32"), Field("vector", "u32"))
physdev_map_pirq = Structure(
    "physdev_map_pirq",
    Field("domid", "u16"),
    Field("type", "s32"),  # MAP_PIRQ_TYPE_*
    Field("index", "s32"),
    Field("pirq", "s32"),
    Field("bus", "s32"),
    Field("devfn", "s32"),
    Field("entry_nr", "s32"),
    Field("table_base", "u64"),
)
physdev_unmap_pirq = Structure("physdev_unmap_pirq", Field("domid", "u16"), Field("pirq", "s32"))
physdev_manage_pci = Structure("physdev_manage_pci", *_BUS_DEVFN)
physdev_restore_msi = Structure("physdev_restore_msi", *_BUS_DEVFN)
physdev_manage_pci_ext = Structure(
    "physdev_manage_pci_ext",
    *_BUS_DEVFN,
    Field("is_extfn", "u32"),
    Field("is_virtfn", "u32"),
    Field("physfn", Structure("physfn", *_BUS_DEVFN)),
)
physdev_op = Structure(  # what physdev_op_compat takes
    "physdev_op",
    Field("cmd", "u32"),
    Field(
        "u",
        Union(
            "u",
            Field("irq_status_query", physdev_irq_status_query),
            Field("set_iopl", physdev_set_iopl),
            Field("set_iobitmap", physdev_set_iobitmap),
            Field("apic_op", physdev_apic),
            Field("irq_op", physdev_irq),
        ),
    ),
)
physdev_setup_gsi = Structure(
    "physdev_setup_gsi",
    Field("gsi", "s32"),
    Field("triggering", "u8"),
    Field("polarity", "u8"),
)
physdev_get_free_pirq = Structure("physdev_get_free_pirq", Field("type", "s32"), Field("pirq", "u32"))
physdev_pci_mmcfg_reserved = Structure(
    "physdev_pci_mmcfg_reserved",
    Field("address", "u64"),
    Field("segment", "u16"),
    Field("start_bus", "u8"),
    Field("end_bus", "u8"),
    Field("flags", "u32"),  # XEN_PCI_MMCFG_*
)
physdev_pci_device_add = Structure(
    "physdev_pci_device_add",
    Field("seg", "u16"),
    *_BUS_DEVFN,
    Field("flags", "u32"),  # XEN_PCI_DEV_*
    Field("physfn", Structure("physfn", *_BUS_DEVFN)),
    Field("optarr", "u32", 0),
)
physdev_pci_device = Structure("physdev_pci_device", Field("seg", "u16"), *_BUS_DEVFN)
physdev_dbgp_op = Structure(
    "physdev_dbgp_op",
    Field("op", "u8"),
    Field("bus", "u8"),
    Field("u", Union("u", Field("pci", physdev_pci_device))),
)
