"""The best mean return while training, which POPGym's tables report."""

import numpy as np
from jaxtyping import Float, Int

from memorax.experiments.files.fields import reading
from memorax.experiments.run.folder import RunFolder, number_in, read_metrics
from memorax.validation import check_integer

EPISODES = 100
"""Episodes that a mean is over at least, as in RLlib, by which POPGym's figures were made: of a
few, the greatest mean would be luck."""


def best_mean_return(
    returns: Float[np.ndarray, " updates"], num_episodes: Int[np.ndarray, " updates"]
) -> float:
    """Return the greatest mean return of a seed over training.

    After each update, the mean is over the episodes that ended in it or, if these are fewer than
    100, in the latest updates in which 100 did. A run of fewer episodes has one mean, over all of
    them. Its mean over seeds is POPGym's maximum of the mean episodic reward (MMER).

    Args:
        returns: The mean return of the episodes that ended in each update; NaN where none did.
        num_episodes: How many these are.

    Returns:
        The mean; NaN if no episode ended.

    Source: Morad et al. 2023, "POPGym", arXiv 2303.01859, section 5.
    """
    sums = np.where(num_episodes > 0, returns * num_episodes, 0.0)
    total, counted = (np.concatenate([[0], np.cumsum(values)]) for values in (sums, num_episodes))
    if not counted[-1]:
        return np.nan
    ends = np.flatnonzero(counted >= min(EPISODES, counted[-1]))
    starts = np.searchsorted(counted, counted[ends] - min(EPISODES, counted[-1]), side="right") - 1
    return float(np.max((total[ends] - total[starts]) / (counted[ends] - counted[starts])))


def read_best_returns(folder: RunFolder, model: str, num_seeds: int) -> Float[np.ndarray, " seeds"]:
    """Return the best mean return of each seed of a run's model, from ``metrics.csv``.

    Raises:
        UnreadableError: If the metrics cannot be read.
    """
    seeds: dict[int, list[tuple[float, int]]] = {seed: [] for seed in range(num_seeds)}
    with reading(folder.path / "metrics.csv", "returns of a run"):
        for row in read_metrics(folder):
            if row["model"] == model:
                num_episodes = int(row["num_episodes"])
                check_integer("num_episodes", num_episodes, 0)
                seeds[int(row["seed"])].append((number_in(row["episode_return"]), num_episodes))
    best = []
    for updates in seeds.values():
        returns, num_episodes = zip(*updates, strict=True) if updates else ((), ())
        best.append(best_mean_return(np.array(returns, float), np.array(num_episodes, int)))
    return np.array(best)
