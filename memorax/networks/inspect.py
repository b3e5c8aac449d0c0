"""Inspect the parts of a network and how far back its memory reaches."""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from memorax.networks.network import Network
from memorax.networks.sequence_models.base import Carry, apply_sequence_model, initialize_carry

COPIES = {"Stack.blocks": "layers", "MoE.experts": "expert"}
"""Fields whose modules are copied, each with the name that the copies' parameters have."""
SMALLEST_SHARE = 1e-8
"""Of the largest gradient, which a picture shows."""


@dataclass(frozen=True)
class Part:
    """A part of a network, including its own parts.

    Attributes:
        path: The names of the fields that lead to it; ``()`` is the network.
        kind: The name of its class.
        parameters: Number of parameters; ``None`` where none were given.
        carry_bytes: Bytes of its carry for one environment.
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
            name = "  " * len(part.path) + (part.path[-1] if part.path else "all")
            parameters = "" if part.parameters is None else f"{part.parameters:,}"
            rows.append((name, part.kind, parameters, f"{part.carry_bytes:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = [f"{{:{side}{width}}}" for side, width in zip("<<>>", widths, strict=True)]
        return "\n".join("  ".join(aligned).format(*row) for row in rows)


def summary(network: nn.Module, params: PyTree | None = None, depth: int = 3) -> Summary:
    """List a network's parts, each with all that is inside it.

    A part is a module in a field of another part, or in a tuple or dictionary there. Parameters
    that several parts share are counted where they are first, and those of a stack that scans its
    layers at its first layer.

    Args:
        network: A ``Network`` or a sequence model.
        params: What ``network.init`` returns, or only its shapes:
            ``jax.eval_shape(network.init, key, observation)``. How many parameters there are
            depends on what the network reads, so that none are counted without.
        depth: Number of levels of fields to list.

    Returns:
        The parts from the outermost in, to be printed or read.

    Raises:
        ValueError: If ``network`` is not a module or ``params`` are not what ``init`` returns.
    """
    _check_module("summary", network)
    if params is not None:
        if params and "params" not in params:
            raise ValueError(
                f"summary reads params as network.init returns them, got keys {sorted(params)}"
            )
        params = params.get("params", {})
    return Summary(tuple(_parts((), network, params, depth)))


def memory_horizon(
    network: nn.Module,
    params: PyTree,
    inputs: PyTree[Shaped[Array, "batch time ..."]],
    done: Bool[Array, "batch time"] | None = None,
    action: Shaped[Array, "batch time ..."] | None = None,
    reward: Shaped[Array, "batch time"] | None = None,
) -> Float[Array, " time"]:
    """Measure how much a memory's last output depends on its input k steps before.

    With x the inputs and y the outputs::

        horizon[k] = mean over the batch of || dy_T / dx_{T-k} ||      (Frobenius norm)

    Of a ``Network`` it is the torso that is measured, with x the features that it reads, so that
    observations may be of any kind. Takes one backward pass for each feature of y.

    Args:
        network: A ``Network`` or a sequence model.
        params: The parameters, as ``network.init`` returns them.
        inputs: Observations, or the features that a sequence model reads.
        done: True where an input is the first of a new episode; ``None``: none is. What a row
            read before its last episode, it has forgotten: its part in the mean is 0.
        action: The previous actions, for a ``Network`` with an extractor that asks for them.
        reward: The previous rewards, likewise.

    Returns:
        The horizon at each k, from 0, the last input itself, to the first input.

    Raises:
        ValueError: If ``network`` is not a module, or as the network itself when it is called.
    """
    _check_inputs("memory_horizon", network, action, reward)

    @jax.jit
    def horizon(params, features):
        def last_outputs(features):
            return _outputs(network, params, features, done)[:, -1]

        outputs, pull_back = jax.vjp(last_outputs, features)

        def norms_of_one_output(output):
            (gradient,) = pull_back(jnp.zeros_like(outputs).at[:, output].set(1))
            return _norm(gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32)))

        norms = jax.lax.map(norms_of_one_output, jnp.arange(outputs.shape[-1]))
        return _norm(jnp.moveaxis(norms, 0, -1)).mean(axis=0)[::-1]

    return horizon(params, _features(network, params, inputs, done, action, reward))


def input_influence(
    network: nn.Module,
    params: PyTree,
    inputs: PyTree[Shaped[Array, "batch time ..."]],
    done: Bool[Array, "batch time"] | None = None,
    action: Shaped[Array, "batch time ..."] | None = None,
    reward: Shaped[Array, "batch time"] | None = None,
) -> Float[Array, "batch time time"]:
    """Measure how strongly the input of each step moves the output of each step.

    With x the inputs and y the outputs, as for ``memory_horizon``, which is the mean over the batch
    of its last row, read backwards::

        influence[b, t, s] = || dy_t / dx_s ||      (Frobenius norm)

    Takes one backward pass for each step and feature of y: 3,328 of an episode of 52 steps with 64
    features.

    Args:
        network: As ``memory_horizon``.
        params: As ``memory_horizon``.
        inputs: As ``memory_horizon``.
        done: As ``memory_horizon``; what lies before an episode's first step has no influence.
        action: As ``memory_horizon``.
        reward: As ``memory_horizon``.

    Returns:
        The influence on the output of step t of the input of step s; 0 where s is later.

    Raises:
        ValueError: As ``memory_horizon``.
    """
    _check_inputs("input_influence", network, action, reward)

    @jax.jit
    def influence(params, features):
        outputs, pull_back = jax.vjp(
            lambda features: _outputs(network, params, features, done), features
        )

        def norms_of_one_output(index):
            time, output = jnp.divmod(index, outputs.shape[-1])
            (gradient,) = pull_back(jnp.zeros_like(outputs).at[:, time, output].set(1))
            return _norm(gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32)))

        _, time, width = outputs.shape
        norms = jax.lax.map(norms_of_one_output, jnp.arange(time * width))
        # (time of y, feature of y, batch, time of x), the features of y last.
        return _norm(norms.reshape(time, width, *norms.shape[1:]).transpose(2, 0, 3, 1))

    return influence(params, _features(network, params, inputs, done, action, reward))


def _features(network, params, inputs, done, action, reward):
    """Return what the memory reads: of a ``Network`` what its feature extractor makes of inputs."""

    def extract(network, inputs):
        if isinstance(network, Network):
            return network.feature_extractor(inputs, done=done, action=action, reward=reward)
        return inputs

    return nn.apply(extract, network)(params, inputs)


def _outputs(network, params, features, done):
    """Return what the memory makes of features."""

    def read(network, features):
        return apply_sequence_model(_memory(network), features, done)

    return nn.apply(read, network)(params, features)[1]


def plot_memory_horizon(
    horizons: Mapping[str, Float[Array, " time"]], path: str | os.PathLike
) -> None:
    """Draw horizons against steps back, on a logarithmic scale, where 0 has no place.

    What is below a hundred-millionth of the largest is not shown: it is too small to be added to
    that in float32.

    Args:
        horizons: The result of ``memory_horizon`` for each name.
        path: The file of the plot; its suffix selects the format.

    Raises:
        ValueError: If ``horizons`` is empty.
    """
    # Not at the top: networks are imported without it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    if not horizons:
        raise ValueError("plot_memory_horizon needs at least one horizon, got none")
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, horizon in horizons.items():
        axes.plot(np.where(np.asarray(horizon) > 0, horizon, np.nan), label=name)
    axes.set_yscale("log")
    largest = max(float(np.max(horizon)) for horizon in horizons.values())
    if largest > 0:
        axes.set_ylim(SMALLEST_SHARE * largest, 2 * largest)
    axes.set_xlabel("steps back")
    axes.set_ylabel("norm of the last output's gradient")
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    figure.savefig(path, dpi=150)


def attention_weights(
    network: nn.Module,
    params: PyTree,
    inputs: PyTree[Shaped[Array, "batch time ..."]],
    done: Bool[Array, "batch time"] | None = None,
    action: Shaped[Array, "batch time ..."] | None = None,
    reward: Shaped[Array, "batch time"] | None = None,
    initial_carry: Carry | None = None,
) -> dict[str, Float[Array, "... batch heads time window"]]:
    """Return the weights with which every ``SelfAttention`` of a network attends.

    Args:
        network: A ``Network`` or a sequence model.
        params: The parameters, as ``network.init`` returns them.
        inputs: Observations, or the features that a sequence model reads.
        done: True where an input is the first of a new episode; ``None``: none is.
        action: The previous actions, for a ``Network`` with an extractor that asks for them.
        reward: The previous rewards, likewise.
        initial_carry: The carry before the inputs; ``None`` is a fresh one.

    Returns:
        By each attention's path, such as ``"torso"``, its weights: ``weights[b, h, t, k]`` is what
        head h of row b gives at step t to the token k steps before it. They add up to 1 over k;
        a token before the episode has 0. With ``Stack(..., scan_layers=True)`` an axis of layers
        stands in front; an attention that is called several times has an entry for each call,
        such as ``"torso.layers_0[1]"``.

    Raises:
        ValueError: If ``network`` is not a module or has no attention, or as the network itself
            when it is called.
    """
    _check_inputs("attention_weights", network, action, reward)

    def read(network, inputs):
        if isinstance(network, Network):
            return network(inputs, done, action, reward, initial_carry)
        return apply_sequence_model(network, inputs, done, initial_carry)

    _, variables = jax.jit(nn.apply(read, network, mutable=["intermediates"]))(params, inputs)
    sown: Any = flatten_dict(dict(variables.get("intermediates", {})))
    weights = {}
    for path, calls in sown.items():
        if path[-1] == "attention_weights":
            name = ".".join(path[:-1])
            names = [name] if len(calls) == 1 else [f"{name}[{call}]" for call in range(len(calls))]
            weights.update(zip(names, calls, strict=True))
    if not weights:
        raise ValueError(f"attention_weights found no SelfAttention in {type(network).__name__}")
    return weights


def _parts(path: tuple[str, ...], module: Any, params: Any, depth: int) -> Iterator[Part]:
    parameters = None
    if params is not None:
        parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    yield Part(path, type(module).__name__, parameters, _carry_bytes(module))
    if len(path) < depth:
        for name, child in _children(module):
            inner = None if params is None else params.get(name, {})
            yield from _parts((*path, name), child, inner, depth)


def _children(module: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules in the fields of another under the names that Flax gives them."""
    for field in dataclasses.fields(module):
        if field.name in ("parent", "name"):
            continue
        name = COPIES.get(f"{type(module).__name__}.{field.name}", field.name)
        for keys, leaf in jax.tree.leaves_with_path(
            getattr(module, field.name), is_leaf=lambda node: isinstance(node, nn.Module)
        ):
            if isinstance(leaf, nn.Module):
                yield "_".join([name, *(str(_key(key)) for key in keys)]), leaf


def _key(entry: Any) -> Any:
    return entry.idx if isinstance(entry, jax.tree_util.SequenceKey) else entry.key


def _carry_bytes(module: Any) -> int:
    carry = jax.eval_shape(lambda: initialize_carry(_memory(module), jax.random.key(0), (1, 1)))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry))


def _memory(network: Any) -> Any:
    return network.torso if isinstance(network, Network) else network


def _check_module(function: str, network: Any) -> None:
    if not isinstance(network, nn.Module):
        raise ValueError(f"{function} needs a Network or a sequence model, got {network!r}")


def _check_inputs(function: str, network: Any, action: Any, reward: Any) -> None:
    _check_module(function, network)
    if not isinstance(network, Network) and (action is not None or reward is not None):
        raise ValueError(f"{function}: only a Network reads actions and rewards")


def _norm(values: Float[Array, "*axes features"]) -> Float[Array, "*axes"]:
    """Return the norm over the last axis, also where squares would vanish."""
    largest = jnp.abs(values).max(axis=-1, keepdims=True)
    scaled = values / jnp.where(largest > 0, largest, 1)
    return largest[..., 0] * jnp.sqrt(jnp.square(scaled).sum(axis=-1))
