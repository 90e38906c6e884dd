"""What an HVM guest finds at EBX when it is started by the PVH protocol (arch-x86/hvm/start_info.h)."""

from pvemu.abi.structure import Field, Structure

XEN_HVM_START_MAGIC_VALUE = 0x336EC578

XEN_HVM_MEMMAP_TYPE_RAM = 1
XEN_HVM_MEMMAP_TYPE_RESERVED = 2
XEN_HVM_MEMMAP_TYPE_ACPI = 3
XEN_HVM_MEMMAP_TYPE_NVS = 4
XEN_HVM_MEMMAP_TYPE_UNUSABLE = 5
XEN_HVM_MEMMAP_TYPE_DISABLED = 6
XEN_HVM_MEMMAP_TYPE_PMEM = 7

hvm_start_info = Structure(
    "hvm_start_info",
    Field("magic", "u32"),  # XEN_HVM_START_MAGIC_VALUE
    Field("version", "u32"),  # 1
    Field("flags", "u32"),  # SIF_*
    Field("nr_modules", "u32"),
    Field("modlist_paddr", "u64"),  # an array of hvm_modlist_entry
    Field("cmdline_paddr", "u64"),  # ends with a zero byte
    Field("rsdp_paddr", "u64"),  # ACPI's root pointer
    Field("memmap_paddr", "u64"),  # an array of hvm_memmap_table_entry, from version 1 on
    Field("memmap_entries", "u32"),
    Field("reserved", "u32"),
)
hvm_modlist_entry = Structure(
    "hvm_modlist_entry",
    Field("paddr", "u64"),
    Field("size", "u64"),  # bytes
    Field("cmdline_paddr", "u64"),
    Field("reserved", "u64"),
)
hvm_memmap_table_entry = Structure(
    "hvm_memmap_table_entry",
    Field("addr", "u64"),
    Field("size", "u64"),  # bytes
    Field("type", "u32"),  # XEN_HVM_MEMMAP_TYPE_*
    Field("reserved", "u32"),
)
