"""Seeing what a network is made of and how far back its memory reaches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from memorax.networks.network import Network
from memorax.networks.sequence_models.base import (
    apply_sequence_model,
    check_sequence_model,
    initialize_carry,
)


@dataclass(frozen=True)
class Part:
    """A part of a network, with all that is inside it.

    Attributes:
        path: The names of the fields that lead to it; ``()`` is the network.
        kind: The name of its class.
        parameters: How many numbers it learns; ``None`` where no parameters were given.
        carry_bytes: What it remembers of one environment.
    """

    path: tuple[str, ...]
    kind: str
    parameters: int | None
    carry_bytes: int


@dataclass(frozen=True)
class Summary:
    """The parts of a network, the network itself first; ``print`` writes it as a table."""

    parts: tuple[Part, ...]

    def __getitem__(self, path: str) -> Part:
        """Return a part by its path, such as ``"torso.cell"``; ``""`` is the network."""
        return {".".join(part.path): part for part in self.parts}[path]

    def __str__(self) -> str:
        """Write a row for each part, indented by its depth."""
        rows = [("part", "kind", "parameters", "carry bytes per environment")]
        for part in self.parts:
            name = "  " * len(part.path) + (part.path[-1] if part.path else "network")
            parameters = "" if part.parameters is None else f"{part.parameters:,}"
            rows.append((name, part.kind, parameters, f"{part.carry_bytes:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = (str.ljust, str.ljust, str.rjust, str.rjust)
        lines = (
            "  ".join(align(cell, width) for align, cell, width in zip(aligned, row, widths))
            for row in rows
        )
        return "\n".join(line.rstrip() for line in lines)
