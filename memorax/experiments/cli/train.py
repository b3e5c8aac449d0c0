"""The command ``memorax train``."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic

import tyro
from rich.console import Console
from rich.text import Text

from memorax.catalog.algorithms import ALGORITHMS, DEFAULT_ALGORITHM
from memorax.catalog.environments import check_environment_name
from memorax.experiments.cli.errors import BadInputError, input_checked, train_to_end
from memorax.experiments.cli.parsing import (
    ALGORITHM,
    PRESET,
    check_same_algorithm,
    parse,
    take_algorithm_and_preset,
)
from memorax.experiments.files.fields import differences
from memorax.experiments.files.write_errors import WriteFailedError
from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.presets.preset import Preset
from memorax.experiments.run.config import AlgorithmConfig, TrainConfig, to_json
from memorax.experiments.run.console import make_console, resume_command
from memorax.experiments.run.failures import (
    DivergedError,
    EnvironmentFailedError,
    TerminatedError,
)
from memorax.experiments.run.options import Devices, Processes
from memorax.experiments.run.preset import with_preset

EXPECTED = DivergedError, EnvironmentFailedError, TerminatedError
"""Exceptions that all processes of a run raise together."""


@dataclass(frozen=True)
class Train(Generic[AlgorithmConfig]):
    """Train a memory network, and its twin without memory, and compare them."""

    config: Annotated[TrainConfig[AlgorithmConfig], tyro.conf.OmitArgPrefixes]
    run_folder: Path | None = None
    """Where to keep the run; None: runs/TASK-TORSO-TIME. A folder that exists is refused."""
    resume: bool = False
    """Resume the run in --run-folder where it stopped, with the configuration it has; a greater
    --total-steps trains it further."""
    devices: Annotated[Devices, tyro.conf.OmitArgPrefixes] = dataclasses.field(
        default_factory=Devices
    )
    processes: Annotated[Processes, tyro.conf.OmitArgPrefixes] = dataclasses.field(
        default_factory=Processes
    )


def run(arguments: list[str]) -> int:
    """Run ``memorax train`` and return its exit code."""
    algorithm, preset, arguments = take_algorithm_and_preset(arguments)
    kind = ALGORITHMS[algorithm or DEFAULT_ALGORITHM].config
    default = Train(with_preset(TrainConfig(algorithm=kind()), preset))
    options = parse(Train[kind], "memorax train", arguments, default, (PRESET, ALGORITHM))
    with input_checked():
        if not options.resume:
            check_environment_name(options.config.environment)
    if options.resume:
        options = _resume(options, algorithm, preset, arguments)
    return _train(options)


def _train(options: Train[Any]) -> int:
    import jax

    from memorax.experiments.cli.compilation_cache import enable_compilation_cache
    from memorax.experiments.presets.encoders import report as report_encoder
    from memorax.experiments.run import training
    from memorax.experiments.run.devices import make_mesh
    from memorax.experiments.run.processes import (
        connect,
        create_run_folder,
        exit_on_failure,
        lock_run_folder,
        open_run_folder,
    )

    enable_compilation_cache()
    with input_checked():
        check_installed(options.config.loggers)
        connect(options.processes, options.run_folder)
        agents = training.make_agents(options.config)
        mesh = make_mesh(options.devices, options.config, agents)
        if options.resume and options.run_folder:
            folder = open_run_folder(options.run_folder, options.config)
        else:
            folder = create_run_folder(options.run_folder, options.config)
        held = lock_run_folder(folder)
    console = make_console(quiet=not folder.writes)
    console.print(
        Text("memorax", style="bold"),
        f"{options.config.task}, {options.config.num_seeds} seed(s), "
        f"torso {' and twin '.join(options.config.models)}, "
        f"{mesh.size} of {jax.device_count()} device(s)",
    )
    agent = next(iter(agents.values()))
    space = agent.env.observation_space(agent.env_params)
    reader = report_encoder(options.config.encoder, space, options.config.features)
    for line in (reader, *agent.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def train():
        with exit_on_failure(expected=EXPECTED):
            return training.run(options.config, agents, mesh, folder, console)

    resume = resume_command("memorax train --run-folder", folder.path)
    with held:
        _extend(folder, options.config, console)
        return train_to_end(train, resume, console)


def _resume(
    options: Train, algorithm: str | None, preset: Preset | None, arguments: list[str]
) -> Train:
    """Take the configuration of the run; options that contradict it are refused.

    More steps in total do not contradict it.
    """
    from memorax.experiments.run.folder import RunFolder

    if options.run_folder is None:
        raise BadInputError("--resume needs --run-folder, the run to resume")
    with input_checked():
        stored = RunFolder.open(options.run_folder).config()
    check_same_algorithm(stored.algorithm_name, algorithm, options.run_folder / "config.json")
    kind = type(stored.algorithm)
    default = Train(with_preset(stored, preset))
    resumed = parse(Train[kind], "memorax train", arguments, default)
    same_steps = dataclasses.replace(resumed.config, total_steps=stored.total_steps)
    changed = ", ".join(differences(stored, same_steps))
    if not changed and resumed.config.total_steps >= stored.total_steps:
        return resumed
    changed = ", ".join(differences(stored, resumed.config))
    raise BadInputError(
        f"a run resumes with the configuration it has, and total_steps can only grow: in "
        f"{options.run_folder / 'config.json'} {changed}"
    )


def _extend(folder: Any, config: TrainConfig, console: Console) -> None:
    """Store the configuration of a run that is extended to more steps."""
    before = folder.config().total_steps
    if config.total_steps == before:
        return
    try:
        folder.write("config.json", to_json(config))
    except OSError as error:
        raise WriteFailedError(f"config.json could not be written: {error}") from error
    console.print(f"total_steps: {before:,} until now, {config.total_steps:,} from now on")
    if config.anneal_learning_rate:
        console.print("the learning rate falls to zero over all of them: it is above zero again")
