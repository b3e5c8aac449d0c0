"""Showing episodes in a terminal."""

import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from memorax.experiments.play.episode import Activity, Episode, activity

HEIGHTS = "▁▂▃▄▅▆▇█"
MOST_UNITS = 16
LEAST_TEXT, LEAST_STEPS = 24, 24
"""Columns of the two panels, however narrow the terminal is."""
BORDER = 4
"""Width of a panel's borders, on both sides together."""


def show(
    episodes: list[Episode],
    model: str,
    console: Console,
    frames_per_second: int,
    first_episode: int = 0,
) -> None:
    """Play episodes back, step by step; without a terminal, print a line for each episode.

    Args:
        episodes: The episodes.
        model: Whose memory it is.
        console: Where to show them.
        frames_per_second: Steps of a second.
        first_episode: The number of the first one.
    """
    if not console.is_terminal:
        console.print(f"{episodes[0].task}, memory of {model}", soft_wrap=True)
        for number, episode in enumerate(episodes):
            console.print(f"episode {first_episode + number}: {summary(episode)}", soft_wrap=True)
        console.print("a terminal shows every step, and so does --output NAME.gif")
        return
    with Live(console=console, auto_refresh=False) as live:
        for view in _views(episodes, model, console.width):
            live.update(view, refresh=True)
            time.sleep(1 / frames_per_second)


def summary(episode: Episode) -> str:
    """Describe an episode in a line: its length, its end, its return and its actions."""
    moments = episode.moments
    parts = [
        f"{len(moments)} step{'' if len(moments) == 1 else 's'}",
        "ended" if episode.ended else "truncated",
        f"return {moments[-1].episode_return:.3f}",
    ]
    actions = np.array([moment.action for moment in moments])
    if np.issubdtype(actions.dtype, np.integer) and actions.ndim == 1:
        counts = zip(*np.unique(actions, return_counts=True), strict=True)
        parts.append("actions " + ", ".join(f"{action} ({count}x)" for action, count in counts))
    else:
        low, high = actions.min(), actions.max()
        parts.append(f"actions from {low:.3g} to {high:.3g}")
    return ", ".join(parts)


def _views(episodes: list[Episode], model: str, width: int) -> Iterator[RenderableType]:
    for episode in episodes:
        shown = activity(episode.memory, MOST_UNITS)
        lines = [line for moment in episode.moments for line in moment.text.splitlines()]
        columns = max(LEAST_TEXT, *map(len, lines))
        beside = columns + LEAST_STEPS + 2 * BORDER + 1 <= width
        steps = width - BORDER - (columns + BORDER + 1 if beside else 0)
        for index, moment in enumerate(episode.moments):
            seen = Panel(
                _under(episode.task, Text(moment.text), Text(step_text(episode, index))),
                width=columns + BORDER if beside else None,
            )
            strip = _strip(shown, index, max(LEAST_STEPS, steps))
            remembered = Panel(
                _under(f"memory of {model}", strip, Text(shown.caption)),
                width=steps + BORDER if beside else None,
            )
            if beside:
                view = Table.grid(padding=(0, 1))
                view.add_row(seen, remembered)
                yield view
            else:
                yield Group(seen, remembered)


def _under(title: str, *parts: Text) -> Group:
    """Put parts below a title, which is wrapped where it is wider than its panel, never cut."""
    lines = [Text(title, style="bold")]
    for part in parts:
        lines += [Text(), part]
    return Group(*lines)


def step_text(episode: Episode, index: int, separator: str = "\n") -> str:
    """Describe a step of an episode."""
    moment, last = episode.moments[index], len(episode.moments)
    action = np.array2string(moment.action, precision=3, separator=", ")
    parts = [
        f"step {index + 1} of {last}"
        if episode.ended
        else f"step {index + 1}, truncated at {last}",
        f"action {action}",
        f"reward {moment.reward:.3f}",
        f"return {moment.episode_return:.3f}",
    ]
    return separator.join(parts)


def _strip(shown: Activity, index: int, steps: int) -> Text:
    """Return units as rows and steps as columns, the latest ones up to a step."""
    latest = shown.shares[:, max(0, index + 1 - steps) : index + 1]
    return Text("\n".join("".join(map(_height, row)) for row in latest), no_wrap=True)


def _height(share: float) -> str:
    return " " if np.isnan(share) else HEIGHTS[round(share * (len(HEIGHTS) - 1))]
