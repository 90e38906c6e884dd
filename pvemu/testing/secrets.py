"""What no other domain may ever see: each domain of a stage has a page full of it."""

from typing import Final

#: The number of the page among `pages` of steps.gk.
SECRET_PAGE: Final = 14
SECRET_SIZE: Final = 16


def secret_of(number: int) -> bytes:
    """What is in the secret page of a domain, over and over, by its number on the stage."""
    return f"secret of d{number}".encode().ljust(SECRET_SIZE, b"!")
