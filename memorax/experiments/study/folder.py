"""The folder of a study: its configuration, a folder for each of its runs, and its results."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from rich.console import Console

from memorax.experiments.files.fields import differences
from memorax.experiments.files.folder import Folder
from memorax.experiments.run.config import TrainConfig, to_json
from memorax.experiments.run.console import shell_path
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study.table import StudyTable, csv_text

AnyStudyFolder = TypeVar("AnyStudyFolder", bound="StudyFolder")


class StudyFolder(Folder):
    """The folder of a comparison or a sweep: its configuration, its runs and its results.

    ``config.json``, a run folder for each run, and when all runs have ended ``results.json``,
    ``table.csv``, ``table.md`` and plots.

    Args:
        path: The folder.

    Attributes:
        study: The study's name in messages.
        resume: The command that resumes one, up to the folder.
        to_json: Returns a configuration as text.
        from_json: Reads a configuration from a file.
    """

    study: ClassVar[str]
    resume: ClassVar[str]
    to_json: ClassVar[Callable[[Any], str]]
    from_json: ClassVar[Callable[[Path], Any]]

    @classmethod
    def create(cls: type[AnyStudyFolder], path: Path | None, config: Any) -> AnyStudyFolder:
        """Make a new folder; without a path, ``STUDYs/TIME``.

        Args:
            path: Where.
            config: The study's configuration.

        Raises:
            ValueError: If the path exists: a study is never overwritten.
        """
        if path is not None:
            return cls.make(path, cls.to_json(config))
        return cls.make_named_by_time(f"{cls.study}s", cls.to_json(config))

    def config(self) -> Any:
        """Return the study's configuration."""
        return type(self).from_json(self.path / "config.json")

    def claim_run(self, path: Path, config: TrainConfig[Any]) -> RunFolder:
        """Return the folder of one of the runs, a new one if the run was never begun.

        Args:
            path: Where it lies in the study's folder.
            config: The run's configuration.

        Raises:
            ValueError: If the run there has another configuration.
        """
        path = self.path / path
        if not (path / "config.json").is_file():
            # The folder may exist without it, if the process that made it was killed.
            path.mkdir(parents=True, exist_ok=True)
            RunFolder(path).write("config.json", to_json(config))
        folder = RunFolder.open(path)
        changed = next(differences(folder.config(), config), None)
        if changed:
            raise ValueError(f"{path / 'config.json'} is of another {self.study}: {changed}")
        return folder

    def finish(
        self, table: StudyTable, rows: Sequence[Any], results: dict[str, Any], console: Console
    ) -> None:
        """Write the results and show them.

        Args:
            table: The table.
            rows: Its rows, dataclasses with ``seed_values``.
            results: The contents of ``results.json`` beside the rows.
            console: Where to show the table.
        """
        results = results | {"rows": [asdict(row) for row in rows]}
        self.write("table.csv", csv_text(rows))
        self.write("table.md", table.markdown())
        self.write("results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
        console.print(table.rich())
        console.print(f"results: {self.path}", soft_wrap=True)
        console.print(f"as one page: memorax report {shell_path(self.path)}", soft_wrap=True)
