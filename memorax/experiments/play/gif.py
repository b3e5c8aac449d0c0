"""Episodes as an animated picture."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from memorax.experiments.files.output import check_output
from memorax.experiments.play.episode import Activity, Episode, Moment, activity
from memorax.experiments.play.terminal import step_text

MOST_UNITS = 64
HEIGHT = 240
"""Of the task's picture and of the memory's, in pixels."""
MEMORY_WIDTH = 320
MOST_TEXT_WIDTH = 480
MARGIN, LINE, LETTER, TEXT_LETTER = 10, 18, 12, 20
BACKGROUND, INK = "white", "black"
MOST_FRAMES_PER_SECOND = 50
"""Viewers show none faster."""


def write_gif(episodes: list[Episode], model: str, path: Path, frames_per_second: int) -> None:
    """Write a picture with a frame for each step: the task beside the memory up to that step.

    A task that does not draw is shown as text.

    Args:
        episodes: The episodes, one after the other.
        model: Whose memory it is.
        path: The file.
        frames_per_second: Steps of a second.

    Raises:
        ValueError: As ``check_output``.
    """
    check_output(path, ".gif")
    size = _size(episodes)
    first, *rest = (frame for episode in episodes for frame in _frames(episode, model, size))
    partial = path.with_name(f".{path.stem}.partial.gif")
    duration = round(1000 / frames_per_second)
    first.save(partial, save_all=True, append_images=rest, duration=duration, loop=0)
    os.replace(partial, path)


def _frames(episode: Episode, model: str, size: tuple[int, int]) -> Iterator[Image.Image]:
    shown = activity(episode.memory, MOST_UNITS)
    for index in range(len(episode.moments)):
        # So many colours are enough, and a GIF has no more.
        yield _frame(episode, index, shown, model, size).quantize(256)


def _frame(
    episode: Episode, index: int, shown: Activity, model: str, size: tuple[int, int]
) -> Image.Image:
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    right = size[0] - MEMORY_WIDTH - MARGIN

    def write(column, line, text):
        draw.text((column, line), text, INK, _font())

    write(MARGIN, MARGIN, episode.task)
    write(right, MARGIN, f"memory of {model}")
    picture = _picture(episode.moments[index])
    top = MARGIN + LINE
    canvas.paste(picture, (MARGIN + (right - 3 * MARGIN - picture.width) // 2, top))
    canvas.paste(_heat(shown, index), (right, top))
    below = top + HEIGHT + MARGIN // 2
    write(MARGIN, below, step_text(episode, index, "  "))
    for line, part in enumerate(shown.caption.split(", ")):
        write(right, below + line * LINE, part)
    return canvas


def _picture(moment: Moment) -> Image.Image:
    if moment.frame is None:
        return _text_picture(moment.text)
    frame = Image.fromarray(moment.frame)
    resampling = Image.Resampling.NEAREST if frame.height < HEIGHT else Image.Resampling.LANCZOS
    return frame.resize((round(frame.width * HEIGHT / frame.height), HEIGHT), resampling)


def _text_picture(text: str) -> Image.Image:
    font = _font(TEXT_LETTER)
    _, _, width, height = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox(
        (0, 0), text, font
    )
    picture = Image.new("RGB", (math.ceil(width), math.ceil(height)), BACKGROUND)
    ImageDraw.Draw(picture).multiline_text((0, 0), text, INK, font)
    picture.thumbnail((MOST_TEXT_WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return picture


def _heat(shown: Activity, index: int) -> Image.Image:
    """Return units as rows and all of the episode's steps as columns, those to come left white."""
    picture = Image.new("RGB", (MEMORY_WIDTH, HEIGHT), BACKGROUND)
    if shown.shares.size:
        colors = colormaps["viridis"](np.nan_to_num(shown.shares), bytes=True)[..., :3].copy()
        colors[np.isnan(shown.shares)] = colors[:, index + 1 :] = 255
        heat = Image.fromarray(colors).resize(picture.size, Image.Resampling.NEAREST)
        picture.paste(heat)
    return picture


def _size(episodes: list[Episode]) -> tuple[int, int]:
    """Return the size of all frames: that of the widest."""
    widths = []
    for episode in episodes:
        widths += [_picture(moment).width for moment in episode.moments]
        lines = [step_text(episode, index, "  ") for index in range(len(episode.moments))]
        widths += [math.ceil(_font().getlength(line)) for line in (episode.task, *lines)]
    width = 4 * MARGIN + max(widths) + MEMORY_WIDTH
    return width, 2 * MARGIN + 3 * LINE + HEIGHT


def _font(size: int = LETTER) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")
    return ImageFont.truetype(path, size)
