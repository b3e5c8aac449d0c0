"""A dashboard of training in the terminal."""

from collections.abc import Sequence

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from memorax.algorithms.progress import means_over_updates
from memorax.experiments.loggers.logger import LoggedModel, Metrics
from memorax.experiments.loggers.progress_bar import advance, progress_line

BARS = "▁▂▃▄▅▆▇█"
SPARKLINE_WIDTH = 60


class Dashboard:
    """A dashboard: progress, speed, returns so far, and the latest value of every metric.

    A metric's mean over the latest chunk is shown as mean, minimum and maximum over seeds.

    Args:
        logged: The logged model.
    """

    def __init__(self, logged: LoggedModel):
        self._progress = progress_line(logged)
        self._returns: list[float] = []
        self._live = Live(self._progress, console=logged.console, refresh_per_second=4)
        self._live.start()

    def log(self, steps: Sequence[int], metrics: Metrics, seconds: float) -> None:
        """Show that some updates have finished."""
        advance(self._progress, steps, metrics, seconds)
        seeds = {name: means_over_updates(values) for name, values in metrics.items()}
        known = seeds["episode_return"][~np.isnan(seeds["episode_return"])]
        if known.size:
            self._returns.append(float(known.mean()))
        self._live.update(Group(self._progress, *self._sparkline(), _table(steps[-1], seeds)))

    def flush(self) -> None:
        """Do nothing: what is shown is not kept."""

    def close(self) -> None:
        """Leave the dashboard's last state standing."""
        self._live.stop()

    def _sparkline(self) -> list[Text]:
        if not self._returns:
            return []
        low, high = min(self._returns), max(self._returns)
        return [Text(f"return {low:.2f} {sparkline(self._returns)} {high:.2f}")]


def sparkline(values: Sequence[float], width: int = SPARKLINE_WIDTH) -> str:
    """Return a curve as a line of text, from its lowest point to its highest.

    Args:
        values: The curve; neighbours are averaged if there are more than ``width``.
        width: The most characters.
    """
    points = np.array([part.mean() for part in np.array_split(values, min(len(values), width))])
    low, high = points.min(), points.max()
    share = (points - low) / (high - low) if high > low else np.full(len(points), 0.5)
    return "".join(BARS[round(level)] for level in share * (len(BARS) - 1))


def _table(step: int, seeds: dict[str, np.ndarray]) -> Table:
    """Show every metric that some seed has."""
    table = Table(box=None, pad_edge=False)
    table.add_column(f"step {step:,}")
    for column in ("mean", "least seed", "greatest seed"):
        table.add_column(column, justify="right")
    for name, values in sorted(seeds.items()):
        known = values[~np.isnan(values)]
        if known.size:
            numbers = known.mean(), known.min(), known.max()
            table.add_row(name, *(f"{number:.4g}" for number in numbers))
    return table
