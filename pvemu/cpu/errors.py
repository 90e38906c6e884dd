"""What can be wrong with the engine under us."""

from pvemu.abi.errors import PvemuError


class EngineError(PvemuError):
    """The engine is not the one this project knows, or refused what it should have done."""
