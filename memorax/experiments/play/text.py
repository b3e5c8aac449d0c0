"""Showing observations as text."""

import math
import string
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from memorax.environments.environment import Frame
from memorax.environments.spaces import Discrete, MultiDiscrete, Space

MOST_BARS, MOST_ROWS, MOST_COLUMNS = 16, 24, 48
BAR_WIDTH = 20
SHADES = "·░▒▓█"
DIGITS = string.digits + string.ascii_lowercase
COLOURS = 1, 3, 4
"""Channels of a picture that is grey or of colours."""
FAR = 1e6
"""Bounds beyond it say nothing about typical values."""


def observation_text(observation: PyTree, space: PyTree) -> str:
    """Return an observation as text.

    A choice is a mark in a row, few numbers are bars, and many are shades. So are pictures, grey or
    of colours; one of categories is digits for each channel, and one of other channels the number
    of the strongest at each place. Several parts stand one below the other, each under its name.

    Args:
        observation: The observation.
        space: The space that it lies in; its bounds, where they are near, are the ends of bars.
    """
    parts = jax.tree.leaves_with_path(space)
    texts = []
    for (path, part), values in zip(parts, jax.tree.leaves(observation), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        texts += [f"{name}:"] if path else []
        texts.append(_array_text(values, part))
    return "\n".join(texts)


def observation_frame(observation: PyTree, space: PyTree) -> Frame | None:
    """Return the first part of an observation that is a picture of bytes, None if there is none."""
    for part, values in zip(jax.tree.leaves(space), jax.tree.leaves(observation), strict=True):
        picture = np.asarray(values)
        if (
            not isinstance(part, Discrete | MultiDiscrete)
            and picture.dtype == np.uint8
            and picture.ndim == 3
            and picture.shape[2] in COLOURS
        ):
            return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[..., :3]
    return None


def _array_text(observation: Any, space: Space) -> str:
    values = np.asarray(observation)
    if isinstance(space, Discrete):
        row = "".join("█" if index == values else "·" for index in range(space.n))
        return f"{values} of {space.n}" + (f"  {row}" if space.n <= MOST_COLUMNS else "")
    if values.ndim == 3 and max(values.shape[:2]) <= MOST_COLUMNS:
        if isinstance(space, MultiDiscrete):
            return _channels(values)
        if values.shape[2] not in COLOURS:
            return _strongest(values)
    values = values.astype(np.float64)
    bounds = np.asarray(space.low), np.asarray(space.high)
    low, high = (np.broadcast_to(bound, space.shape) for bound in bounds)
    near = (np.abs(low) < FAR) & (np.abs(high) < FAR)
    reach = max(1.0, float(np.abs(values).max(initial=0)))
    low, high = np.where(near, low, -reach), np.where(near, high, reach)
    shares = np.clip((values - low) / np.where(high > low, high - low, 1), 0, 1)
    if values.ndim <= 1 and values.size <= MOST_BARS:
        return _bars(values.ravel(), shares.ravel())
    return _shades(shares)


def _channels(values: np.ndarray) -> str:
    """Return a picture of categories: its channels side by side, their numbers above them."""
    _, width, channels = values.shape
    columns = [
        [f"channel {channel}".ljust(width), *("".join(map(_digit, row)) for row in picture)]
        for channel, picture in enumerate(np.moveaxis(values, 2, 0))
    ]
    widest = max(width, len(f"channel {channels - 1}"))
    beside = max(1, (MOST_COLUMNS + 2) // (widest + 2))
    lines = []
    for first in range(0, channels, beside):
        group = columns[first : first + beside]
        lines += [
            "  ".join(cell.ljust(widest) for cell in row).rstrip()
            for row in zip(*group, strict=True)
        ]
    return "\n".join(lines)


def _strongest(values: np.ndarray) -> str:
    """Return the number of the channel that is greatest at each place, · where all are 0."""
    channels = np.where(values.any(axis=2), values.argmax(axis=2), -1)
    lines = [
        "".join("·" if channel < 0 else _digit(channel) for channel in row) for row in channels
    ]
    return "\n".join([*lines, f"the strongest of {values.shape[2]} channels"])


def _digit(value: int | np.integer) -> str:
    return DIGITS[value] if 0 <= value < len(DIGITS) else "#"


def _bars(values: np.ndarray, shares: np.ndarray) -> str:
    lines = []
    for index, (value, share) in enumerate(zip(values, shares, strict=True)):
        filled = round(share * BAR_WIDTH)
        lines.append(f"{index:>2} {value:>10.4g} {'█' * filled}{'·' * (BAR_WIDTH - filled)}")
    return "\n".join(lines)


def _shades(shares: np.ndarray) -> str:
    """Return a picture of at most so many rows and columns; what is larger is averaged."""
    if shares.ndim > 1:
        picture = shares.reshape(*shares.shape[:2], -1).mean(axis=-1)
    else:
        columns = min(len(shares), MOST_COLUMNS)
        rows = math.ceil(len(shares) / columns)
        padding = np.full(rows * columns - len(shares), np.nan)
        picture = np.concatenate([shares, padding]).reshape(rows, columns)
    size = "×".join(map(str, shares.shape))
    whole = picture.size == shares.size or shares.ndim == 1
    for axis, most in enumerate((MOST_ROWS, MOST_COLUMNS)):
        if picture.shape[axis] > most:
            blocks = np.array_split(picture, most, axis=axis)
            picture = np.stack([np.nanmean(block, axis=axis) for block in blocks], axis=axis)
            whole = False
    lines = ["".join(map(_shade, row)) for row in picture]
    return "\n".join([*lines, f"{size} numbers" + ("" if whole else ", averaged")])


def _shade(share: float) -> str:
    return " " if np.isnan(share) else SHADES[round(share * (len(SHADES) - 1))]
