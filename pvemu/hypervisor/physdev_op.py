"""The physdev_op hypercall: I/O privilege, and the interrupts and PCI devices of a machine that has none.

A domain can name interrupts, and domain 0 can map them; but no device is there to raise one. Domain 0's own
answers are those of real Xen on a PC whose PCI bus is empty. Answers: golden pv32-*, family physdev_op;
recorded: physdev.
"""

from collections.abc import Callable
from typing import Any, Final

from pvemu.abi.errno import Errno
from pvemu.abi.errors import HypercallError
from pvemu.abi.physdev import (
    MAP_PIRQ_TYPE_GSI,
    MAP_PIRQ_TYPE_MSI,
    MAP_PIRQ_TYPE_MSI_SEG,
    MAP_PIRQ_TYPE_MULTI_MSI,
    PHYSDEVOP_IRQ_UNMASK_NOTIFY,
    XEN_PCI_MMCFG_RESERVED,
    PHYSDEVOP_alloc_irq_vector,
    PHYSDEVOP_apic_read,
    PHYSDEVOP_apic_write,
    PHYSDEVOP_dbgp_op,
    PHYSDEVOP_eoi,
    PHYSDEVOP_get_free_pirq,
    PHYSDEVOP_irq_status_query,
    PHYSDEVOP_manage_pci_add,
    PHYSDEVOP_manage_pci_add_ext,
    PHYSDEVOP_manage_pci_remove,
    PHYSDEVOP_map_pirq,
    PHYSDEVOP_pci_device_add,
    PHYSDEVOP_pci_device_remove,
    PHYSDEVOP_pci_mmcfg_reserved,
    PHYSDEVOP_pirq_eoi_gmfn_v1,
    PHYSDEVOP_pirq_eoi_gmfn_v2,
    PHYSDEVOP_prepare_msix,
    PHYSDEVOP_release_msix,
    PHYSDEVOP_restore_msi,
    PHYSDEVOP_restore_msi_ext,
    PHYSDEVOP_set_iobitmap,
    PHYSDEVOP_set_iopl,
    PHYSDEVOP_setup_gsi,
    PHYSDEVOP_unmap_pirq,
    XENIRQSTAT_needs_eoi,
    physdev_apic,
    physdev_dbgp_op,
    physdev_eoi,
    physdev_get_free_pirq,
    physdev_irq,
    physdev_irq_status_query,
    physdev_manage_pci,
    physdev_manage_pci_ext,
    physdev_map_pirq,
    physdev_pci_device,
    physdev_pci_device_add,
    physdev_pci_mmcfg_reserved,
    physdev_pirq_eoi_gmfn,
    physdev_restore_msi,
    physdev_set_iobitmap,
    physdev_set_iopl,
    physdev_setup_gsi,
    physdev_unmap_pirq,
)
from pvemu.abi.physdev import (
    physdev_op as physdev_op_structure,
)
from pvemu.abi.structure import Structure
from pvemu.hypervisor.domain import Domain
from pvemu.hypervisor.event_ports import pirq_port
from pvemu.hypervisor.guest_page import get_guest_page, put_guest_page
from pvemu.hypervisor.guest_structure import copy_back, read_structure
from pvemu.hypervisor.hypercall import hypercall
from pvemu.hypervisor.vcpu import Vcpu

_HIGHEST_IOPL: Final = 3
_BITMAP_BYTES: Final = 8192
_MOST_PORTS: Final = 65536
#: Interrupts of the PC that domain 0's answers are from; those below 16 are never given out anew.
_GSIS: Final = 24
_FIRST_FREE_GSI: Final = 16
#: Interrupts of that PC, those of messages included; and how many of one device there can be.
_IRQS: Final = 208
_MOST_MESSAGES: Final = 32
#: In `Domain.pirqs`: the number is taken, but names no interrupt.
_TAKEN: Final = -1


def _check_privilege(vcpu: Vcpu) -> None:
    """Hardware belongs to domain 0; raises HypercallError(EPERM)."""
    if not vcpu.domain.privileged:
        raise HypercallError(Errno.EPERM)


def _domain(vcpu: Vcpu, domid: int) -> Domain:
    """The domain whose interrupts are meant; raises HypercallError: ESRCH; EPERM without privilege."""
    found = vcpu.domain.named(domid)
    _check_privilege(vcpu)
    return found


# --- I/O privilege --------------------------------------------------------------------------------


def _set_iopl(vcpu: Vcpu, op: Any) -> None:
    if op.iopl > _HIGHEST_IOPL:
        raise HypercallError(Errno.EINVAL)
    vcpu.iopl = op.iopl


def _set_iobitmap(vcpu: Vcpu, op: Any) -> None:
    """Let ring 3 use the ports whose bit is 0; the whole bitmap must lie in the guest's address space."""
    if not vcpu.domain.memory.range_okay(op.bitmap, _BITMAP_BYTES) or op.nr_ports > _MOST_PORTS:
        raise HypercallError(Errno.EINVAL)
    vcpu.io_bitmap, vcpu.io_ports = op.bitmap, op.nr_ports


# --- interrupts -----------------------------------------------------------------------------------


def _eoi(vcpu: Vcpu, op: Any) -> None:
    domain = vcpu.domain
    if op.irq >= domain.nr_pirqs or op.irq not in domain.pirqs:
        raise HypercallError(Errno.EINVAL)
    port = pirq_port(domain, op.irq) if domain.unmasks_at_eoi else None
    if port is not None:
        domain.events.unmask(port)


def _pirq_eoi_gmfn(vcpu: Vcpu, op: Any, *, unmasks: bool) -> None:
    """Take a page in which the guest wants a bit for each interrupt that needs an EOI."""
    domain = vcpu.domain
    frame = get_guest_page(domain, op.gmfn)
    if domain.pirq_eoi_frame is not None:
        put_guest_page(domain, frame)
        raise HypercallError(Errno.EBUSY)
    domain.pirq_eoi_frame = frame
    domain.unmasks_at_eoi |= unmasks


def _irq_status_query(vcpu: Vcpu, op: Any) -> None:
    if op.irq >= vcpu.domain.nr_pirqs:
        raise HypercallError(Errno.EINVAL)
    op.flags = XENIRQSTAT_needs_eoi


def _alloc_irq_vector(vcpu: Vcpu, op: Any) -> None:
    """Vectors are the hypervisor's: domain 0 gets the interrupt's number for one."""
    _check_privilege(vcpu)
    op.vector = op.irq


def _apic(vcpu: Vcpu, _op: Any) -> None:
    """There is no I/O APIC, wherever it is looked for."""
    _check_privilege(vcpu)
    raise HypercallError(Errno.EINVAL)


def _setup_gsi(vcpu: Vcpu, op: Any) -> None:
    if not 0 <= op.gsi < _GSIS:
        raise HypercallError(Errno.EINVAL)
    _check_privilege(vcpu)
    if op.gsi == 0:  # the timer's, which is the hypervisor's
        raise HypercallError(Errno.EEXIST)


def _free_pirq(domain: Domain, kind: int) -> int:
    """A number that names no interrupt of a domain; raises HypercallError(ENOSPC)."""
    candidates = list(range(domain.nr_pirqs - 1, _GSIS - 1, -1))
    if kind == MAP_PIRQ_TYPE_GSI:
        candidates = [*range(_FIRST_FREE_GSI, _GSIS), *candidates]
    for pirq in candidates:
        if pirq not in domain.pirqs:
            return pirq
    raise HypercallError(Errno.ENOSPC)


def _get_free_pirq(vcpu: Vcpu, op: Any) -> None:
    op.pirq = _free_pirq(vcpu.domain, op.type)
    vcpu.domain.pirqs[op.pirq] = _TAKEN


def _map_pirq(vcpu: Vcpu, op: Any) -> None:
    """Map an interrupt of the machine, as far as it has any: those of no device."""
    if op.type == MAP_PIRQ_TYPE_MULTI_MSI and op.table_base:
        raise HypercallError(Errno.EINVAL)
    domain = _domain(vcpu, op.domid)
    if op.type in (MAP_PIRQ_TYPE_MSI, MAP_PIRQ_TYPE_MSI_SEG, MAP_PIRQ_TYPE_MULTI_MSI):
        _map_message_interrupts(domain, op)
        return
    if op.type != MAP_PIRQ_TYPE_GSI or not 0 <= op.index < _GSIS:
        raise HypercallError(Errno.EINVAL)
    current = next((pirq for pirq, irq in domain.pirqs.items() if irq == op.index), None)
    if op.pirq < 0:
        op.pirq = _free_pirq(domain, op.type) if current is None else current
    elif current is not None and op.pirq != current:
        raise HypercallError(Errno.EEXIST)
    if op.pirq >= domain.nr_pirqs:
        raise HypercallError(Errno.EINVAL)
    domain.pirqs[op.pirq] = op.index


def _map_message_interrupts(domain: Domain, op: Any) -> None:
    """Look at all that is asked for, and find that there is no such device (recorded: pirqs)."""
    if op.type == MAP_PIRQ_TYPE_MULTI_MSI:
        if op.pirq < 0 and not 0 < op.entry_nr <= _MOST_MESSAGES:
            raise HypercallError(Errno.EDOM)
        if op.pirq < 0 and op.entry_nr > 1:  # that takes an IOMMU
            raise HypercallError(Errno.EOPNOTSUPP)
    elif op.index != -1:  # one that the machine knows, and that has not been given to anybody
        raise HypercallError(Errno.EPERM if _GSIS <= op.index < _IRQS else Errno.EINVAL)
    if op.pirq >= domain.nr_pirqs:
        raise HypercallError(Errno.EINVAL)
    if domain.pirqs.get(op.pirq, _TAKEN) == _TAKEN:  # else it is left as it is
        raise HypercallError(Errno.ENODEV)


def _unmap_pirq(vcpu: Vcpu, op: Any) -> None:
    domain = _domain(vcpu, op.domid)
    if domain.pirqs.get(op.pirq, _TAKEN) == _TAKEN:
        raise HypercallError(Errno.EINVAL)
    del domain.pirqs[op.pirq]


# --- PCI ------------------------------------------------------------------------------------------


def _device(op: Any) -> tuple[int, int, int]:
    """Segment, bus and function."""
    return getattr(op, "seg", 0), op.bus, op.devfn


def _add_device(vcpu: Vcpu, op: Any) -> None:
    """Domain 0 tells what it has found on the bus."""
    _check_privilege(vcpu)
    vcpu.domain.hypervisor.pci_devices.add(_device(op))


def _add_device_ext(vcpu: Vcpu, op: Any) -> None:
    if op.is_extfn > 1 or op.is_virtfn > 1:
        raise HypercallError(Errno.EINVAL)
    _add_device(vcpu, op)


def _remove_device(vcpu: Vcpu, op: Any) -> None:
    _check_privilege(vcpu)
    _restore_msi(vcpu, op)
    vcpu.domain.hypervisor.pci_devices.discard(_device(op))


def _restore_msi(vcpu: Vcpu, op: Any) -> None:
    if _device(op) not in vcpu.domain.hypervisor.pci_devices:
        raise HypercallError(Errno.ENODEV)


def _msix(vcpu: Vcpu, op: Any) -> None:
    _check_privilege(vcpu)
    _restore_msi(vcpu, op)


def _no_mmcfg(_vcpu: Vcpu, op: Any) -> None:
    """There is no PCI bus whose configuration memory holds, but the flags are looked at first."""
    raise HypercallError(Errno.EINVAL if op.flags & ~XEN_PCI_MMCFG_RESERVED else Errno.ENODEV)


def _nothing(_vcpu: Vcpu, _op: Any) -> None:
    """There is no debug port to be reset."""


# --- the hypercalls -------------------------------------------------------------------------------

_CarryOut = Callable[[Vcpu, Any], None]

#: Command -> its structure, what carries it out, whether the structure is written back.
_COMMANDS: Final[dict[int, tuple[Structure, _CarryOut, bool]]] = {
    PHYSDEVOP_irq_status_query: (physdev_irq_status_query, _irq_status_query, True),
    PHYSDEVOP_set_iopl: (physdev_set_iopl, _set_iopl, False),
    PHYSDEVOP_set_iobitmap: (physdev_set_iobitmap, _set_iobitmap, False),
    PHYSDEVOP_apic_read: (physdev_apic, _apic, False),
    PHYSDEVOP_apic_write: (physdev_apic, _apic, False),
    PHYSDEVOP_alloc_irq_vector: (physdev_irq, _alloc_irq_vector, True),
    PHYSDEVOP_eoi: (physdev_eoi, _eoi, False),
    PHYSDEVOP_map_pirq: (physdev_map_pirq, _map_pirq, True),
    PHYSDEVOP_unmap_pirq: (physdev_unmap_pirq, _unmap_pirq, False),
    PHYSDEVOP_manage_pci_add: (physdev_manage_pci, _add_device, False),
    PHYSDEVOP_manage_pci_remove: (physdev_manage_pci, _remove_device, False),
    PHYSDEVOP_pirq_eoi_gmfn_v1: (
        physdev_pirq_eoi_gmfn,
        lambda vcpu, op: _pirq_eoi_gmfn(vcpu, op, unmasks=True),
        False,
    ),
    PHYSDEVOP_restore_msi: (physdev_restore_msi, _restore_msi, False),
    PHYSDEVOP_manage_pci_add_ext: (physdev_manage_pci_ext, _add_device_ext, False),
    PHYSDEVOP_setup_gsi: (physdev_setup_gsi, _setup_gsi, False),
    PHYSDEVOP_get_free_pirq: (physdev_get_free_pirq, _get_free_pirq, True),
    PHYSDEVOP_pci_mmcfg_reserved: (physdev_pci_mmcfg_reserved, _no_mmcfg, False),
    PHYSDEVOP_pci_device_add: (physdev_pci_device_add, _add_device, False),
    PHYSDEVOP_pci_device_remove: (physdev_pci_device, _remove_device, False),
    PHYSDEVOP_restore_msi_ext: (physdev_pci_device, _restore_msi, False),
    PHYSDEVOP_pirq_eoi_gmfn_v2: (
        physdev_pirq_eoi_gmfn,
        lambda vcpu, op: _pirq_eoi_gmfn(vcpu, op, unmasks=False),
        False,
    ),
    PHYSDEVOP_dbgp_op: (physdev_dbgp_op, _nothing, False),
    PHYSDEVOP_prepare_msix: (physdev_pci_device, _msix, False),
    PHYSDEVOP_release_msix: (physdev_pci_device, _msix, False),
}
#: Commands for domain 0 that say so before they look at their argument.
_PRIVILEGED: Final = frozenset({PHYSDEVOP_pci_mmcfg_reserved, PHYSDEVOP_dbgp_op})


@hypercall("physdev_op")
def physdev_op(vcpu: Vcpu, command: int, argument: int) -> int:
    """Carry out one PHYSDEVOP_* command. PHYSDEVOP_map_pirq writes its structure back even when it fails.

    An HVM guest has none of them: its interrupts don't come as event channels.
    """
    if command == PHYSDEVOP_IRQ_UNMASK_NOTIFY and not vcpu.domain.is_hvm:
        return 0
    if command not in _COMMANDS or vcpu.domain.is_hvm:
        raise HypercallError(Errno.ENOSYS)
    if command in _PRIVILEGED:
        _check_privilege(vcpu)
    structure, carry_out, writes_back = _COMMANDS[command]
    op = read_structure(vcpu.domain, structure, argument)
    failure: HypercallError | None = None
    try:
        carry_out(vcpu, op)
    except HypercallError as error:
        failure = error
    if writes_back and (failure is None or command == PHYSDEVOP_map_pirq):
        copy_back(vcpu.domain, structure, argument, op)
    if failure is not None:
        raise failure
    return 0


@hypercall("physdev_op_compat")
def physdev_op_compat(vcpu: Vcpu, argument: int) -> int:
    """The older form: the command stands before its structure, and all of the union must be readable."""
    domain = vcpu.domain
    raw = domain.memory.copy_from_guest(argument, physdev_op_structure.size(domain.word))
    command = int.from_bytes(raw[:4], "little")
    return physdev_op(vcpu, command, argument + physdev_op_structure.offset("u", domain.word))
