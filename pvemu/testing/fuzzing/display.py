"""How far a campaign is, shown while it runs: one line that changes, or plain lines where nobody watches."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pvemu.testing.fuzzing.campaign import Plan, Progress

#: Seconds between two plain lines, and between two looks of a person.
_PLAIN: Final = 10.0
_LIVE: Final = 0.2


@contextmanager
def shown(plan: Plan, console: Console) -> Iterator[Callable[[Progress], None]]:
    """Within the block, what is given to the function is shown."""
    if not console.is_terminal:
        yield _every(_PLAIN, lambda progress: console.print(line(progress, plan), highlight=False))
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield _every(_LIVE, lambda progress: live.update(Text(line(progress, plan)), refresh=True))


def _every(seconds: float, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    last = time.monotonic() - (seconds if seconds < 1 else 0)

    def now_and_then(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(progress)

    return now_and_then


def line(progress: Progress, plan: Plan) -> str:
    """All figures in one line."""
    parts = [
        f"{progress.cases} cases",
        f"{progress.rate:.0f}/s",
        f"{progress.edges} edges",
        *([f"{progress.blocks} guest blocks"] if plan.setting.guests else []),
        f"corpus {progress.corpus}",
        f"{progress.findings} findings",
        _left(progress, plan),
    ]
    return ", ".join(parts)


def _left(progress: Progress, plan: Plan) -> str:
    if plan.seconds is not None:
        minutes, seconds = divmod(int(max(plan.seconds - progress.seconds, 0)), 60)
        return f"{minutes}:{seconds:02} left"
    return f"{max((plan.cases or 0) - progress.cases, 0)} cases left"
