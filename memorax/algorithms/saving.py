"""Saving a training state in a file of arrays, and loading it."""

import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

if TYPE_CHECKING:
    from memorax.algorithms.algorithm import Algorithm

DESCRIPTION = "memorax"
FORMAT = 1


def save(path: str | os.PathLike[str], agent: "Algorithm", state: PyTree) -> None:
    """Save a training state, from which ``load`` continues.

    The file is a NumPy archive (``.npz``) of the state's arrays and their names. An existing one is
    replaced at once, when all is written.

    Args:
        path: The file to write.
        agent: The agent whose state it is.
        state: What ``agent.init`` or ``agent.train`` returned, of one seed or of many.

    Raises:
        ValueError: If ``state`` is not one of ``agent``.
        OSError: If the file cannot be written.
    """
    seeds_of("save: state", agent, state)
    path = Path(path)
    leaves = {name: _as_numpy(leaf) for name, leaf in _named(state)}
    description = {
        "format": FORMAT,
        "algorithm": type(agent).__name__,
        "arrays": [[name, _describe(leaf)] for name, leaf in _named(state)],
    }
    arrays = {f"array{index}": leaf for index, leaf in enumerate(leaves.values())}
    text = np.frombuffer(json.dumps(description).encode(), np.uint8)
    with tempfile.NamedTemporaryFile(
        dir=path.absolute().parent, prefix=f".{path.name}.", suffix=".partial", delete=False
    ) as file:
        partial = Path(file.name)
        try:
            np.savez(file, allow_pickle=False, **{DESCRIPTION: text}, **arrays)
            file.flush()
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def load(path: str | os.PathLike[str], agent: "Algorithm") -> Any:
    """Return a training state that ``save`` wrote.

    Nothing in the file is executed: it holds arrays, whose names, shapes and dtypes must be those
    of the agent's state. The agent is made by the code that made the one that was saved, since its
    networks, environment and optimizer are Python objects, which no file can hold without running
    code from it. A run of ``memorax train`` is configured by names alone:
    ``memorax.Policy.load("runs/RUN")`` needs no agent.

    Args:
        path: The file.
        agent: An agent with the same networks, environment and configuration.

    Returns:
        The state, of as many seeds as were saved.

    Raises:
        ValueError: If the file is none that ``save`` wrote, is damaged, or does not fit the agent.
        OSError: If it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                description = json.loads(archive[DESCRIPTION].tobytes())
                if description["format"] != FORMAT:
                    raise ValueError(f"format {description['format']} is not known")
                saved = {str(name): str(words) for name, words in description["arrays"]}
                algorithm = str(description["algorithm"])
                arrays = [archive[f"array{index}"] for index in range(len(saved))]
        # What NumPy, zipfile and JSON raise for bytes that make no sense to them.
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{path} is damaged or was not written by memorax.save: {reason}"
            ) from error
    if algorithm != type(agent).__name__:
        raise ValueError(
            f"{path} holds a state of {algorithm}, and the agent is {type(agent).__name__}"
        )
    like = abstract_state(agent)
    names = [name for name, _ in _named(like)]
    if list(saved) != names:
        different = sorted(set(saved) ^ set(names))
        where = "the file" if different and different[0] in saved else "the agent"
        raise ValueError(
            f"{path} does not fit the agent: only {where} has {different[0]}"
            if different
            else f"{path} does not fit the agent: its arrays are in another order"
        )
    leaves = [
        _as_jax(path, name, array, saved[name], leaf)
        for (name, leaf), array in zip(_named(like), arrays, strict=True)
    ]
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    seeds_of(f"{path}", agent, state)
    return state


def abstract_state(agent: "Algorithm") -> PyTree:
    """Return the shapes and dtypes of an agent's state, of one seed."""
    return jax.eval_shape(agent.init, jax.random.key(0))


def seeds_of(field: str, agent: "Algorithm", state: PyTree) -> int | None:
    """Return how many seeds a state is of, None if it is of one and has no axis for them.

    Args:
        field: What messages call the state.
        agent: The agent whose state it is to be.
        state: The state.

    Raises:
        ValueError: If it is not a state of the agent; the message names what differs.
    """
    like = abstract_state(agent)
    if jax.tree.structure(state) != jax.tree.structure(like):
        raise ValueError(
            f"{field} must be a {type(like).__name__} of this agent, got {type(state).__name__}"
            + (" of another structure" if type(state) is type(like) else "")
        )
    pairs = [
        (name, leaf, wanted)
        for (name, leaf), (_, wanted) in zip(_named(state), _named(like), strict=True)
    ]
    first = pairs[0][1].shape
    seeds = first[: len(first) - len(pairs[0][2].shape)]
    for name, leaf, wanted in pairs:
        if _describe(leaf) != f"{wanted.dtype} {(*seeds, *wanted.shape)}" or len(seeds) > 1:
            raise ValueError(
                f"{field} does not fit the agent: {name} is {_describe(leaf)}, and the agent's is "
                f"{_describe(wanted)}"
            )
    return seeds[0] if seeds else None


def _named(state: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype} {leaf.shape}"


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_numpy(leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    # NumPy's files know no bfloat16 and its like.
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def _as_jax(path: Path, name: str, array: np.ndarray, saved: str, leaf: Any) -> Any:
    like = np.asarray(jax.random.key_data(jax.random.key(0))) if _is_key(leaf) else leaf
    if like.dtype.kind == "V" and array.dtype == np.dtype(f"u{like.dtype.itemsize}"):
        array = array.view(like.dtype)
    if array.dtype != like.dtype:
        raise ValueError(
            f"{path} does not fit the agent: {name} is {saved}, and the agent's is "
            f"{_describe(leaf)}"
        )
    return jax.random.wrap_key_data(jnp.asarray(array)) if _is_key(leaf) else jnp.asarray(array)
