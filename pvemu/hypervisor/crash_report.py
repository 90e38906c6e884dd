"""What the log says when a domain crashes: the reason and the registers of its vCPU."""

from typing import TYPE_CHECKING, Final

from pvemu.cpu import flags, layout
from pvemu.memory.guest import GuestFault

if TYPE_CHECKING:
    from pvemu.hypervisor.domain import Domain

_GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
_SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs")
_STACK_WORDS: Final = 16
_WORDS_PER_LINE: Final = 8


def report_crash(domain: "Domain", reason: str) -> None:
    """Log why the domain is crashed, with the state of the vCPU that is running, if it is the domain's."""
    hypervisor = domain.hypervisor
    log = hypervisor.log
    vcpu = hypervisor.loaded
    if vcpu is None or vcpu.domain is not domain:
        log.xen(f"{domain}: {reason}")
        log.xen(f"Domain {domain.domid} crashed")
        return
    window = hypervisor.cpu.window
    u32, u64 = window.u32, window.u64
    general = {name: u64[number] & 0xFFFFFFFF for number, name in enumerate(_GENERAL)}
    segments = {
        name: u32[(layout.SEGMENTS + number * layout.SEGMENT_SIZE) // 4] & 0xFFFF
        for number, name in enumerate(_SEGMENTS)
    }
    log.xen(f"{vcpu}: {reason}")
    log.xen(f"Domain {domain.domid} (vcpu#{vcpu.id}) crashed:")
    log.xen(f"RIP:    {segments['cs']:04x}:[<{u32[layout.EIP // 4]:08x}>]")
    log.xen(f"EFLAGS: {flags.read_eflags(window):08x}   ring: {u32[layout.HFLAGS // 4] & layout.HF_CPL}")
    for row in (("eax", "ebx", "ecx", "edx"), ("esi", "edi", "ebp", "esp")):
        log.xen("   ".join(f"{name}: {general[name]:08x}" for name in row))
    log.xen(f"cr3: {vcpu.cr3 << 12:08x}   cr2: {vcpu.cr2:08x}   cr4: {vcpu.cr4:08x}")
    log.xen("   ".join(f"{name}: {segments[name]:04x}" for name in ("ds", "es", "fs", "gs", "ss", "cs")))
    log.xen(f"Guest stack trace from esp={general['esp']:08x}:")
    for line in _stack_lines(domain, general["esp"]):
        log.xen(line)


def _stack_lines(domain: "Domain", stack: int) -> list[str]:
    words: list[str] = []
    for number in range(_STACK_WORDS):
        try:
            words.append(f"{domain.memory.read_u32(stack + 4 * number):08x}")
        except GuestFault:
            words.append("(unreadable)")
            break
    return [
        "   " + " ".join(words[at : at + _WORDS_PER_LINE]) for at in range(0, len(words), _WORDS_PER_LINE)
    ]
