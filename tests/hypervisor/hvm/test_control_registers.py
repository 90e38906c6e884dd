"""What a guest may write into control, debug and model-specific registers, and what it reads back.

Rules: AMD64 Architecture Programmer's Manual volume 2, section 3.1; of the model-specific registers, what Xen
4.17 makes of them.
"""

import re
from typing import Final

import pytest
from processor_guests import lines_of

from pvemu.toolstack.guest_kind import Paging
from pvemu.toolstack.machine import Outcome

_GP: Final = "#13 0"
_UD: Final = "#6 -"
_DONE: Final = ""

#: What each attempt ends with: an exception with its error code, or what was read.
_ANSWERS: Final = {
    "CR0: paging off in 64-bit code": _GP,
    "CR0: paging without protection": _GP,
    "CR0: not write-through, but cached": _GP,
    "CR0: upper half": _GP,
    "CR0: reserved bits are dropped": "cr0=80010011",
    "CR4: PAE off": _GP,
    "CR4: reserved bits": _GP,
    "CR4: upper half": _GP,
    "CR8": "cr8=9",
    "CR8: reserved bits": _GP,
    "CR1": _UD,
    "LMSW of memory": "cr0=8001001b",
    "LMSW of no memory": "#14 0",
    "SMSW to no memory": "#14 2",
    "LMSW can't leave protected mode": "cr0=80010011",
    "SMSW": "msw=11",
    "CLTS": "cr0=80010011",
    "DR7: upper half": _GP,
    "DR6: fixed bits": "dr6=ffff0ff0 dr6=ffffefff",
    "DR7: fixed bits": "dr7=400",
    "DR4 with DE": _UD,
    "EFER: LME can't change": _GP,
    "EFER: reserved bits": _GP,
    "FS base: no address": _GP,
    "LSTAR: no address": _GP,
    "FS and GS base": "#14 0",
    "MONITOR": _UD,
    "XSETBV": _UD,
    "VMRUN": _UD,
    "RDPMC": _DONE,
    "RDPMC: no such counter": _GP,
    "CR2": "cr2=8000000000000",
    # Under nested paging MOV to CR3 does not exit, and the engine takes every value.
    "CR3: reserved bits": {Paging.NESTED: _DONE, Paging.SHADOW: _GP},
    "STAR": "star=123456789abcdef",
    "PAT: no such type": _GP,
    "PAT": "pat=7040600070406 pat=105000106040700",
    "MTRRCAP": "cap=508",
    "MTRRCAP is read-only": _GP,
    "MTRR: no such type": _GP,
    "MTRR": "mask=fff0000800",
    "APIC base": "base=fee00900",
    "APIC base: moved": _GP,
    "TSC_AUX": "aux=12345678",
    "TSC_AUX: upper half": _GP,
    "TSC goes on": "later=1",
    "TSC is written": "upper=1",
    # mov eax, 17 ; vmmcall ; ret. The iret hypercall is ud2.
    "hypercall page": "stub=d9010f00000011b8,c3 iret=b0f reads=0",
    "hypercall page: not at its beginning": _GP,
    "hypercall page: no memory": _GP,
    "TSC_ADJUST follows the TSC": "upper=1",
    "TSC_ADJUST moves the TSC": "upper=2 reads=200000000000000",
    # Xen keeps the time while it is waited for, in the timer's mode for it (vlapic_tdt_msr_get, _set).
    "TSC_DEADLINE while the timer counts": "reads=0",
    "TSC_DEADLINE": "other=0 early=0 soon=1 reads=0",
    "TSC_DEADLINE that has passed": "reads=0",
    "TSC_DEADLINE is taken back": "reads=f00000000000000 reads=0",
    "SYSENTER_CS": "cs=1b",
    "SYSENTER_EIP: no address": _GP,
    "default memory type": "type=806 type=c00",
    "default memory type: no such type": _GP,
    "default memory type: reserved bits": _GP,
    # Two banks that report nothing (vmce.c).
    "machine checks: what is supported": "banks=2",
    "machine check control": "control=ffffffffffffffff",
    "machine check status": "status=0",
    "machine check status: not zero": _GP,
    "a register of AMD's that nobody needs": "reads=0",
    "HWCR": _GP,
    "no such MSR": _GP,
    "no such MSR is written": _GP,
    "CPUID: vendor": "ebx=68747541 edx=69746e65 ecx=444d4163 guest=1",
    # "XenVMMXenVMM"; one page by MSR 0x40000000; upcall vector, ids of vCPU and domain, IOMMU mappings.
    "CPUID: Xen": "max=40000005 ebx=566e6558 ecx=65584d4d edx=4d4d566e pages=1 msr=40000000 features=0"
    " hvm=5c vcpu=0 domid=1",
    "CPUID: long mode, NX, 1 GiB pages": "edx=24100800 sizes=3028",
    "WBINVD": _DONE,
}

_LINE: Final = re.compile(
    r"(?P<name>.*?)(?: v=(?P<vector>\w+) e=(?P<error>\S+) .*|(?P<read>(?: \w+=\S+)*) nothing)"
)


@pytest.mark.parametrize("paging", [Paging.NESTED, Paging.SHADOW])
def test_registers_take_and_show_what_they_should(paging: Paging, machine_options: dict[str, str]) -> None:
    lines, outcome = lines_of("control_registers", paging, machine_options)
    answers = {}
    for line in lines:
        found = _LINE.fullmatch(line)
        assert found is not None, line
        vector = found["vector"]
        answers[found["name"]] = f"#{int(vector, 16)} {found['error']}" if vector else found["read"].strip()
    wanted = {
        name: answer[paging] if isinstance(answer, dict) else answer for name, answer in _ANSWERS.items()
    }
    assert answers == wanted
    assert outcome is Outcome.POWEROFF
