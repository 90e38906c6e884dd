"""The feature names of the FEATURES note, and the masks that they stand for (public features.h)."""

from collections.abc import Iterator

from pvemu.abi import features

_NAMED = (
    "writable_page_tables",
    "writable_descriptor_tables",
    "auto_translated_physmap",
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "hvm_callback_vector",
    "dom0",
)
FEATURE_MASKS: dict[str, int] = {name: 1 << getattr(features, f"XENFEAT_{name}") for name in _NAMED}
"""The names that Xen 4.17 knows in a FEATURES note."""
_LONGEST_NAME = 63
"""Characters that Xen reads at a time; a longer name falls into several."""


class UnknownRequiredFeature(Exception):
    """A feature marked `!` that Xen does not know; the one argument is its name."""


def parse_features(text: str) -> tuple[int, int]:
    """The masks (supported, required) of `name|!name|...`; "!" marks what the kernel cannot do without.

    Unknown names are ignored, unless required: then UnknownRequiredFeature is raised.
    """
    supported = required = 0
    for name in _names(text):
        mask = FEATURE_MASKS.get(name.removeprefix("!"))
        if name.startswith("!"):
            if mask is None:
                raise UnknownRequiredFeature(name[1:])
            required |= mask
        supported |= mask or 0
    return supported, required


def _names(text: str) -> Iterator[str]:
    for name in text.split("|"):
        for at in range(0, len(name), _LONGEST_NAME):
            yield name[at : at + _LONGEST_NAME]
