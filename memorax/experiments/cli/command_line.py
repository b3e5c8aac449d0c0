"""The command ``memorax``."""

import contextlib
import dataclasses
import io
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal

import jax
import tyro
from rich.console import Console
from rich.text import Text

from memorax.cache_folder import user_cache_folder
from memorax.distribution import conflict
from memorax.environments import process_failure
from memorax.environments.processes.pool import EnvironmentProcessError
from memorax.experiments.cli.doctor import doctor
from memorax.experiments.cli.listing import matching_names, suites_table
from memorax.experiments.cli.reported_errors import hide_reported_errors
from memorax.experiments.files.fields import UnreadableError
from memorax.experiments.files.lock import FolderInUseError, lock
from memorax.experiments.files.write_errors import WriteFailedError
from memorax.experiments.loggers.registry import check_installed
from memorax.experiments.play.episode import Player
from memorax.experiments.play.terminal import show
from memorax.experiments.presets.encoders import report as report_encoder
from memorax.experiments.run.checkpoints import CheckpointError, Choice
from memorax.experiments.run.config import ALGORITHMS, AlgorithmConfig, TrainConfig, to_json
from memorax.experiments.run.console import make_console, resume_command
from memorax.experiments.run.devices import Devices, make_mesh, one_device
from memorax.experiments.run.evaluation import table
from memorax.experiments.run.export import export
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.policy import load_step
from memorax.experiments.run.processes import (
    Processes,
    connect,
    create_run_folder,
    failing_at_once,
    lock_run_folder,
    open_run_folder,
    out_of_memory,
)
from memorax.experiments.run.program import Program
from memorax.experiments.run.recorder import DivergedError
from memorax.experiments.run.training import (
    EnvironmentFailedError,
    TerminatedError,
    evaluate_model,
    make_agents,
    restore,
    run,
)
from memorax.experiments.study.comparison import ComparisonFolder, check_cells, compare
from memorax.experiments.study.comparison import write_report as write_comparison_report
from memorax.experiments.study.comparison_config import CompareConfig
from memorax.experiments.study.folder import differences
from memorax.experiments.study.sweep import SweepFolder, check_trials, sweep
from memorax.experiments.study.sweep import write_report as write_sweep_report
from memorax.experiments.study.sweep_config import SweepConfig, check_method_installed
from memorax.validation import check_positive, check_whole, unknown_name

_OVERVIEW = """usage: memorax COMMAND [OPTIONS]

Memory for reinforcement learning agents, in JAX.

commands:
  train          train a memory on a task, beside its memoryless twin
  evaluate       repeat the evaluation of a finished run
  play           watch an agent play, beside the activity of its memory
  export         write a trained agent's step as a program that runs without memorax
  compare        train several memories on several tasks, and put them into one table
  sweep          search the options that a memory learns best with
  report         turn a comparison or a sweep into a single page
  environments   list suites, and the tasks that match a pattern
  doctor         describe this machine and what is installed, for reports of bugs

'memorax COMMAND --help' lists the options of a command."""


@dataclass(frozen=True)
class Train(Generic[AlgorithmConfig]):
    """Train a memory network, and its twin without memory, and compare them.

    --algorithm NAME chooses among ppo (the default), dqn, r2d2, pqn and sac; the options of the
    chosen one are listed here.
    """

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


@dataclass(frozen=True)
class Evaluate:
    """Load a run's checkpoint and let every seed play the run's evaluation episodes."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    evaluation_episodes: int | None = None
    """Fresh episodes of each seed; None: as many as the run itself played, the same ones."""
    evaluation_steps: int | None = None
    """Steps after which episodes that have not ended are cut off; None: as in the run itself."""
    checkpoint: Choice = "last"
    """The last one, or the best: that with the greatest mean return before it."""


@dataclass(frozen=True)
class Play:
    """Watch an agent play: what it sees and does, beside its memory's activity over time."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    model: str | None = None
    """The torso's name; None: the run's own, not its memoryless twin."""
    seed: int = 0
    """Which of the run's seeds."""
    first_episode: int = 0
    """Episodes are numbered; every agent that plays one begins it alike."""
    episodes: int = 1
    """How many."""
    max_steps: int = 500
    """Cut episodes off after so many steps."""
    output: Path | None = None
    """Also write an animated picture, a new file that ends in .gif."""
    frames_per_second: int = 5
    """Steps shown of a second."""
    terminal: bool = True
    """Show it here."""


@dataclass(frozen=True)
class Export:
    """Write an agent's deterministic step as a program that runs without memorax.

    The folder has the program, signature.json with the names, shapes and dtypes of what it takes
    and returns, and initial_carry.npz.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    output: Path | None = None
    """The folder to make; None: RUN/export-FORMAT. One that exists is refused."""
    format: Literal["stablehlo", "onnx"] = "stablehlo"
    """StableHLO, by jax.export for cpu, cuda and tpu, or ONNX."""
    model: str | None = None
    """The torso's name; None: the run's own, not its memoryless twin."""
    seed: int = 0
    """Which of the run's seeds."""
    checkpoint: Choice = "last"
    """The last one, or the best: that with the greatest mean return before it."""


@dataclass(frozen=True)
class Compare:
    """Train several memories, with several algorithms, on several tasks, and compare them.

    All seeds of a model train at once. The table tells interquartile means with 95 % stratified
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
    --algorithm NAME chooses among ppo (the default), dqn, r2d2, pqn and sac.
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
    """Turn a finished comparison or sweep into report.html, a single page with all of it inside."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder of the comparison or sweep."""


@dataclass(frozen=True)
class Environments:
    """List the suites of environments, what is installed, and the tasks that match a pattern."""

    pattern: Annotated[str | None, tyro.conf.Positional] = None
    """A part of a task's name, or its whole with * and ?, such as 'popgym::*Easy'."""


@dataclass(frozen=True)
class Doctor:
    """Describe this machine, what is installed, and how fast the demo trains, as plain text.

    It takes a minute: every suite is imported, and ten updates of the demo are compiled and run.
    The exit code is 0 if training works here, else 1.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    It is 0 when all went well, 1 when something failed on the way, 2 for bad input, 130 after
    Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.

    Args:
        arguments: What follows ``memorax``; None: those of the process.
    """
    hide_reported_errors()
    if (problem := conflict()) is not None:
        print(f"memorax: {problem}", file=sys.stderr)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "evaluate": _evaluate,
        "play": _play,
        "export": _export,
        "compare": _compare,
        "sweep": _sweep,
        "report": _report,
        "environments": _environments,
        "doctor": _doctor,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_OVERVIEW)
        return 0 if arguments else 2
    name, *rest = arguments
    try:
        if name not in commands:
            raise BadInputError(unknown_name("command", name, commands))
        return commands[name](rest)
    except (BadInputError, CheckpointError, FolderInUseError, UnreadableError) as error:
        print(f"memorax: error: {error}", file=sys.stderr)
        return 2
    except WriteFailedError as error:
        print(f"memorax: error: {error}", file=sys.stderr)
        return 1
    except jax.errors.JaxRuntimeError as error:
        failure = out_of_memory(error) or process_failure(error)
        if failure is None:
            raise
        print(f"memorax: error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("memorax: stopped at once; the last checkpoint is kept", file=sys.stderr)
        return 130


class BadInputError(Exception):
    """Something that the user can put right, told in one line."""


def _train(arguments: list[str]) -> int:
    algorithm, arguments = _take_algorithm(arguments)
    kind = ALGORITHMS[algorithm or "ppo"]
    default = Train(TrainConfig(algorithm=kind()))
    options = _parse(Train[kind], "memorax train", arguments, default)
    if options.resume:
        options = _resume(options, algorithm, arguments)
    _enable_compilation_cache()
    try:
        check_installed(options.config.loggers)
        connect(options.processes, options.run_folder)
        agents = make_agents(options.config)
        mesh = make_mesh(options.devices, options.config, agents)
        if options.resume and options.run_folder:
            folder = open_run_folder(options.run_folder, options.config)
        else:
            folder = create_run_folder(options.run_folder, options.config)
        held = lock_run_folder(folder)
    except (ValueError, ModuleNotFoundError) as error:
        raise BadInputError(error) from error
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
    console.print(reader, markup=False, highlight=False, soft_wrap=True)

    def begin():
        with failing_at_once(expected=(DivergedError, EnvironmentFailedError, TerminatedError)):
            return run(options.config, agents, mesh, folder, console)

    resume = resume_command("memorax train --run-folder", folder.path)
    with held:
        _extend(folder, options.config, console)
        return _to_its_end(begin, resume, console)


def _play(arguments: list[str]) -> int:
    # Not at the top: pictures take a while, and no other command needs them.
    from memorax.experiments.play.gif import (  # noqa: PLC0415
        MOST_FRAMES_PER_SECOND,
        check_output,
        write_gif,
    )

    options = _parse(Play, "memorax play", arguments)
    console = make_console()
    try:
        check_whole("first_episode", options.first_episode, 0, 2**31 - 1)
        check_positive("episodes", options.episodes)
        check_positive("max_steps", options.max_steps)
        check_whole("frames_per_second", options.frames_per_second, 1, MOST_FRAMES_PER_SECOND)
        if options.output is not None:
            check_output(options.output)
        elif not options.terminal:
            raise ValueError("--no-terminal leaves nothing to be seen but by --output")
        step = load_step(options.run, options.model, options.seed)
        config = RunFolder.open(options.run).config()
        player = Player(step, config.task, draw=options.output is not None)
        played = []
        # Episodes are shown when all have been played.
        with console.status("playing") as status:
            for number in range(options.first_episode, options.first_episode + options.episodes):

                def show_step(step, number=number):
                    status.update(
                        f"playing episode {number}: step {step:,} of at most {options.max_steps:,}"
                    )

                key = jax.random.fold_in(jax.random.key(0), number)
                played.append(player.play(key, options.max_steps, show_step))
    except (ValueError, ModuleNotFoundError, EnvironmentProcessError) as error:
        raise BadInputError(error) from error
    model = options.model or config.torso
    if options.terminal:
        show(played, model, console, options.frames_per_second)
    if options.output is not None:
        if played[0].moments[0].frame is None:
            console.print(f"{played[0].task} does not draw: it is shown as text")
        write_gif(played, model, options.output, options.frames_per_second)
        console.print(f"picture: {options.output}", soft_wrap=True)
    return 0


def _to_its_end(begin: Callable[[], Any], resume: str, console: Console) -> int:
    """Return the exit code of what trains; it returns None if Ctrl-C has interrupted it."""
    code = 130
    try:
        if begin() is not None:
            return 0
    except TerminatedError as stopped:
        code = 128 + stopped.number
    except (DivergedError, EnvironmentFailedError) as error:
        print(f"memorax: error: {error}", file=sys.stderr)
        return 1
    console.print(f"resume with: {resume}", soft_wrap=True)
    return code


def _export(arguments: list[str]) -> int:
    options = _parse(Export, "memorax export", arguments)
    output = options.output or options.run / f"export-{options.format}"
    try:
        step = load_step(options.run, options.model, options.seed, options.checkpoint)
        print(export(step, options.format, output))
    except (ValueError, ModuleNotFoundError) as error:
        raise BadInputError(error) from error
    return 0


def _take_algorithm(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take ``--algorithm NAME`` out of the arguments: it decides what the others may be."""
    rest, name = list(arguments), None
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--algorithm":
            taken = 1 if equals else 2
            name = value if equals else "".join(arguments[index + 1 : index + 2])
            rest = arguments[:index] + arguments[index + taken :]
            break
    if name is not None and name not in ALGORITHMS:
        raise BadInputError(unknown_name("algorithm", name, ALGORITHMS))
    return name, rest


def _resume(options: Train, algorithm: str | None, arguments: list[str]) -> Train:
    """Take the configuration of the run; options that contradict it are refused.

    More steps in total do not contradict it.
    """
    if options.run_folder is None:
        raise BadInputError("--resume needs --run-folder, the run to resume")
    try:
        stored = RunFolder.open(options.run_folder).config()
    except ValueError as error:
        raise BadInputError(error) from error
    if algorithm not in (None, stored.algorithm_name):
        changed = f"algorithm is {stored.algorithm_name!r}, got {algorithm!r}"
    else:
        kind = type(stored.algorithm)
        resumed = _parse(Train[kind], "memorax train", arguments, Train(stored))
        same_steps = dataclasses.replace(resumed.config, total_steps=stored.total_steps)
        changed = ", ".join(differences(stored, same_steps))
        if not changed and resumed.config.total_steps >= stored.total_steps:
            return resumed
        changed = ", ".join(differences(stored, resumed.config))
    raise BadInputError(
        f"a run resumes with the configuration it has, and total_steps can only grow: in "
        f"{options.run_folder / 'config.json'} {changed}"
    )


def _extend(folder: RunFolder, config: TrainConfig, console: Console) -> None:
    """Keep a configuration that trains a run for more steps than the one it has."""
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


def _evaluate(arguments: list[str]) -> int:
    options = _parse(Evaluate, "memorax evaluate", arguments)
    _enable_compilation_cache()
    try:
        folder = RunFolder.open(options.run)
        config = folder.config()
        for name in ("evaluation_episodes", "evaluation_steps"):
            if (value := getattr(options, name)) is not None:
                config = dataclasses.replace(config, **{name: value})
        agents = make_agents(config)
        states = {
            name: restore(config, name, agent, folder, options.checkpoint)
            for name, agent in agents.items()
        }
    except (ValueError, ModuleNotFoundError) as error:
        raise BadInputError(error) from error
    console = make_console()
    evaluations = [
        evaluation
        for name, agent in agents.items()
        # Nothing but Ctrl-C interrupts it here, which ends the command.
        if (
            evaluation := evaluate_model(
                Program(one_device(), config, name, agent), name, states[name], console
            )
        )
    ]
    console.print(table(config, evaluations))
    return 0


def _compare(arguments: list[str]) -> int:
    options = _parse(Compare, "memorax compare", arguments, Compare(CompareConfig()))
    try:
        if options.resume:
            folder, config = _resume_comparison(options, arguments)
        else:
            config = options.config
            check_cells(config)
            folder = ComparisonFolder.create(options.comparison_folder, comparison_to_json(config))
    except (ValueError, ModuleNotFoundError) as error:
        raise BadInputError(error) from error
    _enable_compilation_cache()
    console = make_console()
    resume = resume_command("memorax compare --comparison-folder", folder.path)
    with lock(folder.path, folder.kind):
        return _to_its_end(
            lambda: compare(config, options.devices, folder, console), resume, console
        )


def _resume_comparison(
    options: Compare, arguments: list[str]
) -> tuple[ComparisonFolder, CompareConfig]:
    """Take the configuration of the comparison; options that contradict it are refused."""
    if options.comparison_folder is None:
        raise BadInputError("--resume needs --comparison-folder, the comparison to resume")
    folder = ComparisonFolder.open(options.comparison_folder)
    stored = folder.config()
    given = _parse(Compare, "memorax compare", arguments, Compare(stored)).config
    changed = ", ".join(differences(stored, given))
    if changed:
        raise BadInputError(
            f"a comparison goes on with the configuration it has: in {folder.path / 'config.json'} "
            f"{changed}"
        )
    return folder, stored


def _sweep(arguments: list[str]) -> int:
    algorithm, arguments = _take_algorithm(arguments)
    kind = ALGORITHMS[algorithm or "ppo"]
    default = Sweep(SweepConfig(train=TrainConfig(algorithm=kind(), memoryless_twin=False)))
    options = _parse(Sweep[kind], "memorax sweep", arguments, default)
    try:
        if options.resume:
            folder, config = _resume_sweep(options, algorithm, arguments)
        else:
            config = options.config
            check_trials(config)
            folder = SweepFolder.create(options.sweep_folder, config)
    except (ValueError, ModuleNotFoundError) as error:
        raise BadInputError(error) from error
    _enable_compilation_cache()
    console = make_console()
    resume = resume_command("memorax sweep --sweep-folder", folder.path)
    with lock(folder.path, folder.kind):
        return _to_its_end(lambda: sweep(config, options.devices, folder, console), resume, console)


def _resume_sweep(
    options: Sweep, algorithm: str | None, arguments: list[str]
) -> tuple[SweepFolder, SweepConfig]:
    """Take the configuration of the sweep; options that contradict it are refused."""
    if options.sweep_folder is None:
        raise BadInputError("--resume needs --sweep-folder, the sweep to resume")
    folder = SweepFolder.open(options.sweep_folder)
    stored = folder.config()
    check_method_installed(stored)
    check_installed(stored.train.loggers)
    name = stored.train.algorithm_name
    if algorithm in (None, name):
        kind = ALGORITHMS[name]
        given = _parse(Sweep[kind], "memorax sweep", arguments, Sweep(stored)).config
        changed = ", ".join(differences(stored, given))
    else:
        changed = f"algorithm is {name!r}, got {algorithm!r}"
    if changed:
        raise BadInputError(
            f"a sweep goes on with the configuration it has: in {folder.path / 'config.json'} "
            f"{changed}"
        )
    return folder, stored


def _report(arguments: list[str]) -> int:
    options = _parse(Report, "memorax report", arguments)
    try:
        if SweepFolder.is_at(options.folder):
            print(write_sweep_report(SweepFolder.open(options.folder)))
        else:
            print(write_comparison_report(ComparisonFolder.open(options.folder)))
    except ValueError as error:
        raise BadInputError(error) from error
    return 0


def _environments(arguments: list[str]) -> int:
    options = _parse(Environments, "memorax environments", arguments)
    if options.pattern is None:
        make_console().print(suites_table())
        return 0
    try:
        print("\n".join(matching_names(options.pattern)))
    except ValueError as error:
        raise BadInputError(error) from error
    return 0


def _doctor(arguments: list[str]) -> int:
    _parse(Doctor, "memorax doctor", arguments)
    return doctor()


def _parse(kind: Any, program: str, arguments: list[str], default: Any = None) -> Any:
    """Parse the options of a command, a dataclass; an unknown one is refused in one line."""
    call: dict[str, Any] = {"prog": program}
    if default is not None:
        call["default"] = default
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            options, unknown = tyro.cli(kind, args=arguments, return_unknown_args=True, **call)
    except SystemExit as stop:
        if stop.code == 2:
            raise BadInputError(_unboxed(told.getvalue())) from stop
        raise
    except ValueError as error:
        raise BadInputError(error) from error
    if unknown:
        word = next(filter(_is_positional, dataclasses.fields(options)), None)
        if word and not unknown[0].startswith("-"):
            given = f"'{getattr(options, word.name)}' and {unknown[0]!r}"
            raise BadInputError(f"{program} takes one {word.name}, got {given}")
        flags = ["--help", *_flags(default or kind)]
        raise BadInputError(unknown_name("option", unknown[0], flags))
    return options


def _flags(options: Any, prefix: str = "--") -> Iterator[str]:
    """Name the flags of a dataclass, and of those inside it if it is an instance."""
    for field in itertools.filterfalse(_is_positional, dataclasses.fields(options)):
        inside = getattr(options, field.name, None)
        if dataclasses.is_dataclass(inside):
            # Only a comparison has algorithms side by side.
            yield from _flags(inside, f"--{field.name}." if field.name in ALGORITHMS else prefix)
        else:
            yield f"{prefix}{field.name.replace('_', '-')}"


def _is_positional(field: dataclasses.Field) -> bool:
    return tyro.conf.Positional in getattr(field.type, "__metadata__", ())


def _unboxed(box: str) -> str:
    """Return the first paragraph of an error that tyro has drawn a box around, as one line."""
    lines = [line.strip(" │") for line in box.splitlines()]
    # The title is in the upper edge, or above a line where the terminal has no such characters.
    edge = next(index for index, line in enumerate(lines) if line.startswith(("╭", "---")))
    paragraph = itertools.takewhile(lambda line: line.strip("─-"), lines[edge + 1 :])
    return " ".join(paragraph)


def _enable_compilation_cache() -> None:
    """Keep compiled programs for the next process, unless the user has said where already."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = user_cache_folder()
        if caches is None:
            print(
                "memorax: no compilation cache: there is no home folder; XDG_CACHE_HOME can name "
                "another place",
                file=sys.stderr,
            )
            return
        jax.config.update("jax_compilation_cache_dir", str(caches / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(main())
