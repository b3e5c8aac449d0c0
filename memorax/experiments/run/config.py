"""The configuration of a run."""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args

import tyro

from memorax.catalog.algorithms import ALGORITHMS, DEFAULT_ALGORITHM, algorithm_name
from memorax.catalog.environments import unnamed_suite
from memorax.experiments.files.fields import from_fields, read_json, reading
from memorax.experiments.files.trust import check_import, check_imports
from memorax.experiments.files.write_errors import OnWriteError
from memorax.experiments.loggers.registry import check_names
from memorax.experiments.presets.names import (
    ENCODERS,
    POLICY_HEADS,
    VALUE_HEADS,
    check_encoder_features,
)
from memorax.experiments.presets.torsos import (
    check_torso_options,
    find_torso,
    num_layers_help,
    registering_modules,
)
from memorax.experiments.run.options import OptionalFlag
from memorax.validation import (
    LARGEST,
    check_between,
    check_integer,
    check_range,
    find_name,
    unknown_name,
)

MOST_STEPS = 2**32 - 1
# Larger than any machine can hold, so that typing errors are refused.
MOST_FEATURES = 2**16
MOST_LAYERS = 64
LONGEST_MEMORY = 10**6
MOST_SEEDS = 2**16
MOST_EPISODES = 2**20
DEMO_ENVIRONMENT = "gymnax::MemoryChain-bsuite"
DEMO_PARAMETERS = ("memory_length=24",)


NAMED = {"policy_head": POLICY_HEADS, "value_head": VALUE_HEADS, "encoder": ENCODERS}
"""Options that are names, and their choices."""

OF_THE_OPTIMIZER = (
    *("learning_rate", "recurrence_learning_rate_scale"),
    *("anneal_learning_rate", "max_gradient_norm"),
)
"""Options of the optimizer, which not every algorithm takes."""

AlgorithmConfig = TypeVar("AlgorithmConfig")
AnyConfig = TypeVar("AnyConfig")


@dataclass(frozen=True)
class Subject:
    """What to train, and on what."""

    environment: str = DEMO_ENVIRONMENT
    """The task, as suite::name."""
    environment_parameters: tuple[str, ...] | None = None
    """The task's own parameters, as name=value name=value ...; None: memory_length=24 for the
    demo's task, nothing for others."""
    torso: str = "gru"
    """The memory, one of those that 'memorax list torsos' lists; mlp has none."""


@dataclass(frozen=True)
class Settings:
    """How to train, and for how long. The defaults are those of the demo.

    Raises:
        ValueError: If a value is out of its range, or a head is unknown.
    """

    features: int = 64
    """Width of the feature extractor and the torso."""
    encoder: str = "auto"
    """What reads the observation: auto chooses by its shape, mlp flattens it; minatar, nature and
    impala (CNNs) and vit read pictures."""
    num_layers: Annotated[int | None, tyro.conf.arg(help=num_layers_help())] = None
    memory_horizon: float | None = None
    """Steps that the longest memory lasts before any training: sets the first biases of gates, and
    the first decays of most other torsos that have one; None: each torso's own."""
    head_features: int | None = None
    """Width of the hidden layer in each head, 0 for none; None: as wide as the torso, or, in a
    critic, as in the algorithm's paper."""
    shared_memory: OptionalFlag = None
    """Let actor and critic share one encoder and torso; False: each has its own; None: they share
    where the algorithm can."""
    gradient_checkpointing: bool = False
    """Compute the torso's inside again in the backward pass instead of keeping it, segment by
    segment of time: long sequences take less memory and more time."""
    show_episode_start: bool = True
    """Show the networks a flag at the first step of an episode."""
    policy_head: str | None = None
    """How to act: categorical, gaussian, squashed_gaussian or deterministic; None: what the
    algorithm and the actions call for."""
    value_head: str | None = None
    """How to value, one of those that 'memorax list heads' lists for the algorithm; None: the
    algorithm's own."""
    value_range: tuple[float, float] = (-10.0, 10.0)
    """The least and the greatest value that heads of a distribution (hl_gauss_v_network,
    c51_q_network) can represent."""
    previous_inputs: bool = False
    """Also show the networks the previous action and reward, as in RL²."""
    learning_rate: float = 1e-3
    """Adam's step size, at the beginning if it is annealed."""
    recurrence_learning_rate_scale: float = 1.0
    """Factor on the learning rate of the recurrence's own parameters (decays, phases and step
    sizes, as of lru, s5 and mamba2), which S5's and the LRU's authors train more slowly."""
    anneal_learning_rate: bool = True
    """Bring the learning rate to zero, linearly, over the run."""
    max_gradient_norm: float = 0.5
    """Scale gradients down to this norm, over all parameters together."""
    total_steps: int = 307_200
    """Environment steps of each seed, rounded up to whole updates."""
    num_seeds: int = 3
    """Agents that are trained together, with different random numbers."""
    seed: int = 0
    """Seed of all random numbers."""
    evaluation_episodes: int = 256
    """Fresh episodes that each seed plays at the end, with its most likely actions, and again with
    sampled ones."""
    evaluation_steps: int = 100_000
    """Steps after which the episodes of an evaluation are truncated; their return so far counts,
    and their number is reported."""
    checkpoint_every: int = 100_000
    """Environment steps between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the last checkpoints to keep, besides the one with the best return."""
    on_write_error: OnWriteError = "stop"
    """What to do when a file cannot be written, such as on a full disk: stop the run, or report it
    and continue."""
    loggers: tuple[str, ...] = ("csv", "tensorboard", "progress")
    """Where metrics go, any of csv (always written), jsonl, tensorboard, wandb and mlflow, and
    progress or dashboard in the terminal."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules of your own to import first, which register memories or tasks; stored with what is
    trained, for every command that reads it takes --import as well."""

    def __post_init__(self):
        """Check the fields."""
        for name, choices in NAMED.items():
            if getattr(self, name) is not None:
                # The dataclass is frozen; files and titles use one spelling of a name.
                object.__setattr__(self, name, find_name(name, getattr(self, name), choices))
        check_encoder_features(self.encoder, self.features)
        for name, most in {
            "features": MOST_FEATURES,
            "num_layers": MOST_LAYERS,
            "total_steps": MOST_STEPS,
            "num_seeds": MOST_SEEDS,
            "evaluation_episodes": MOST_EPISODES,
            "evaluation_steps": LARGEST,
            "checkpoint_every": MOST_STEPS,
            "keep_checkpoints": LARGEST,
        }.items():
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 1, most)
        if self.head_features is not None:
            check_integer("head_features", self.head_features, 0, MOST_FEATURES)
        if self.memory_horizon is not None:
            check_between("memory_horizon", self.memory_horizon, 2.0, LONGEST_MEMORY)
        check_between("recurrence_learning_rate_scale", self.recurrence_learning_rate_scale, 0.0)
        for name in ("learning_rate", "max_gradient_norm"):
            check_between(name, getattr(self, name), 0.0)
        if not self.max_gradient_norm:
            raise ValueError(
                f"max_gradient_norm must be greater than 0, got {self.max_gradient_norm}"
            )
        check_range("value_range", *self.value_range)
        if self.on_write_error not in get_args(OnWriteError):
            raise ValueError(
                unknown_name("on_write_error", self.on_write_error, get_args(OnWriteError))
            )
        check_integer("seed", self.seed, 0, 2**32 - 1)
        check_names(self.loggers)


# A dataclass lists the fields of its last base first.
@dataclass(frozen=True)
class TrainConfig(Settings, Subject, Generic[AlgorithmConfig]):
    """What to train, on what, and for how long. The defaults are the demo.

    Raises:
        ValueError: If a value is out of its range, or the torso or a head is unknown.
    """

    algorithm: AlgorithmConfig = field(default_factory=ALGORITHMS[DEFAULT_ALGORITHM].config)
    """The algorithm's own configuration."""
    memoryless_twin: bool = True
    """Also train the same network with an MLP for its torso, to see what memory is worth."""

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        if not all(self.environment.partition("::")):
            raise ValueError(unnamed_suite(self.environment))
        algorithm: Any = self.algorithm
        if algorithm.num_envs * algorithm.num_steps > LARGEST:
            raise ValueError(
                f"num_envs * num_steps must be {LARGEST} at most, got "
                f"num_envs={algorithm.num_envs}, num_steps={algorithm.num_steps}"
            )
        object.__setattr__(self, "torso", find_torso(self.torso))
        imports = dict.fromkeys((*self.imports, *registering_modules([self.torso])))
        object.__setattr__(self, "imports", tuple(imports))
        check_torso_options(
            *(self.torso, self.features, self.num_layers, self.memory_horizon),
            self.recurrence_learning_rate_scale,
        )
        self._check_heads()
        self._check_optimizer()
        if self.gradient_checkpointing and self.torso == "mlp":
            raise ValueError(
                "gradient_checkpointing needs a torso with memory, since mlp learns from single "
                "steps, not from sequences, got True"
            )
        given = set()
        for assignment in self.environment_parameters or ():
            name, equals, value = assignment.partition("=")
            if not (name and equals and value):
                raise ValueError(f"environment_parameters must be name=value, got {assignment!r}")
            if name in given:
                raise ValueError(f"environment_parameters must give each once, got {name!r} twice")
            given.add(name)

    def _check_heads(self) -> None:
        name, entry = self.algorithm_name, ALGORITHMS[self.algorithm_name]
        if self.shared_memory and not entry.shares_memory:
            sharing = ", ".join(name for name, other in ALGORITHMS.items() if other.shares_memory)
            raise ValueError(
                f"shared_memory is an option of {sharing}, whose actor and critic can share a "
                f"memory; {name} cannot, got True"
            )
        if self.policy_head is not None and not entry.policy_heads:
            raise ValueError(
                f"{name} acts by its values and has no policy_head, got {self.policy_head!r}"
            )
        for option, heads in (
            ("policy_head", entry.policy_heads),
            ("value_head", entry.value_heads),
        ):
            given = getattr(self, option)
            if given is not None and given not in heads:
                raise ValueError(
                    f"{option} of {name} must be one of {', '.join(heads)}, got {given!r}"
                )

    def _check_optimizer(self) -> None:
        name = self.algorithm_name
        if ALGORITHMS[name].has_optimizer:
            return
        defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
        for option in OF_THE_OPTIMIZER:
            if getattr(self, option) != defaults[option]:
                others = ", ".join(other for other in ALGORITHMS if ALGORITHMS[other].has_optimizer)
                raise ValueError(
                    f"{option} is an option of {others}; {name} has no optimizer and sets its own "
                    f"steps, got {getattr(self, option)}"
                )

    @property
    def algorithm_name(self) -> str:
        """The algorithm's name."""
        return algorithm_name(self.algorithm)

    @property
    def parsed_environment_parameters(self) -> dict[str, int | float | bool | str]:
        """The task's parameters by name, numbers as numbers, true and false as what they are."""
        assignments = self.environment_parameters
        if assignments is None:
            assignments = DEMO_PARAMETERS if self.environment == DEMO_ENVIRONMENT else ()
        pairs = (assignment.partition("=") for assignment in assignments)
        return {name: _parse_value(value) for name, _, value in pairs}

    @property
    def task(self) -> str:
        """The environment with its parameters, for titles."""
        parameters = self.parsed_environment_parameters.items()
        return " ".join([self.environment, *(f"{name}={value}" for name, value in parameters)])

    @property
    def models(self) -> tuple[str, ...]:
        """The torsos that the run trains, the memoryless twin last."""
        if self.memoryless_twin and self.torso != "mlp":
            return (self.torso, "mlp")
        return (self.torso,)


def _parse_value(text: str) -> int | float | bool | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def to_json(config: TrainConfig) -> str:
    """Return a configuration as JSON."""
    return json.dumps(to_fields(config), indent=2, allow_nan=False) + "\n"


def to_fields(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration as what JSON can hold."""
    fields = dataclasses.asdict(config)
    fields["algorithm"] = {"name": config.algorithm_name} | fields["algorithm"]
    return without_empty_imports(fields)


def without_empty_imports(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields without those of ``imports`` where there are none, as for most."""
    return {name: value for name, value in fields.items() if name != "imports" or value}


def from_json(path: Path) -> TrainConfig:
    """Read a configuration back.

    Raises:
        ValueError: If the file does not hold one; the message names what is wrong.
    """
    return read_config(path, "configuration of a run", run_from_fields)


def read_config(
    path: Path,
    what: str,
    from_fields: Callable[[Any], AnyConfig],
    of_runs: Callable[[Any], Any] = lambda fields: fields,
) -> AnyConfig:
    """Read a configuration, after the modules that its names may come from.

    Args:
        path: Its ``config.json``.
        what: The kind of contents, for messages.
        from_fields: Returns the configuration from the contents.
        of_runs: Returns the part of the contents that lists the modules.

    Raises:
        ValueError: If the file does not hold one, or a module is not to be imported; the message
            names what is wrong.
    """
    with reading(path, what):
        fields = read_json(path)
        listing = of_runs(fields)
    imports = listing.get("imports") if isinstance(listing, dict) else None
    if isinstance(imports, list):
        check_imports(path, [module for module in imports if isinstance(module, str)])
    with reading(path, what):
        return from_fields(fields)


def run_from_fields(fields: Any) -> TrainConfig:
    """Return a configuration from the result of ``to_fields``, checked as in ``from_json``.

    Raises:
        ValueError: If it is none, or KeyError if it has no algorithm.
    """
    algorithm = fields["algorithm"].pop("name")
    fields.setdefault("imports", [])
    if not isinstance(algorithm, str):
        raise ValueError(f"algorithm/name must be a text, got {algorithm!r}")
    if algorithm not in ALGORITHMS:
        raise ValueError(unknown_name("algorithm", algorithm, ALGORITHMS))
    config = from_fields(TrainConfig, fields, {"algorithm": ALGORITHMS[algorithm].config})
    check_import(config.environment)
    return config
