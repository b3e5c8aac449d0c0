"""The configuration of a sweep."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal

import tyro

from memorax.experiments.files.fields import from_fields
from memorax.experiments.run.config import (
    AlgorithmConfig,
    TrainConfig,
    read_config,
    run_from_fields,
    to_fields,
)
from memorax.experiments.study.search_space import Domain, RealRange, parse_search
from memorax.installed_package import install_command, is_installed
from memorax.validation import check_integer, check_positive, unknown_name

METHODS = "random", "grid", "optuna"
PRUNERS = "median", "halving"
DEFAULT_TRIALS = 16
MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Search:
    """What to search, and how."""

    search: tuple[str, ...] = ()
    """What to try, for any option of a run and its algorithm: flag=log:LOW:HIGH,
    flag=uniform:LOW:HIGH, flag=int:LOW:HIGH or flag=value,value,..."""
    method: Literal["random", "grid", "optuna"] = "random"
    """Draw each trial at random, go through all combinations, or let Optuna's tree-structured
    Parzen estimator learn from the trials before."""
    num_trials: int | None = None
    """How many trials; None: 16, or all combinations of a grid."""
    trials_at_once: int = 4
    """Trials that train at the same time, in one program where they differ in real numbers only;
    optuna proposes as many at once."""
    prune: Literal["median", "halving"] | None = None
    """Stop trials early that do worse than the median of those before, or, with optuna, all but the
    best share by successive halving; None: let every trial finish."""


@dataclass(frozen=True)
class SweepConfig(Search, Generic[AlgorithmConfig]):
    """What to search, how, and the settings that all trials share.

    Raises:
        ValueError: If an option cannot be searched like that, or others do not fit each other.
    """

    train: Annotated[TrainConfig[AlgorithmConfig], tyro.conf.OmitArgPrefixes] = field(
        default_factory=lambda: TrainConfig(memoryless_twin=False)
    )
    """The settings that all trials share."""

    def __post_init__(self):
        """Check the fields."""
        for name, choices in (("method", METHODS), ("prune", (None, *PRUNERS))):
            if getattr(self, name) not in choices:
                known = [choice for choice in choices if choice]
                raise ValueError(unknown_name(name, getattr(self, name), known))
        if self.train.memoryless_twin:
            raise ValueError(
                "a trial trains one memory: leave out --memoryless-twin, and search torso=gru,mlp "
                "to see what memory is worth"
            )
        check_positive("trials_at_once", self.trials_at_once)
        space = self.space
        if self.num_trials is not None:
            check_integer("num_trials", self.num_trials, 1, MOST_TRIALS)
        if self.prune == "halving" and self.method != "optuna":
            raise ValueError(f"prune 'halving' is optuna's, got method {self.method!r}")
        if self.method == "grid":
            self._check_grid(space)

    def _check_grid(self, space: dict[str, Domain]) -> None:
        trials = math.prod(map(len, grid_axes(space)))
        if trials > MOST_TRIALS:
            raise ValueError(
                f"a grid must have {MOST_TRIALS} trials at most, got {trials}: let method "
                "random or optuna draw from it"
            )
        if self.num_trials is not None:
            raise ValueError(
                f"num_trials is for random and optuna: a grid has all of its {self.trials} trials"
            )

    @property
    def space(self) -> dict[str, Domain]:
        """The domain of each searched option, by its flag."""
        return parse_search(self.search, self.train)

    @property
    def trials(self) -> int:
        """How many trials there are."""
        if self.method == "grid":
            return math.prod(map(len, grid_axes(self.space)))
        return self.num_trials or DEFAULT_TRIALS


def grid_axes(space: Mapping[str, Domain]) -> list[Sequence[Any]]:
    """Return all values of each option.

    Raises:
        ValueError: If there are too many to go through them.
    """
    axes = []
    for flag, domain in space.items():
        if isinstance(domain, RealRange):
            raise ValueError(
                f"a grid has values, not real numbers between others: give {flag} as "
                "value,value,... or let method random or optuna draw it"
            )
        axes.append(domain.values)
    return axes


def check_method_installed(config: SweepConfig[Any]) -> None:
    """Check that what proposes trials is installed.

    Raises:
        ModuleNotFoundError: If it is not; the extra to install is named.
    """
    if config.method == "optuna" and not is_installed("optuna"):
        raise ModuleNotFoundError(f"method 'optuna' needs optuna: {install_command('optuna')}")


def to_json(config: SweepConfig[Any]) -> str:
    """Return a configuration as JSON."""
    fields = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    return json.dumps(fields | {"train": to_fields(config.train)}, indent=2) + "\n"


def from_json(path: Path) -> SweepConfig[Any]:
    """Read a configuration back.

    Raises:
        ValueError: If the file does not hold one; the message names what is wrong.
    """
    return read_config(path, "configuration of a sweep", _from_fields, _of_runs)


def _of_runs(fields: Any) -> Any:
    return fields["train"]


def _from_fields(fields: Any) -> SweepConfig[Any]:
    train = run_from_fields(fields.pop("train"))
    return SweepConfig(train=train, **vars(from_fields(Search, fields)))
