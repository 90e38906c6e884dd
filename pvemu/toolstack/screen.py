"""What tables are printed on: rich's console, but a reader who has left is an error as elsewhere."""

from rich.console import Console


class Screen(Console):
    """A console that raises BrokenPipeError; rich's own would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        """Nobody reads what is printed."""
        raise BrokenPipeError
