"""The commands ``memorax compare``, ``memorax sweep`` and ``memorax report``."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic

import tyro

from memorax.catalog.algorithms import ALGORITHMS, DEFAULT_ALGORITHM
from memorax.catalog.environments import check_environment_name
from memorax.experiments.cli.errors import BadInputError, input_checked, train_to_end
from memorax.experiments.cli.parsing import (
    ALGORITHM,
    PRESET,
    check_preset_algorithm,
    check_same_algorithm,
    parse,
    take_algorithm_and_preset,
    take_preset,
)
from memorax.experiments.files.fields import differences
from memorax.experiments.files.lock import lock
from memorax.experiments.presets.preset import Preset
from memorax.experiments.run.config import AlgorithmConfig, TrainConfig
from memorax.experiments.run.console import make_console, resume_command, waiting_line
from memorax.experiments.run.options import Devices
from memorax.experiments.run.preset import with_preset
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.comparison_config import with_preset as compare_with_preset
from memorax.experiments.study.sweep_config import SweepConfig


@dataclass(frozen=True)
class Compare:
    """Train several memories, with several algorithms, on several tasks, and compare them.

    All seeds of a model train at once. The table has interquartile means with 95 % stratified
    bootstrap intervals.
    """

    config: Annotated[CompareConfig, tyro.conf.arg(name="")]
    comparison_folder: Path | None = None
    """Where to keep the comparison; None: comparisons/TIME. A folder that exists is refused."""
    resume: bool = False
    """Resume the comparison in --comparison-folder where it stopped, with the configuration it
    has; runs that have finished stay as they are."""
    devices: Annotated[Devices, tyro.conf.OmitArgPrefixes] = dataclasses.field(
        default_factory=Devices
    )


@dataclass(frozen=True)
class Sweep(Generic[AlgorithmConfig]):
    """Search the options that a memory learns best with, in trials that are a run each.

    --search names options of 'memorax train' and what to try: learning-rate=log:1e-4:1e-2
    gae-lambda=0.9,0.95,0.99 features=int:16:64. All other options are the same in every trial.
    """

    config: Annotated[SweepConfig[AlgorithmConfig], tyro.conf.OmitArgPrefixes]
    sweep_folder: Path | None = None
    """Where to keep the sweep; None: sweeps/TIME. A folder that exists is refused."""
    resume: bool = False
    """Resume the sweep in --sweep-folder where it stopped, with the configuration it has; trials
    that have ended stay as they are."""
    devices: Annotated[Devices, tyro.conf.OmitArgPrefixes] = dataclasses.field(
        default_factory=Devices
    )


@dataclass(frozen=True)
class Report:
    """Turn a finished comparison or sweep into report.html, one page with its tables and plots."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of the comparison or sweep."""
    influence: bool = False
    """Draw what each memory of a comparison keeps: how strongly the input of each step of an
    episode moves later outputs. It takes some seconds for each run."""


def run_compare(arguments: list[str]) -> int:
    """Run ``memorax compare`` and return its exit code."""
    preset, arguments = take_preset(arguments)
    default = Compare(compare_with_preset(CompareConfig(), preset))
    options = parse(Compare, "memorax compare", arguments, default, (PRESET,))
    with input_checked():
        if not options.resume:
            for environment in options.config.environments:
                check_environment_name(environment.split()[0])
            _check_algorithms(options.config, default.config, preset)
    from memorax.experiments.study.comparison import ComparisonFolder

    def again(folder: Any) -> CompareConfig:
        default = Compare(compare_with_preset(folder.config(), preset))
        given = parse(Compare, "memorax compare", arguments, default).config
        _check_algorithms(given, default.config, preset)
        return given

    return _run(ComparisonFolder, options, options.comparison_folder, again)


def run_sweep(arguments: list[str]) -> int:
    """Run ``memorax sweep`` and return its exit code."""
    algorithm, preset, arguments = take_algorithm_and_preset(arguments)
    kind = ALGORITHMS[algorithm or DEFAULT_ALGORITHM].config
    default = Sweep(SweepConfig(train=_trial(TrainConfig(algorithm=kind()), preset)))
    options = parse(Sweep[kind], "memorax sweep", arguments, default, (PRESET, ALGORITHM))
    with input_checked():
        if not options.resume:
            check_environment_name(options.config.train.environment)
    from memorax.experiments.study.sweep import SweepFolder

    def again(folder: Any) -> SweepConfig[Any]:
        stored = folder.config()
        name = stored.train.algorithm_name
        check_same_algorithm(name, algorithm, folder.path / "config.json")
        default = Sweep(dataclasses.replace(stored, train=_trial(stored.train, preset)))
        return parse(Sweep[ALGORITHMS[name].config], "memorax sweep", arguments, default).config

    return _run(SweepFolder, options, options.sweep_folder, again)


def _trial(train: TrainConfig, preset: Preset | None) -> TrainConfig:
    """Return the settings that all trials share, with those of a preset: one memory each."""
    return dataclasses.replace(with_preset(train, preset), memoryless_twin=False)


def _check_algorithms(config: CompareConfig, default: CompareConfig, preset: Preset | None) -> None:
    """Check that every algorithm that has options given is compared, and is the preset's."""
    if preset is not None:
        for name in config.algorithms:
            check_preset_algorithm(preset, name)
    for name in (name for name in ALGORITHMS if name not in config.algorithms):
        changed = next(differences(getattr(default, name), getattr(config, name), f"{name}."), None)
        if changed:
            raise BadInputError(f"{name} is not among algorithms, and {changed}")


def _run(kind: Any, options: Any, path: Path | None, again: Callable[[Any], Any]) -> int:
    """Train the trials of a new study, or of one that is resumed, and return the exit code.

    Args:
        kind: The kind of folder that it has.
        options: The command's options.
        path: The folder; None: a new one, named by the time.
        again: Returns the configuration that the command line asks for, with what is in the folder
            of a resumed study as its defaults.
    """
    from memorax.experiments.cli.compilation_cache import enable_compilation_cache
    from memorax.experiments.study.runner import check_trials, run_study

    with input_checked():
        if options.resume:
            if path is None:
                raise BadInputError(
                    f"--resume needs --{kind.study}-folder, the {kind.study} to resume"
                )
            folder = kind.open(path)
            config = folder.config()
            kind.check_installed(config)
            changed = ", ".join(differences(config, again(folder)))
            if changed:
                raise BadInputError(
                    f"a {kind.study} resumes with the configuration it has: in "
                    f"{folder.path / 'config.json'} {changed}"
                )
        else:
            config = options.config
            check_trials(kind, config)
            folder = kind.create(path, config)
    enable_compilation_cache()
    console = make_console()
    resume = resume_command(folder.resume, folder.path)
    with lock(folder.path, folder.kind):
        return train_to_end(
            lambda: run_study(folder, config, options.devices, console), resume, console
        )


def run_report(arguments: list[str]) -> int:
    """Run ``memorax report`` and return its exit code."""
    options = parse(Report, "memorax report", arguments)
    from memorax.experiments.study.comparison import ComparisonFolder
    from memorax.experiments.study.sweep import SweepFolder

    with input_checked():
        if SweepFolder.is_at(options.folder):
            if options.influence:
                raise ValueError(f"--influence is for comparisons, got the sweep {options.folder}")
            folder = SweepFolder.open(options.folder)
        else:
            folder = ComparisonFolder.open(options.folder)
            if options.influence:
                _draw_influences(folder)
        print(folder.write_report())
    return 0


def _draw_influences(folder: Any) -> None:
    """Draw what the memory of each run keeps, unless it was drawn before."""
    from memorax.experiments.cli.compilation_cache import enable_compilation_cache
    from memorax.experiments.play.influence import draw_influence
    from memorax.experiments.study.comparison import influence_path

    enable_compilation_cache()
    console = make_console()
    for trial in folder.finished_trials(folder.config()):
        path = influence_path(trial)
        if not path.exists():
            with waiting_line(console, f"measuring {trial.title}"):
                draw_influence(trial.folder.path, path)
