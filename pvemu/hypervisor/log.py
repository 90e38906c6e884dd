"""The hypervisor's log: what Xen would print on its console, each line with its prefix."""

from collections.abc import Callable


class Log:
    """Passes whole lines, without their newline, to a sink that the owner of the machine chose."""

    def __init__(self, sink: Callable[[str], None] | None = None) -> None:
        self._sink = sink or (lambda line: None)

    def xen(self, text: str) -> None:
        """A line, or several, of the hypervisor's own."""
        for line in text.splitlines():
            self._sink(f"(XEN) {line}")
