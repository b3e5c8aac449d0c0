"""The configuration of a comparison."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from memorax.catalog.algorithms import ALGORITHMS, DEFAULT_ALGORITHM
from memorax.experiments.files.fields import from_fields
from memorax.experiments.files.trust import check_import
from memorax.experiments.presets.preset import Preset
from memorax.experiments.presets.torsos import find_torso, registering_modules
from memorax.experiments.run.config import (
    DEMO_ENVIRONMENT,
    DEMO_PARAMETERS,
    Settings,
    TrainConfig,
    read_config,
    without_empty_imports,
)
from memorax.experiments.run.preset import with_preset as run_with_preset
from memorax.validation import check_range, find_name


@dataclass(frozen=True)
class Subjects:
    """What to compare, and on what."""

    environments: tuple[str, ...] = (" ".join((DEMO_ENVIRONMENT, *DEMO_PARAMETERS)),)
    """The tasks, each as suite::name; with parameters, quoted: 'suite::name parameter=value'."""
    torsos: tuple[str, ...] = ("gru", "lru", "mlp")
    """The memories, of those that 'memorax list torsos' lists; the first, with the first algorithm,
    is the one that the others are compared with."""
    algorithms: tuple[str, ...] = (DEFAULT_ALGORITHM,)
    """Those of 'memorax list algorithms' to compare; each trains every torso on every task."""
    return_ranges: tuple[tuple[float, float], ...] | None = None
    """The returns that count as a score of 0 and of 1, a pair for each task: LOW HIGH LOW HIGH ...
    Scores can be averaged over tasks, returns cannot; None: there is no score over all tasks."""


AlgorithmConfigs = dataclasses.make_dataclass(
    "AlgorithmConfigs",
    [
        (name, entry.config, dataclasses.field(default_factory=entry.config))
        for name, entry in ALGORITHMS.items()
    ],
    frozen=True,
)
"""The configuration of every algorithm, each in a field of its name."""


# A dataclass lists the fields of its last base first.
@dataclass(frozen=True)
class CompareConfig(AlgorithmConfigs, Settings, Subjects):
    """What to compare, on what, and how it is trained. Every combination is a run of its own.

    Raises:
        ValueError: If a value is out of its range, a name is unknown or given twice.
    """

    def __post_init__(self):
        """Check the fields."""
        super().__post_init__()
        # The dataclass is frozen; files and tables use one spelling of a name.
        object.__setattr__(self, "torsos", tuple(map(find_torso, self.torsos)))
        imports = dict.fromkeys((*self.imports, *registering_modules(self.torsos)))
        object.__setattr__(self, "imports", tuple(imports))
        algorithms = (find_name("algorithm", name, ALGORITHMS) for name in self.algorithms)
        object.__setattr__(self, "algorithms", tuple(algorithms))
        for name in ("environments", "torsos", "algorithms"):
            # Names that differ in spaces only are the same task.
            values = [" ".join(value.split()) for value in getattr(self, name)]
            if not values:
                raise ValueError(f"{name} must name at least one, got none")
            value, times = Counter(values).most_common(1)[0]
            if times > 1:
                raise ValueError(f"{name} must differ from each other, got {value!r} {times} times")
        if any(not environment.split() for environment in self.environments):
            raise ValueError("environments must have names, got an empty one")
        if self.return_ranges is not None:
            self._check_return_ranges(self.return_ranges)
        # Invalid runs are refused before anything is trained.
        list(self.runs)

    def _check_return_ranges(self, return_ranges):
        if len(return_ranges) != len(self.environments):
            raise ValueError(
                f"return_ranges must be a pair for each of {len(self.environments)} environments, "
                f"got {len(return_ranges)}"
            )
        for return_range in return_ranges:
            check_range("return_ranges", *return_range)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models: torsos, with their algorithm if there are several."""
        return tuple(
            self._model(algorithm, torso) for algorithm in self.algorithms for torso in self.torsos
        )

    trials_at_once: ClassVar[int] = 1
    """Trials that train at the same time: every run has a program of its own."""

    @property
    def trials(self) -> int:
        """How many runs there are."""
        return len(self.environments) * len(self.algorithms) * len(self.torsos)

    @property
    def runs(self) -> Iterator["ComparisonRun"]:
        """The runs of the comparison, task by task."""
        settings = _settings(self)
        # Single steps have no segments, and the memories beside them may.
        without_memory: dict[str, Any] = {"gradient_checkpointing": False}
        for environment in self.environments:
            name, *parameters = environment.split()
            for algorithm in self.algorithms:
                for torso in self.torsos:
                    config = TrainConfig(
                        environment=name,
                        environment_parameters=tuple(parameters),
                        torso=torso,
                        algorithm=getattr(self, algorithm),
                        memoryless_twin=False,
                        **settings | (without_memory if torso == "mlp" else {}),
                    )
                    yield ComparisonRun(environment, self._model(algorithm, torso), config)

    def _model(self, algorithm: str, torso: str) -> str:
        return torso if len(self.algorithms) == 1 else f"{algorithm} {torso}"


@dataclass(frozen=True)
class ComparisonRun:
    """One run of a comparison: all seeds of one model on one task.

    Attributes:
        task: The task, as the comparison names it.
        model: The model's name in the comparison.
        config: The run's configuration.
    """

    task: str
    model: str
    config: TrainConfig

    @property
    def path(self) -> Path:
        """The run's folder, relative to the comparison's."""
        return Path("runs", *(re.sub(r"[^\w.=-]+", "-", name) for name in (self.task, self.model)))


def with_preset(config: CompareConfig, preset: Preset | None) -> CompareConfig:
    """Return a comparison with the task, the algorithm and the settings of a preset.

    The torsos stay as they are: they are what is compared.

    Args:
        config: The comparison.
        preset: The preset; None: the comparison stays as it is.
    """
    if preset is None:
        return config
    algorithm = getattr(config, preset.algorithm)
    run = run_with_preset(TrainConfig(algorithm=algorithm, **_settings(config)), preset)
    return dataclasses.replace(
        config,
        environments=(run.task,),
        algorithms=(preset.algorithm,),
        **{preset.algorithm: run.algorithm},
        **_settings(run),
    )


def _settings(config: Settings) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(Settings)}


def to_json(config: CompareConfig) -> str:
    """Return a configuration as JSON, without the algorithms that are not compared."""
    fields = without_empty_imports(dataclasses.asdict(config))
    fields = {
        name: value
        for name, value in fields.items()
        if name not in ALGORITHMS or name in config.algorithms
    }
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"


def from_json(path: Path) -> CompareConfig:
    """Read a configuration back.

    Raises:
        ValueError: If the file does not hold one; the message names what is wrong.
    """
    return read_config(path, "configuration of a comparison", _from_fields)


def _from_fields(fields: Any) -> CompareConfig:
    fields.setdefault("imports", [])
    compared = fields.get("algorithms")
    # Files of earlier versions hold those that are not compared, too, and not those added since.
    not_compared = {
        name: dataclasses.asdict(entry.config())
        for name, entry in ALGORITHMS.items()
        if isinstance(compared, list) and name not in compared
    }
    config = from_fields(CompareConfig, fields | not_compared)
    for environment in config.environments:
        check_import(environment.split()[0])
    return config
