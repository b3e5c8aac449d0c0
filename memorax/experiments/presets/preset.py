"""Presets: complete settings that are known to learn, a file of data each."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

from memorax.experiments.files.fields import from_fields, read_json, reading
from memorax.validation import unknown_name

FOLDER = Path(str(resources.files("memorax.experiments.presets"))) / "settings"
"""A preset is ``NAME.json`` in here; ``benchmarks/make_preset.py`` makes one out of a run."""


@dataclass(frozen=True)
class Reached:
    """The measured returns of one model with a preset.

    Attributes:
        model: The torso's name.
        seed_returns: Each seed's mean return on fresh episodes, with the most likely actions.
        sampled_return: With sampled actions; None if that was not measured.
        best_return: The best mean return while training, mean over seeds; likewise.
    """

    model: str
    seed_returns: tuple[float, ...]
    sampled_return: float | None
    best_return: float | None


@dataclass(frozen=True)
class Measured:
    """The measured returns of a preset.

    Attributes:
        date: When, as YYYY-MM-DD.
        reached: Each model's returns.
    """

    date: str
    reached: tuple[Reached, ...]

    def __post_init__(self):
        """Check the fields."""
        date.fromisoformat(self.date)
        if not self.reached:
            raise ValueError("reached must have at least one model, got none")


@dataclass(frozen=True)
class Preset:
    """A complete setting, with its measured returns.

    Attributes:
        name: Its name.
        description: Its purpose, in a sentence.
        settings: Fields of ``TrainConfig``, as ``config.json`` has them.
        measured: The measured returns.
    """

    name: str
    description: str
    settings: dict[str, Any]
    measured: Measured

    @property
    def algorithm(self) -> str:
        """The algorithm's name."""
        return self.settings["algorithm"]["name"]

    @property
    def command(self) -> str:
        """The command that shows it."""
        return f"memorax train --preset {self.name}"


def names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def presets() -> Iterator[Preset]:
    """Read all presets."""
    return map(load, names())


def load(name: str) -> Preset:
    """Read a preset.

    Raises:
        ValueError: If there is no preset of that name; the closest are named.
    """
    if name not in names():
        raise ValueError(unknown_name("preset", name, names()))
    path = FOLDER / f"{name}.json"
    with reading(path, "preset"):
        fields = read_json(path)
        measured = from_fields(Measured, fields.pop("measured"))
        return Preset(name=name, measured=measured, **fields)
