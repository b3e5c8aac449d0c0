"""The folder of a study: its configuration, a folder for each of its trials, and its results."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from rich.console import Console

from memorax.experiments.files.fields import differences, reading
from memorax.experiments.files.folder import Folder
from memorax.experiments.run.config import TrainConfig, to_json
from memorax.experiments.run.console import shell_path
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.study.page import reading_results, write_page
from memorax.experiments.study.results import Row
from memorax.experiments.study.table import StudyTable, csv_text
from memorax.experiments.study.trial import Trial
from memorax.experiments.study.trial_training import ShouldStop

AnyStudyFolder = TypeVar("AnyStudyFolder", bound="StudyFolder")


@dataclass(frozen=True)
class Proposed:
    """Trials that are made without waiting for each other.

    Attributes:
        trials: The trials.
        should_stop: Whether to stop one of them early.
    """

    trials: Sequence[Trial]
    should_stop: ShouldStop = lambda trial, reports: False


@dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes:
        rows: Its rows.
        table: Its table.
        others: The contents of ``results.json`` beside the rows.
        remark: What to print below the table.
    """

    rows: Sequence[Row]
    table: StudyTable
    others: Mapping[str, Any]
    remark: str = ""


@dataclass(frozen=True)
class Page:
    """The page of a study.

    Attributes:
        title: Its title.
        summary: Its subject, in a sentence.
        sections: Its first sections, from ``page.section``.
    """

    title: str
    summary: str
    sections: Sequence[str] = field(default_factory=list)


class StudyFolder(Folder, ABC):
    """The folder of a comparison or a sweep: its configuration, its trials and its results.

    ``config.json``, a run folder for each trial with ``trial.json``, which says how it ended, and
    when all have ended ``results.json``, ``table.csv``, ``table.md`` and plots.

    Args:
        path: The folder.

    Attributes:
        study: The study's name in messages.
        resume: The command that resumes one, up to the folder.
        plots: The caption of each plot by its file name.
        to_json: Returns a configuration as text.
        from_json: Reads a configuration from a file.
    """

    study: ClassVar[str]
    resume: ClassVar[str]
    plots: ClassVar[Mapping[str, str]]
    to_json: ClassVar[Callable[[Any], str]]
    from_json: ClassVar[Callable[[Path], Any]]

    @abstractmethod
    def propose(self, config: Any, ended: Sequence[Trial]) -> Proposed:
        """Return the next trials, whose folders need not be there, given all before them."""

    @abstractmethod
    def results(self, config: Any, trials: Sequence[Trial]) -> Results:
        """Draw the plots of trials, all of which have ended, and return their results."""

    @abstractmethod
    def page(self, config: Any, found: Mapping[str, Any]) -> Page:
        """Return the page of the contents of ``results.json``."""

    @staticmethod
    @abstractmethod
    def check_installed(config: Any) -> None:
        """Check that what the study needs is installed.

        Raises:
            ModuleNotFoundError: If it is not; the extra to install is named.
        """

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
            path: Where it is.
            config: The run's configuration.

        Raises:
            UnreadableError: If the run there has another configuration.
        """
        if not (path / "config.json").is_file():
            # The folder may exist without it, if the process that made it was killed.
            path.mkdir(parents=True, exist_ok=True)
            RunFolder(path).write("config.json", to_json(config))
        with reading(path, f"run of this {self.study}"):
            folder = RunFolder.open(path)
            changed = next(differences(folder.config(), config), None)
            if changed:
                raise ValueError(changed)
        return folder

    def finish(self, config: Any, trials: Sequence[Trial], console: Console) -> Sequence[Row]:
        """Write the results of trials, all of which have ended, show them and return the rows."""
        results = self.results(config, trials)
        found = {**results.others, "rows": [asdict(row) for row in results.rows]}
        self.write("table.csv", csv_text(results.rows))
        self.write("table.md", results.table.markdown())
        self.write("results.json", json.dumps(found, indent=2, allow_nan=False) + "\n")
        console.print(results.table.rich())
        console.print(f"results: {self.path}", soft_wrap=True)
        console.print(f"as one page: memorax report {shell_path(self.path)}", soft_wrap=True)
        if results.remark:
            console.print(results.remark, soft_wrap=True)
        return results.rows

    def write_report(self) -> Path:
        """Turn a finished study into ``report.html``, a single page with its plots inside.

        Raises:
            ValueError: If the study has not finished, or its results cannot be read.
        """
        config = self.config()
        with reading_results(self, self.resume) as found:
            page = self.page(config, found)
        return write_page(self, page.title, page.summary, page.sections, self.plots)
