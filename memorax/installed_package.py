"""The distribution that memorax is installed as, whose name differs from that of the package."""

import importlib.util
from importlib.metadata import PackageNotFoundError, metadata

DISTRIBUTION = "memorax-rl"
"""Its name in ``pyproject.toml``."""
OTHER = "memorax"
"""What PyPI has under this name is another project, which installs into the same folder."""


def install_command(extra: str) -> str:
    """Return the command that adds an extra to what is installed."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        # find_spec raises ValueError if sys.modules[name] is None.
        return False


def conflict() -> str | None:
    """Return what is wrong if the other project is installed beside this one, else None."""
    try:
        ours, other = metadata(DISTRIBUTION), metadata(OTHER)
    except PackageNotFoundError:
        return None
    if other["Summary"] == ours["Summary"]:
        return None  # This project itself, installed before it had its name.
    return (
        f"{OTHER} {other['Version']}, another project, is installed into the same folder as "
        f"{DISTRIBUTION}; uninstall both, then install {DISTRIBUTION} again"
    )
