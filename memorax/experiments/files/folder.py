"""Folders whose files are written whole or not at all."""

import contextlib
import itertools
import os
from datetime import datetime
from pathlib import Path
from typing import ClassVar, TypeVar

from memorax.experiments.files.fields import read_json, reading
from memorax.experiments.files.trust import check_files

AnyFolder = TypeVar("AnyFolder", bound="Folder")


class FolderExistsError(ValueError):
    """A folder that was to be made exists, and is not overwritten; the message names it."""


class Folder:
    """A folder with a ``config.json``.

    Files are written beside their place and moved there, so that none is ever half written.

    Args:
        path: The folder.

    Attributes:
        kind: The folder's name in error messages.
        field: A field of its ``config.json`` that no other kind's has.
        writes: Whether this process writes there; of several that train together, one does.
    """

    kind: ClassVar[str]
    field: ClassVar[str]

    def __init__(self, path: Path):
        self.path = path
        self.writes = True

    @classmethod
    def make(cls: type[AnyFolder], path: Path, config: str) -> AnyFolder:
        """Make a new folder.

        Args:
            path: Where.
            config: The contents of ``config.json``.

        Raises:
            ValueError: If the path exists, since nothing is ever overwritten, or cannot be written.
        """
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            # Python has bytes that are no text in this form, which Orbax cannot take.
            raise ValueError(f"{cls.kind} must be a path in UTF-8, got {str(path)!r}")
        try:
            # Of several processes that try at the same time, one makes it.
            path.mkdir(parents=True)
        except OSError as error:
            if os.path.lexists(path):
                raise FolderExistsError(
                    f"{cls.kind} {path} exists and is not overwritten: choose another, or "
                    "resume it by --resume"
                ) from None
            raise ValueError(f"{cls.kind} {path} cannot be made: {error}") from error
        folder = cls(path)
        try:
            folder.write("config.json", config)
        except OSError as error:
            path.rmdir()
            raise ValueError(f"{cls.kind} {path} cannot be written: {error}") from error
        return folder

    @classmethod
    def make_named_by_time(
        cls: type[AnyFolder], parent: str, config: str, prefix: str = ""
    ) -> AnyFolder:
        """Make a new folder where none was given, ``PARENT/PREFIXTIME``.

        Of several begun in the same second, the later ones have ``-2``, ``-3``, ... after the time.

        Args:
            parent: The folder to make it in.
            config: The contents of ``config.json``.
            prefix: The beginning of its name.

        Raises:
            ValueError: If it cannot be written.
        """
        name = f"{prefix}{datetime.now():%Y%m%d-%H%M%S}"
        for number in itertools.count(1):
            with contextlib.suppress(FolderExistsError):
                return cls.make(Path(parent, name if number == 1 else f"{name}-{number}"), config)
        raise AssertionError("unreachable")

    @classmethod
    def open(cls: type[AnyFolder], path: Path) -> AnyFolder:
        """Open a folder that is there.

        Raises:
            ValueError: If there is none, or something in it is neither file nor folder or leads out
                of it.
        """
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} is not a {cls.kind}: it has no config.json")
        check_files(path)
        if not cls.is_at(path):
            raise ValueError(f"{path} is not a {cls.kind}: its config.json has no {cls.field}")
        return cls(path)

    @classmethod
    def is_at(cls, path: Path) -> bool:
        """Return whether a folder is of this kind, by its ``config.json``.

        Raises:
            UnreadableError: If that cannot be read.
        """
        config = path / "config.json"
        if not config.is_file():
            return False
        with reading(config, "configuration"):
            return cls.field in read_json(config)

    def write(self, name: str, text: str) -> None:
        """Write a text file atomically, if this process is the one that writes."""
        if not self.writes:
            return
        partial = self.path / f".{name}.partial"
        try:
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, self.path / name)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file with their ends, none if it does not exist.

    A last line without an end was torn when its writer was killed.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]
