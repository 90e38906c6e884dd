"""What the log says when a domain crashes: the reason and the registers of its vCPU."""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import flags, layout
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain
    from pvemu.hypervisor.vcpu import Vcpu

_GENERAL: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_ROWS: Final = (("ax", "bx", "cx", "dx"), ("si", "di", "bp", "sp"))
_ROWS_OF_LONG_MODE: Final = (range(8, 12), range(12, 16))
_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
_STACK_WORDS: Final = 16
_WORDS_PER_LINE: Final = 8
_STACK_POINTER: Final = _GENERAL.index("sp")


def report_crash(domain: "Domain", reason: str) -> None:
    """Log why the domain is crashed, with the state of the vCPU that is running, if it is the domain's."""
    hypervisor = domain.hypervisor
    log = hypervisor.log
    vcpu = hypervisor.loaded
    if vcpu is None or vcpu.domain is not domain:
        log.xen(f"{domain}: {reason}")
        log.xen(f"Domain {domain.domid} crashed")
        return
    log.xen(f"{vcpu}: {reason}")
    log.xen(f"Domain {domain.domid} (vcpu#{vcpu.id}) crashed:")
    report_state(vcpu)


def report_state(vcpu: "Vcpu") -> None:
    """Log the registers of the loaded vCPU, and what is on its stack."""
    domain = vcpu.domain
    log, window = domain.hypervisor.log, domain.hypervisor.cpu.window
    u32, u64 = window.u32, window.u64
    size = 8 if u32[layout.HFLAGS // 4] & layout.HF_CS64 else 4

    def word(value: int) -> str:
        return f"{value & (1 << 8 * size) - 1:0{2 * size}x}"

    segments = {
        name: u32[(layout.SEGMENTS + number * layout.SEGMENT_SIZE) // 4] & 0xFFFF
        for number, name in enumerate(_SEGMENTS)
    }
    log.xen(f"RIP:    {segments['cs']:04x}:[<{word(u64[layout.EIP // 8])}>]")
    log.xen(f"EFLAGS: {flags.read_eflags(window):08x}   ring: {u32[layout.HFLAGS // 4] & layout.HF_CPL}")
    prefix = "r" if size == 8 else "e"
    for row in _ROWS:
        log.xen("   ".join(f"{prefix}{name}: {word(u64[_GENERAL.index(name)])}" for name in row))
    for numbers in _ROWS_OF_LONG_MODE if size == 8 else ():
        log.xen("   ".join(f"r{number}: {word(u64[number])}" for number in numbers))
    log.xen("   ".join(f"{name}: {word(value)}" for name, value in _control_registers(vcpu)))
    log.xen("   ".join(f"{name}: {segments[name]:04x}" for name in ("ds", "es", "fs", "gs", "ss", "cs")))
    stack = u64[_STACK_POINTER] & (1 << 8 * size) - 1
    log.xen(f"Guest stack trace from {prefix}sp={word(stack)}:")
    for line in _stack_lines(domain, stack, size):
        log.xen(line)


def _control_registers(vcpu: "Vcpu") -> tuple[tuple[str, int], ...]:
    """Those that the guest sees."""
    if vcpu.domain.is_hvm:
        hvm = vcpu.hvm
        return ("cr0", hvm.cr0), ("cr3", hvm.cr3), ("cr2", hvm.cr2), ("cr4", hvm.cr4)
    return ("cr3", vcpu.cr3 << 12), ("cr2", vcpu.cr2), ("cr4", vcpu.cr4)


def _stack_lines(domain: "Domain", stack: int, size: int) -> list[str]:
    words: list[str] = []
    for number in range(_STACK_WORDS):
        try:
            words.append(f"{domain.memory.read_word(stack + size * number, size):0{2 * size}x}")
        except GuestFault:
            words.append("(unreadable)")
            break
    return [
        "   " + " ".join(words[at : at + _WORDS_PER_LINE]) for at in range(0, len(words), _WORDS_PER_LINE)
    ]
