"""Where a command may write a file that the user names."""

from pathlib import Path


def check_output(path: Path, suffix: str, option: str = "output") -> None:
    """Check where a file is to be written.

    Args:
        path: The file.
        suffix: What its name must end in, such as ``.gif``.
        option: The option that names it.

    Raises:
        ValueError: If it ends in something else, exists, or lies in no folder.
    """
    if path.suffix != suffix:
        raise ValueError(f"{option} must end in {suffix}, got {path}")
    if path.exists():
        raise ValueError(f"{path} exists and is not overwritten: choose another by --{option}")
    if not path.parent.is_dir():
        raise ValueError(f"{option} must be in a folder that exists, got {path}")
