"""What is installed under the name memorax."""

import importlib.metadata
from collections.abc import Iterator
from importlib.metadata import Distribution

COMMAND = "memorax.__main__:main"
"""What the command ``memorax`` of our own distribution runs."""


def distributions() -> Iterator[Distribution]:
    """Yield the distributions that are called memorax or install a package of that name.

    On PyPI, another project has the name. Reads what is installed, which takes a second.
    """
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        packages = (distribution.read_text("top_level.txt") or "").split()
        if name == "memorax" or "memorax" in packages or is_ours(distribution):
            yield distribution


def is_ours(distribution: Distribution) -> bool:
    """Return whether a distribution is this project's, by its command."""
    return any(entry.value == COMMAND for entry in distribution.entry_points)
