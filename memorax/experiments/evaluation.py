"""How good the agents of a run are, and how sure that is."""

import json
import math
from dataclasses import asdict, dataclass
from functools import partial

import jax
import numpy as np
import scipy.stats
from jax.sharding import Mesh
from jaxtyping import PyTree
from rich.table import Table

from memorax.algorithms import Algorithm
from memorax.algorithms.evaluation import EvaluationReport
from memorax.algorithms.sharding import SEEDS
from memorax.experiments.config import TrainConfig
from memorax.experiments.devices import replicated


@dataclass(frozen=True)
class Evaluation:
    """What one model's agents reached on fresh episodes.

    Attributes:
        model: The torso's name.
        num_parameters: Parameters of actor and critic together.
        carry_bytes: What their memories hold of one environment.
        num_episodes: Episodes of each seed.
        seed_returns: Each seed's mean return.
        mean_return: The mean over seeds.
        low: Lower end of the mean's 95 % bootstrap interval over seeds; NaN for a single seed.
        high: Its upper end.
        num_unfinished: Episodes that the limit on steps cut off, over all seeds.
    """

    model: str
    num_parameters: int
    carry_bytes: int
    num_episodes: int
    seed_returns: list[float]
    mean_return: float
    low: float
    high: float
    num_unfinished: int


def evaluate_model(
    config: TrainConfig,
    model: str,
    agent: Algorithm,
    mesh: Mesh,
    state: PyTree,
    num_episodes: int,
) -> Evaluation:
    """Let every seed play fresh episodes with its most likely actions.

    The episodes depend on the configuration's seed alone, so that every model plays the same and
    a repetition gives the same numbers.
    """

    def play(state):
        keys = evaluation_keys(config)
        evaluate = partial(agent.evaluate, num_episodes=num_episodes)
        return jax.vmap(evaluate, spmd_axis_name=SEEDS)(keys, state)

    with jax.set_mesh(mesh):
        report = jax.jit(play, out_shardings=replicated(mesh))(state)
    return summarize(config, model, state, report)


def summarize(
    config: TrainConfig, model: str, state: PyTree, report: EvaluationReport
) -> Evaluation:
    """Say what agents reached in episodes that they have played.

    Args:
        config: The run's configuration.
        model: The torso's name.
        state: The state of all seeds.
        report: What the evaluation of all seeds saw.
    """
    seed_returns = np.asarray(report.episode_returns, np.float64).mean(axis=-1)
    low, high = bootstrap_interval(seed_returns)
    return Evaluation(
        model=model,
        num_parameters=sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(state.params)),
        carry_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state.carry))
        // (config.num_seeds * config.algorithm.num_envs),
        num_episodes=report.episode_returns.shape[-1],
        seed_returns=seed_returns.tolist(),
        mean_return=float(seed_returns.mean()),
        low=low,
        high=high,
        num_unfinished=int((~np.asarray(report.completed)).sum()),
    )


def evaluation_keys(config: TrainConfig) -> jax.Array:
    """Return the keys that the seeds of a run are evaluated with."""
    return jax.random.split(evaluation_key(config), config.num_seeds)


def evaluation_key(config: TrainConfig) -> jax.Array:
    """Return the key of a run's evaluation, apart from every key that it trains with."""
    return jax.random.fold_in(jax.random.key(config.seed), 2**31)


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean; NaN for fewer than two values.

    The percentile interval, since three seeds are few and often equal, where the bias-corrected
    one is undefined.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    if len(values) < 2:
        return math.nan, math.nan
    result = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=0.95, method="percentile", rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def to_json(evaluations: list[Evaluation]) -> str:
    """Write evaluations down."""
    return json.dumps([asdict(evaluation) for evaluation in evaluations], indent=2) + "\n"


def table(config: TrainConfig, evaluations: list[Evaluation]) -> Table:
    """Show evaluations side by side."""
    seeds = "seed" if config.num_seeds == 1 else "seeds"
    result = Table(
        title=f"{config.task}\n"
        f"{config.num_seeds} {seeds}, {evaluations[0].num_episodes} fresh episodes each, "
        "most likely actions"
    )
    for column in ("torso", "memory", "parameters", "mean return", "95 % interval", "each seed"):
        result.add_column(column, justify="left" if column in ("torso", "memory") else "right")
    for evaluation in evaluations:
        single = math.isnan(evaluation.low)
        interval = "" if single else f"[{evaluation.low:.3f}, {evaluation.high:.3f}]"
        result.add_row(
            evaluation.model,
            "no" if evaluation.model == "mlp" else "yes",
            f"{evaluation.num_parameters:,}",
            f"{evaluation.mean_return:.3f}",
            interval,
            ", ".join(f"{value:.3f}" for value in evaluation.seed_returns),
        )
        if evaluation.num_unfinished:
            result.caption = f"{evaluation.num_unfinished} episodes did not end and count as far "
            result.caption += "as they came"
    return result
