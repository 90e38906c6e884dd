"""Guests for the tests of the command, in guestkit source."""

TEXT = "Hello, \\xf0\\x9f\\x90\\xbc and a stray byte \\xff\\n"
TEXT_BYTES = b"Hello, \xf0\x9f\x90\xbc and a stray byte \xff\n"


def guest(code: str, data: str = "") -> str:
    """A kernel whose `start` runs `code`, and whose `message`, of `message_size` bytes, is TEXT."""
    return f"""
guest "test"
section .text
start:
{code}
section .data
message: db "{TEXT}"
message_size equ $ - message
{data}
"""


def shutdown(reason: str) -> str:
    return f"""
        push {reason}
        mov ecx, esp
        hypercall sched_op, SCHEDOP_shutdown, ecx
"""


PRINT = "hypercall console_io, CONSOLEIO_write, message_size, message\n"

#: Prints as domain 0, then powers off.
HELLO = guest(PRINT + shutdown("SHUTDOWN_poweroff"))
#: Prints as domain 0, then never gives the processor back.
PRINT_AND_LOOP = guest(f"{PRINT}.again: jmp .again")
LOOP = guest(".again: jmp .again")
#: Traps as often as it can, and prints nothing as a domU.
TRAP_LOOP = guest(".again: hypercall xen_version, XENVER_version, 0\njmp .again")
PRINT_FOR_EVER = guest(f".again: {PRINT} jmp .again")
#: Waits for events, of which it has bound none.
BLOCK = guest(".again: hypercall sched_op, SCHEDOP_block, 0\njmp .again")

JUMP_INTO_NOTHING = guest("jmp 0xe019:0xdead0000")
FAULT_WITHOUT_HANDLER = guest("mov eax, [0xdeadbeef]")
FAULT_IN_FAULT_HANDLER = guest(
    """
        hypercall set_trap_table, traps
handler:
        mov eax, [0xdeadbeef]
        jmp handler
""",
    """
trap_table traps
trap 13, handler
trap 14, handler
end
""",
)
STACK_IN_NOTHING = guest("mov esp, 0x1000\npush eax\nint 0x80\nud2")
EVIL = {
    "jumps into nothing": JUMP_INTO_NOTHING,
    "faults without a handler": FAULT_WITHOUT_HANDLER,
    "faults in its own fault handler": FAULT_IN_FAULT_HANDLER,
    "has its stack in nothing": STACK_IN_NOTHING,
    "halts with events off": guest("hlt\n.again: jmp .again"),
    "runs into its own data": guest("jmp message"),
}
