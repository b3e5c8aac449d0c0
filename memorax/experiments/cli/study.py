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
from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.presets.preset import Preset
from memorax.experiments.run.config import AlgorithmConfig, TrainConfig
from memorax.experiments.run.console import make_console, resume_command, waiting_line
from memorax.experiments.run.options import Devices
from memorax.experiments.run.preset import with_preset
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.comparison_config import with_preset as compare_with_preset
from memorax.experiments.study.sweep_config import SweepConfig, check_method_installed


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
    from memorax.experiments.study import comparison
    from memorax.experiments.study.comparison import ComparisonFolder

    with input_checked():
        if options.resume:
            folder = _open(ComparisonFolder, options.comparison_folder)
            default = Compare(compare_with_preset(folder.config(), preset))
            given = parse(Compare, "memorax compare", arguments, default).config
            _check_algorithms(given, default.config, preset)
            config = _resume(folder, given)
        else:
            config = options.config
            _check_algorithms(config, default.config, preset)
            comparison.check_runs(config)
            folder = ComparisonFolder.create(options.comparison_folder, config)
    return _run(comparison.compare, config, options.devices, folder)


def run_sweep(arguments: list[str]) -> int:
    """Run ``memorax sweep`` and return its exit code."""
    algorithm, preset, arguments = take_algorithm_and_preset(arguments)
    kind = ALGORITHMS[algorithm or DEFAULT_ALGORITHM].config
    default = Sweep(SweepConfig(train=_trial(TrainConfig(algorithm=kind()), preset)))
    options = parse(Sweep[kind], "memorax sweep", arguments, default, (PRESET, ALGORITHM))
    with input_checked():
        if not options.resume:
            check_environment_name(options.config.train.environment)
    from memorax.experiments.study import sweep
    from memorax.experiments.study.sweep import SweepFolder

    with input_checked():
        if options.resume:
            folder = _open(SweepFolder, options.sweep_folder)
            stored = folder.config()
            check_method_installed(stored)
            check_installed(stored.train.loggers)
            name = stored.train.algorithm_name
            check_same_algorithm(name, algorithm, folder.path / "config.json")
            default = Sweep(dataclasses.replace(stored, train=_trial(stored.train, preset)))
            given = parse(
                Sweep[ALGORITHMS[name].config], "memorax sweep", arguments, default
            ).config
            config = _resume(folder, given)
        else:
            config = options.config
            sweep.check_trials(config)
            folder = SweepFolder.create(options.sweep_folder, config)
    return _run(sweep.sweep, config, options.devices, folder)


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


def _open(kind: Any, path: Path | None) -> Any:
    if path is None:
        raise BadInputError(f"--resume needs --{kind.study}-folder, the {kind.study} to resume")
    return kind.open(path)


def _resume(folder: Any, given: Any) -> Any:
    """Return the configuration of a study that is resumed.

    Args:
        folder: Its folder.
        given: The configuration that the command line asks for.

    Raises:
        BadInputError: If that is another one.
    """
    stored = folder.config()
    changed = ", ".join(differences(stored, given))
    if changed:
        raise BadInputError(
            f"a {folder.study} resumes with the configuration it has: in "
            f"{folder.path / 'config.json'} {changed}"
        )
    return stored


def _run(study: Callable[..., Any], config: Any, devices: Devices, folder: Any) -> int:
    from memorax.experiments.cli.compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    console = make_console()
    resume = resume_command(folder.resume, folder.path)
    with lock(folder.path, folder.kind):
        return train_to_end(lambda: study(config, devices, folder, console), resume, console)


def run_report(arguments: list[str]) -> int:
    """Run ``memorax report`` and return its exit code."""
    options = parse(Report, "memorax report", arguments)
    from memorax.experiments.study import comparison, sweep
    from memorax.experiments.study.comparison import ComparisonFolder
    from memorax.experiments.study.sweep import SweepFolder

    with input_checked():
        if SweepFolder.is_at(options.folder):
            if options.influence:
                raise ValueError(f"--influence is for comparisons, got the sweep {options.folder}")
            print(sweep.write_report(SweepFolder.open(options.folder)))
            return 0
        folder = ComparisonFolder.open(options.folder)
        if options.influence:
            _draw_influences(folder)
        print(comparison.write_report(folder))
    return 0


def _draw_influences(folder: Any) -> None:
    """Draw what the memory of each run keeps, unless it was drawn before."""
    from memorax.experiments.cli.compilation_cache import enable_compilation_cache
    from memorax.experiments.play.influence import draw_influence

    enable_compilation_cache()
    console = make_console()
    for run in folder.finished_runs():
        path = folder.influence_path(run)
        if not path.exists():
            with waiting_line(console, f"measuring {run.model} on {run.task}"):
                draw_influence(folder.path / run.path, path)
