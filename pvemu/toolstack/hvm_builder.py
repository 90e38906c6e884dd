"""Building a domain with guest-physical memory: frames, contents, parameters, and the first registers."""

from itertools import chain
from typing import Final

from pvemu.abi.hvm_op import HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN
from pvemu.hypervisor.domctl import Domctl
from pvemu.hypervisor.hvm.hvm_vcpu import HvmEntry
from pvemu.toolstack.built_domain import BuiltDomain, DomainPlan, NewMemory, make_rings
from pvemu.toolstack.guest_kind import GuestKind, KernelFile
from pvemu.toolstack.hvm_kernel import load_hvm_kernel
from pvemu.toolstack.hvm_layout import plan_hvm_domain

#: Frames that it may have beyond its memory, as xl gives it (1 MiB): special pages, ACPI's tables, and more.
_SLACK_PAGES: Final = 256


def build_hvm_domain(domctl: Domctl, file: KernelFile, plan: DomainPlan) -> BuiltDomain:
    """Make a domain that boots a kernel by the PVH or the Multiboot protocol.

    Raises:
        KernelRefused: the kernel makes no sense or does not fit.
        PvemuError: the machine has not enough memory.
    """
    layout = plan_hvm_domain(
        load_hvm_kernel(file),
        memory_pages=plan.pages,
        vcpus=plan.vcpus,
        is_pc=plan.kind is GuestKind.HVM,
        command_line=plan.command_line,
        module=plan.module,
    )
    domain = domctl.hvm.create_domain(
        plan.domid,
        pages=plan.pages + _SLACK_PAGES,
        vcpus=plan.vcpus,
        paging=plan.paging.value,
        memory_map=layout.memory_map,
        is_pc=plan.kind is GuestKind.HVM,
    )
    frames = list(chain.from_iterable(layout.frames))
    machine_frames = domctl.hvm.populate(domain, frames)
    memory = NewMemory(domctl, domain, dict(zip(frames, machine_frames, strict=True)))
    for address, data in layout.contents():
        memory.write(address, data)
    rings = make_rings(
        domctl,
        domain,
        store=(memory.frames[layout.store_frame], layout.store_frame),
        console=(memory.frames[layout.console_frame], layout.console_frame),
    )
    parameters = {
        **layout.parameters,
        HVM_PARAM_STORE_EVTCHN: rings.store.port,
        HVM_PARAM_CONSOLE_EVTCHN: rings.console.port,
    }
    for number, value in parameters.items():
        domctl.hvm.set_parameter(domain, number, value)
    kernel = layout.kernel
    domctl.hvm.start(
        domain.vcpus[0], HvmEntry(eip=kernel.entry, eax=kernel.protocol.eax, ebx=layout.information)
    )
    return BuiltDomain(domain, plan.kind, layout, rings)
