"""A stage whose guests run: each step is taken by the guest's own code, which is told what to do.

A guest makes its hypercalls with `int 0x82`, has handlers for traps and upcalls, and can do what deeds.gk
has. It waits for an order, does it, and waits again. So besides the hypercalls all ways into a guest and out
of it are gone, and time passes.
"""

import struct
from typing import Final

from pvemu.abi.hypercalls import BY_NAME
from pvemu.hypervisor.hypercall import signed
from pvemu.memory.guest import GuestFault
from pvemu.testing.fuzzing.deeds import label_of, labels
from pvemu.testing.program import Outcome, Program, Step
from pvemu.testing.puppet import Puppet
from pvemu.testing.source import source
from pvemu.testing.stage import Stage

_HEAD: Final = """\
guest "agent"
include "deeds.gk"

section .text
main:   call steps_open
        call deeds_open
        mov edi, ports_of_vcpu
        mov ecx, EVENT_WORDS
        mov eax, -1
        rep stosd
        hypercall set_callbacks, FLAT_KERNEL_CS, take_upcall, FLAT_KERNEL_CS, failsafe_entry
        mov dword [is_ready], 1
.wait:  mov ecx, [order]
        test ecx, ecx
        jnz .obey
        hypercall sched_op, SCHEDOP_yield, 0
        jmp .wait
.obey:  call [orders + ecx * 4]
        mov [answer], eax
        mov dword [order], 0
        jmp .wait

; As upcall_entry of events.gk. Whatever port is pending is taken note of; it is counted how often that begins
; and ends.
take_upcall:
        push 0
        push TRAP_VECTORS
        save_registers
        inc dword [upcalls_begun]
        call handle_events
        inc dword [upcalls_ended]
        restore_registers_and_return

section .rodata
align 4
orders: dd 0, do_hypercall
"""
_TAIL: Final = """
section .data
align 4
is_ready: dd 0
order: dd 0
answer: dd 0
upcalls_begun: dd 0
upcalls_ended: dd 0
"""
_OPERANDS: Final = 2048
_HYPERCALL: Final = 1
#: Cycles between two looks whether a guest has done its step, and after how many looks it is left alone.
_LOOK: Final = 5_000
_MOST_LOOKS: Final = 120


class AgentStage(Stage):
    """A machine and its guests, which do as they are told.

    A guest that does not come back from a step (it waits for an event, or is lost in its own handlers) takes
    no more steps, as does one that was shut down.
    """

    def __init__(self, domains: int = 2, *, privileged: bool = False) -> None:
        self._orders = {label: number for number, label in enumerate(labels(), _HYPERCALL + 1)}
        table = "".join(f"        dd {label}\n" for label in self._orders)
        #: Addresses of the blocks of guest code that have run; it outlives every reset.
        self.blocks: set[int] = set()
        super().__init__(domains, privileged=privileged, kernel=_HEAD + table + _TAIL)

    def reset(self) -> None:
        """See Stage. The engine has forgotten all code, and tells of each block that runs from now on."""
        super().reset()
        self.hypervisor.cpu.watch_blocks(self.blocks.add)

    def take(self, step: Step) -> Outcome:
        """Let a guest take a step, and all others run meanwhile."""
        puppet, label = self.puppets[step.domain], label_of(step)
        if not puppet.is_alive:
            return Outcome(step, None)
        puppet.notice(step)
        try:
            if puppet.read("order"):
                return Outcome(step, None)
            for record in step.records:
                puppet.write(record)
            if step.call is not None:
                words = (BY_NAME[step.call].number, *step.words(puppet))
                puppet.put("list", struct.pack("<6I", *words), _OPERANDS)
                puppet.put("order", struct.pack("<I", _HYPERCALL))
            elif label is not None:
                puppet.put("order", struct.pack("<I", self._orders[label]))
            else:
                return Outcome(step, None)
            is_done = self._let_it(puppet)
            if not is_done or step.call is None:
                return Outcome(step, None)
            telling = step.telling()
            told = 0 if telling is None else puppet.read(telling[0], 4, telling[1])
            return Outcome(step, signed(puppet.read("answer")), told)
        except GuestFault:
            puppet.has_lost_its_memory = True
            return Outcome(step, None)

    def _let_it(self, puppet: Puppet) -> bool:
        """Let all guests run until one has done what it was told; False when it does not."""
        hypervisor, vcpu = self.hypervisor, puppet.domain.vcpus[0]
        for _ in range(_MOST_LOOKS):
            hypervisor.run(hypervisor.clock.now + _LOOK)
            if not puppet.is_alive:
                return False
            if not puppet.read("order"):
                return True
            if not vcpu.runnable:
                return False
        return False

    def sources(self, program: Program) -> list[str]:
        """A program as guestkit source, one guest for each domain."""
        self.reset()
        return [
            source(program, number, self.puppets[number], more=_deed_lines, opening=_OPENING)
            for number in range(program.domains)
        ]


#: What a guest with deeds does first.
_OPENING: Final = ('include "deeds.gk"', "call deeds_open")


def _deed_lines(step: Step) -> list[str]:
    label = label_of(step)
    return [] if label is None else [f"call {label}"]
