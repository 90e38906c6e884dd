"""Stands in front of SIGFPE: the one division that the engine leaves to the host is the guest's #DE.

For IDIV with a divisor of 32 bits the engine divides 64-bit numbers of the host. The least of them divided
by -1 is a fault there, whose signal would end the process; any guest can ask for it. The handler goes on
behind the division, with the dividend as the quotient: that is too large for the guest's register, as the
engine then finds out.
"""

import ctypes
import re
import signal
from typing import Final

from pvemu.cpu.errors import EngineError
from pvemu.cpu.native_page import NativePage, function_address

#: The engine's function, and how many of its bytes the division must be among.
_FUNCTION: Final = "helper_idivl_EAX_x86_64"
_SEARCHED: Final = 64
#: IDIV of a 64-bit register.
_DIVISION: Final = re.compile(rb"[\x48\x49]\xf7[\xf8-\xff]", re.DOTALL)

# The handler's third argument is the context, with RIP at 0xA8 (Linux on x86-64: ucontext_t). What is not
# ours goes to the handler before; where there was none, the default is put back and the signal raised.
#   mov rax, [place] ; cmp [rdx+0xA8], rax ; jne 1f ; add qword [rdx+0xA8], 3 ; ret
#   1: mov rax, [before] ; cmp rax, 1 ; jbe 2f ; jmp rax ; 2: sub rsp, 8 ; mov edi, 8 ; xor esi, esi
#   call [signal] ; mov edi, 8 ; add rsp, 8 ; jmp [raise]
_HANDLER: Final = bytes.fromhex(
    "488b05f9000000 483982a8000000 7509 488382a800000003 c3"
    "488b05e8000000 4883f801 7602 ffe0 4883ec08 bf08000000 31f6"
    "ff15d7000000 bf08000000 4883c408 ff25d0000000"
)
_PLACE, _BEFORE, _SIGNAL, _RAISE = 0x100, 0x108, 0x110, 0x118
_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000


class _Action(ctypes.Structure):
    """`struct sigaction` of the C library."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


class DivisionGuard:
    """The native handler, one for the whole process.

    Args:
        library: the engine's library.

    Raises:
        EngineError: the division was not found, or this host gives no executable memory.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        place = _division(library)
        self._page = NativePage(_HANDLER, "the division guard")
        self._c = ctypes.CDLL(None)
        words = self._page.words
        words[_PLACE // 8] = place
        words[_SIGNAL // 8] = function_address(self._c.signal)
        words[_RAISE // 8] = function_address(getattr(self._c, "raise"))

    def install(self) -> None:
        """Be the process's handler of SIGFPE, in front of whatever is it now."""
        now = _Action()
        self._c.sigaction(int(signal.SIGFPE), None, ctypes.byref(now))
        if now.handler == self._page.address:
            return
        self._page.words[_BEFORE // 8] = now.handler or 0
        ours = _Action(handler=self._page.address, flags=_SA_SIGINFO | _SA_ONSTACK)
        self._c.sigaction(int(signal.SIGFPE), ctypes.byref(ours), None)


def _division(library: ctypes.CDLL) -> int:
    try:
        start = function_address(getattr(library, _FUNCTION))
    except AttributeError:
        raise EngineError(f"Unicorn has no {_FUNCTION}; run `pvemu doctor`") from None
    found = _DIVISION.search(ctypes.string_at(start, _SEARCHED))
    if found is None:
        raise EngineError(f"{_FUNCTION} of Unicorn has no division; run `pvemu doctor`")
    return start + found.start()
