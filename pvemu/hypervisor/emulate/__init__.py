"""The instruction emulator: one instruction of a guest, carried out on memory that its user provides.

Three users have it. Stores of PV kernels to their page tables (`pv/ro_page_fault.py`), writes to tables
that are shadowed, and loads and stores of device memory all trap at an instruction that has not happened;
here it happens, with its accesses going where the user's `Memory` sends them:

    emulator = Emulator(hypervisor.cpu.window)      # once for a processor
    code = ...                                      # up to 15 bytes from emulator.instruction_address()
    try:
        if emulator.step(memory, code):
            ...                                     # TF was set: #DB with DR6.BS is due
    except InstructionFault as fault:               # a segment's limit or rights, alignment: inject it
        ... fault.vector, fault.error_code
    except Unemulated as reason:                    # not a known instruction: str(reason) says which
        ...

Registers, segments and mode are those of the vCPU in the state window. `step` reads and writes them there,
and steps over the instruction. A repeated string instruction does at most `MOST_ITERATIONS` iterations in a
step, and is not stepped over before its last: the guest goes on with it, or is interrupted in between.

Whatever `memory` raises comes out of `step`, and then no register, flag or EIP has changed; of a string
instruction the iterations before have happened.
"""

from pvemu.hypervisor.emulate.emulator import MOST_ITERATIONS, Emulator
from pvemu.hypervisor.emulate.memory import InstructionFault, Memory, NoInstruction, Unemulated

__all__ = ["MOST_ITERATIONS", "Emulator", "InstructionFault", "Memory", "NoInstruction", "Unemulated"]
