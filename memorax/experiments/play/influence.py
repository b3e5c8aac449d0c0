"""What a memory keeps: how strongly the input of each step of an episode moves later outputs."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from memorax.experiments.play.episode import Episode, Player
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.plotting import literal_names, make_panels, save_figure
from memorax.experiments.run.policy import load_step
from memorax.networks import inspect

MOST_STEPS = 128
"""Of an episode; the time of measuring grows with their square."""
SMALLEST_SHARE = 1e-4
"""Of the largest influence, which a picture tells from none."""


def measure_influence(player: Player, episode: Episode) -> Float[np.ndarray, "time time"]:
    """Return the influence on the output of each step (row) of the input of each step (column).

    Args:
        player: Whoever has played the episode.
        episode: The episode, of which the first ``MOST_STEPS`` are measured.
    """
    network, params = player.step.network
    read = jax.tree.map(lambda leaf: jnp.asarray(leaf[:, :MOST_STEPS]), episode.inputs)
    influence = inspect.input_influence(
        network, params, read.observation, read.done, read.action, read.reward
    )
    return np.asarray(influence[0])


@literal_names
def plot_influence(path: Path, influence: Float[np.ndarray, "time time"], title: str) -> None:
    """Draw the influence of each step on each later one, and its mean by steps back.

    Args:
        path: The file, whose suffix is ``.png``.
        influence: As ``measure_influence`` returns it.
        title: What was measured.
    """
    figure, (heat, decay) = make_panels(2)
    steps, largest = len(influence), float(influence.max(initial=0))
    shares = influence / (largest or 1)
    past = np.tril(np.ones_like(shares, bool))
    logarithm = np.log10(np.maximum(shares, SMALLEST_SHARE))
    shown = heat.imshow(
        np.where(past, logarithm, np.nan),
        *("viridis",),
        vmin=np.log10(SMALLEST_SHARE),
        vmax=0,
        interpolation="nearest",
    )
    heat.set_xlabel("step of the input")
    heat.set_ylabel("step of the output")
    heat.set_title(title)
    figure.colorbar(shown, ax=heat, label="influence, powers of 10 of the largest")
    means = np.array([np.diagonal(shares, -back).mean() for back in range(steps)])
    decay.plot(np.where(means > 0, means, np.nan))
    decay.set_yscale("log")
    decay.set_xlabel("steps back")
    decay.set_ylabel("mean influence")
    decay.grid(alpha=0.3)
    save_figure(figure, path)


def draw_influence(run: Path, path: Path) -> None:
    """Draw the influence in the first episode of a run's own model, of its first seed.

    Args:
        run: The run's folder.
        path: The file, whose suffix is ``.png``.

    Raises:
        ValueError: If there is no such run, or no checkpoint.
        ModuleNotFoundError: If the task's suite is not installed.
    """
    config = RunFolder.open(run).config()
    player = Player(load_step(run, None, 0), config.task, draw=False)
    episode = player.play(jax.random.fold_in(jax.random.key(0), 0), MOST_STEPS)
    plot_influence(path, measure_influence(player, episode), f"{config.torso} on {config.task}")
