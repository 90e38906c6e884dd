"""Bugs for campaigns to find: files that a job runs first (`pvemu fuzz --extra`), each puts one in.

And one that tells when a job begins with a shard, so that no test has to look at a clock.
"""

import socket
from pathlib import Path

#: A guest writes wherever its pointer leads.
WILD_WRITES = """
from pvemu.memory.guest import GuestFault, GuestMemory
from pvemu.memory.page_tables import WRITABLE, walk

sound = GuestMemory._translate

def translate(self, address, right):
    if right != WRITABLE:
        return sound(self, address, right)
    found = None if self._root is None else walk(self._ram, self._form, self._root, address)
    if found is None or found.address >= self._ram.size:
        raise GuestFault(address)
    return found.address & ~0xFFF

GuestMemory._translate = translate
"""

#: A vCPU that has masked upcalls is not told of an event at all, not even for later.
LOST_UPCALLS = """
from pvemu.hypervisor.event_2l import TwoLevel

sound = TwoLevel._make_set_pending

def make_set_pending(self):
    set_pending, domain = sound(self), self._domain
    u8 = domain.hypervisor.ram.u8

    def without_upcall(port):
        info = domain.vcpus[domain.channels[port].vcpu].info
        before = u8[info]
        set_pending(port)
        if u8[info + 1]:
            u8[info] = before

    return without_upcall

TwoLevel._make_set_pending = make_set_pending
"""

#: A hypercall ends the process, never comes back, is continued for ever or raises what nobody expects.
_IN_GET_DEBUGREG = """
import os, signal, time
from pvemu.hypervisor import core
from pvemu.hypervisor.continuation import Continuation

sound = core.Hypervisor.call

def call(self, vcpu, number, words):
    if number == {number}:
        {what}
    return sound(self, vcpu, number, words)

core.Hypervisor.call = call
"""
GET_DEBUGREG = 9
SEGFAULT = _IN_GET_DEBUGREG.format(number=GET_DEBUGREG, what="os.kill(os.getpid(), signal.SIGSEGV)")
ENDLESS = _IN_GET_DEBUGREG.format(number=GET_DEBUGREG, what="time.sleep(3600)")
CONTINUED = _IN_GET_DEBUGREG.format(number=GET_DEBUGREG, what="raise Continuation()")
ZERO_DIVISION = _IN_GET_DEBUGREG.format(number=GET_DEBUGREG, what="return 1 // 0")

#: When a job begins with a shard of that round, it tells the number of the process that has started it.
_TELLING = """
import os, socket
from pvemu.testing.fuzzing.shard import _Shard

sound = _Shard.run

def run(self):
    if self._task.seed.split(":")[1] == "{round}":
        with socket.create_connection(("127.0.0.1", {port})) as listener:
            listener.sendall(str(os.getppid()).encode())
    return sound(self)

_Shard.run = run
"""
_PATIENCE = 60.0


class Begins:
    """Waits until a job begins with a shard of a round, counted from 0: those before it are merged then."""

    def __init__(self, folder: Path, round: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(_PATIENCE)
        text = _TELLING.format(round=round, port=self._socket.getsockname()[1])
        self.extra = plant(folder, text)

    def wait(self) -> int:
        """The number of the process that has started the job; raises TimeoutError after a minute."""
        connection, _ = self._socket.accept()
        with connection:
            return int(connection.recv(20))

    def close(self) -> None:
        """Nobody waits any more."""
        self._socket.close()


def plant(folder: Path, text: str) -> str:
    """A file with a bug in it; its path."""
    path = folder / "extra.py"
    path.write_text(text)
    return str(path)
