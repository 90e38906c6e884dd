"""Consoles towards the outside: what is typed reaches the guest, from a terminal, a file or a pty."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from guestkit import assemble
from pvemu import Machine, Outcome
from pvemu.hypervisor.timers import Timer
from pvemu.toolstack.outputs import PseudoTerminal
from pvemu.toolstack.outside import Gate

ROOT = Path(__file__).parents[2]
SECONDS = 60
ESCAPE = b"\x1d"

# Prints each key in brackets, until it gets a `q`.
ECHO = """
guest "echo"
include "start.gk"
include "print.gk"
include "events.gk"
section .text
main:   print "Type!\\n"
        mov esi, [start_info_address]
        mov eax, [esi + start_info.console.domU.evtchn]
        mov [port], eax
        mov dword [poll + sched_poll.ports], port
        mov dword [poll + sched_poll.nr_ports], 1
        mov eax, [esi + start_info.console.domU.mfn]
        call page_of_frame
        mov edi, eax
.wait:  mov eax, [edi + xencons_interface.in_cons]
        cmp eax, [edi + xencons_interface.in_prod]
        jne .key
        hypercall sched_op, SCHEDOP_poll, poll
        mov eax, [port]
        lock btr [pending_ports], eax
        jmp .wait
.key:   mov ecx, eax
        and ecx, sizeof(xencons_interface.in) - 1
        mov bl, [edi + xencons_interface.in + ecx]
        inc eax
        mov [edi + xencons_interface.in_cons], eax
        mov [key + 1], bl
        mov eax, key
        mov ecx, 3
        call console_write
        cmp bl, 'q'
        jne .wait
        print "\\nBye.\\n"
        ret
section .data
align 4
port:   dd 0
poll:   reserve sizeof(sched_poll), 0
key:    db "[ ]"
"""


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    path = tmp_path / "echo.elf"
    path.write_bytes(assemble(ECHO).elf)
    return path


def test_a_text_is_typed_at_the_console_as_the_guest_takes_it(echo: Path) -> None:
    text = b"a line longer than the ring has room for at once\n" * 30 + b"q"
    with Machine(echo.read_bytes(), memory=8) as machine:
        machine.type_keys(text)
        assert machine.run(10).outcome is Outcome.POWEROFF
        shown = bytes(machine.console_bytes)
    assert shown == b"Type!\n" + b"".join(b"[%c]" % key for key in text) + b"\nBye.\n"


def test_a_script_waits_for_the_answer_to_each_line(echo: Path) -> None:
    with Machine(echo.read_bytes(), memory=8) as machine:
        machine.type_text(b"a\nbq")
        result = machine.run(30)
    assert result.outcome is Outcome.POWEROFF
    assert bytes(machine.console_bytes) == b"Type!\n[a][\n][b][q]\nBye.\n"
    assert result.nanoseconds > 600_000_000  # two silences


# Domain 0 sleeps until the hypervisor has keys for it, reads them, and powers off at a `q`.
SLEEPER = """
guest "sleeper"
include "start.gk"
include "print.gk"
include "events.gk"
section .text
main:   call events_open
        mov eax, VIRQ_CONSOLE
        mov edx, ignore_event
        call bind_virq
        print "Type!\\n"
.wait:  call wait_for_upcall
        hypercall console_io, CONSOLEIO_read, 8, keys
        test eax, eax
        jz .wait
        mov ecx, eax
        mov eax, keys
        call console_write
        cmp byte [keys + ecx - 1], 'q'
        jne .wait
        ret
section .data
keys:   reserve 8, 0
"""


def test_domain_0_is_woken_by_keys_at_the_hypervisors_console() -> None:
    with Machine(assemble(SLEEPER).elf, memory=16, privileged=True) as machine:
        timers = machine.hypervisor.timers
        Timer(timers, lambda: machine.type_keys(b"abc")).set(50_000_000)
        Timer(timers, lambda: machine.type_keys(b"defq")).set(90_000_000)
        result = machine.run(1)
    assert result.outcome is Outcome.POWEROFF
    assert bytes(machine.console_bytes) == b"Type!\nabcdefq"
    assert 90_000_000 < result.nanoseconds < 100_000_000


def test_keys_for_a_guest_that_never_reads_are_no_trouble() -> None:
    source = 'guest "deaf"\ninclude "start.gk"\nsection .text\nmain: ret\n'
    with Machine(assemble(source).elf, memory=8) as machine:
        machine.type_keys(b"x" * 5_000_000)
        assert machine.run(10).outcome is Outcome.POWEROFF


@pytest.mark.parametrize("keys", ["-", "file"])
def test_run_types_what_a_file_or_a_pipe_holds(echo: Path, keys: str) -> None:
    script = echo.with_name("file")
    script.write_text("hq")
    command = [sys.executable, "-m", "pvemu", "run", str(echo), "--input", keys.replace("file", str(script))]
    done = subprocess.run(command, cwd=ROOT, input=b"hq", capture_output=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (0, b"Type!\n[h][q]\nBye.\n")


def _heed_hangups() -> None:
    """Under nohup, which these tests may run under, they would be ignored, as pvemu respects."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Terminal:
    """`pvemu run` in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pvemu", "run", *words],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=_heed_hangups,
        )

    def wait_for(self, text: bytes) -> None:
        end = time.monotonic() + SECONDS
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], self.seen
            self.seen += os.read(self.master, 1024)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(echo: Path) -> Iterator[Terminal]:
    terminal = Terminal(str(echo))
    yield terminal
    terminal.close()


def test_in_a_terminal_keys_go_to_the_guest_control_keys_too(terminal: Terminal) -> None:
    terminal.wait_for(b"Type!")
    terminal.type(b"a\x03\x1a\r")  # ^C and ^Z would stop a program that had not asked for them
    terminal.wait_for(b"[a][\x03][\x1a][\r]")
    terminal.type(b"q")
    assert terminal.process.wait(SECONDS) == 0
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_the_escape_key_leaves_the_guest_and_the_terminal_as_it_was(terminal: Terminal) -> None:
    terminal.wait_for(b"Type!")
    terminal.type(ESCAPE)
    assert terminal.process.wait(SECONDS) == 130
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_ended_leaves_the_terminal_as_it_was(
    terminal: Terminal, number: signal.Signals
) -> None:
    terminal.wait_for(b"Type!")
    assert termios.tcgetattr(terminal.slave) != terminal.before
    terminal.process.send_signal(number)
    assert terminal.process.wait(SECONDS) == 128 + number
    assert termios.tcgetattr(terminal.slave) == terminal.before


#: Prints what xenstore says of its console.
ASKS: Final = """
guest "asks"
include "start.gk"
include "print.gk"
include "events.gk"
include "xenstore.gk"
section .text
main:   call events_open
        call xenstore_open
        mov eax, .path
        call xenstore_read
        mov eax, xenstore_value
        jmp print_text
.path:  asciz "console/tty"
"""


def test_xenstore_names_the_terminal_of_a_console() -> None:
    terminal = PseudoTerminal()
    try:
        with Machine(assemble(ASKS).elf, memory=8, console=terminal) as machine:
            assert machine.run(seconds=1).outcome is Outcome.POWEROFF
        descriptor = os.open(terminal.name, os.O_RDWR | os.O_NOCTTY)
        assert os.read(descriptor, 1024).decode() == terminal.name
        os.close(descriptor)
    finally:
        terminal.close()


def test_without_one_it_names_none() -> None:
    with Machine(assemble(ASKS).elf, memory=8) as machine:
        assert machine.run(seconds=1).outcome is Outcome.POWEROFF
        assert bytes(machine.console_bytes) == b""


def test_what_waits_in_a_terminal_can_be_read_until_the_end_by_who_has_it_open() -> None:
    terminal = PseudoTerminal()
    descriptor = os.open(terminal.name, os.O_RDWR | os.O_NOCTTY)
    terminal(b"the last words")
    closing = threading.Thread(target=terminal.close)
    closing.start()
    assert select.select([descriptor], [], [], SECONDS)[0]
    assert os.read(descriptor, 1024) == b"the last words"
    closing.join()
    assert os.read(descriptor, 1024) == b""
    os.close(descriptor)


def test_each_guest_may_have_a_pseudo_terminal(echo: Path) -> None:
    command = [sys.executable, "-m", "pvemu", "run", str(echo), str(echo), "--memory", "8", "--pty"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stderr is not None
    try:
        devices = [process.stderr.readline().decode().strip().split(": ")[1] for _ in range(2)]
        for device in devices:
            descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY)
            os.write(descriptor, b"zq")
            seen = b""
            while b"Bye." not in seen:
                assert select.select([descriptor], [], [], SECONDS)[0], seen
                chunk = os.read(descriptor, 1024)
                assert chunk, seen
                seen += chunk
            assert seen.startswith(b"Type!\n[z][q]")
            os.close(descriptor)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_gate_calls_for_what_is_ready_and_forgets_what_it_should() -> None:
    gate = Gate()
    reader, writer = os.pipe()
    source = os.fdopen(reader, "rb", buffering=0)
    got: list[bytes] = []
    assert not gate.is_open
    gate.watch(source, on_readable=lambda: got.append(source.read(10) or b""))
    assert gate.is_open
    gate.look(0)
    assert not got
    os.write(writer, b"one")
    gate.look(500_000)  # too soon to look again
    assert not got
    gate.look(2_000_000)
    assert got == [b"one"]
    os.write(writer, b"two")
    gate.wait(None)
    assert got == [b"one"]
    gate.look(2_100_000)  # after a wait it is never too soon
    assert got == [b"one", b"two"]
    gate.forget(source)
    os.write(writer, b"three")
    gate.look(9_000_000)
    assert not gate.is_open and len(got) == 2
    source.close()
    os.close(writer)
    gate.close()


def test_a_wait_ends_when_it_is_woken() -> None:
    gate = Gate()
    gate.wake()
    gate.wake()
    assert gate.wait(SECONDS * 1_000_000_000) < SECONDS * 500_000_000
    gate.close()
