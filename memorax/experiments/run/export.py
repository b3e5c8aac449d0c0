"""Taking a trained agent to where memorax is not."""

import json
import logging
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from memorax.algorithms.policy import PolicyStep
from memorax.environments import Discrete, MultiDiscrete
from memorax.environments.spaces import Space
from memorax.experiments.run.onnx_operators import in_real_operators
from memorax.experiments.run.verification import as_rows, check_acts_alike
from memorax.installed_package import install_command
from memorax.networks import Stack
from memorax.validation import check_positive

PLATFORMS = "cpu", "cuda", "tpu"
FORMATS = "stablehlo", "onnx"
BatchSize = int | Literal["free"] | None
FREE_SIZES = 2, 5
"""The batches that a program of a free batch is checked with."""


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of an exported step, by name.

    Attributes:
        inputs: The observation's arrays, the carry's arrays, done and, if it is read, reward.
        outputs: Action and the carry's arrays.
    """

    inputs: dict[str, jax.ShapeDtypeStruct]
    outputs: dict[str, jax.ShapeDtypeStruct]


def export(step: PolicyStep, kind: str, folder: Path, batch_size: BatchSize = None) -> Path:
    """Write an agent's step, its signature and its initial carry into a new folder.

    ``policy.stablehlo`` (by ``jax.export``, for cpu, cuda and tpu) or ``policy.onnx`` is a function
    ``(observation, *carry, done[, reward]) -> (action, *carry)`` with the parameters inside, and an
    argument for each array of an observation of several parts. ``signature.json`` has names, shapes
    and dtypes in that order, and ``initial_carry.npz`` has the carry to begin with. On a task in
    processes, observation and action are the arrays that ``environments.make`` has for Gymnasium's.

    The file is loaded and run beside the agent for 200 steps before the folder appears.

    Args:
        step: The step.
        kind: ``"stablehlo"`` or ``"onnx"``.
        folder: Where; its parent has to exist.
        batch_size: How many environments the program acts in at once; all arrays then lead with
            them. ``"free"``: any number, chosen anew with each call; ``initial_carry.npz`` then has
            one row, to be repeated. None: one, without an axis.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder exists, the kind is unknown, the batch is not positive, the
            network does something that ONNX has no operator for or that a free batch rules out, or
            what was written does not act as the agent does.
        ModuleNotFoundError: If ONNX's extra is not installed.
    """
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {kind!r}")
    if folder.exists():
        raise ValueError(f"{folder} exists and is not overwritten: choose another by --output")
    serialize, load = (_stablehlo, _load_stablehlo) if kind == "stablehlo" else (_onnx, _load_onnx)
    refusal = f"{step.name} cannot be exported as {kind}"
    if batch_size == "free":
        refusal = f"{refusal} with a free batch"
        (rows,) = jax.export.symbolic_shape("batch")
    else:
        if batch_size is not None:
            check_positive("batch_size", batch_size)
        rows = batch_size
    try:
        signature = _signature(step, rows)
        program = serialize(_flat(step, rows), signature)
    except (ValueError, jax.errors.InconclusiveDimensionOperation) as error:
        raise ValueError(f"{refusal}: {_first_line(error)}") from error
    # Made beside its place and moved there, so that it is never half there.
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        file = partial / f"policy.{kind}"
        file.write_bytes(program)
        try:
            loaded = load(file, signature)
            if batch_size is not None:
                ranks = [len(array.shape) for array in signature.inputs.values()]
                sizes = FREE_SIZES if batch_size == "free" else (batch_size,)
                loaded = as_rows(loaded, sizes, ranks)
            check_acts_alike(loaded, step, list(signature.outputs))
        except ValueError as error:
            raise ValueError(f"{refusal}: {_first_line(error)}") from error
        text = json.dumps(_described(step, signature), indent=2) + "\n"
        (partial / "signature.json").write_text(text, encoding="utf-8")
        repeats = 1 if batch_size in (None, "free") else batch_size
        carry: Any = {
            name: np.repeat(array, repeats, axis=0)
            for name, array in zip(_carry_names(step), step.initial_carry, strict=True)
        }
        np.savez(partial / "initial_carry.npz", **carry)
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return folder


def _carry_names(step: PolicyStep) -> list[str]:
    """Return the names of a carry's arrays: the layer of each, and its place in there."""
    memory = step.memory(step.initial_carry)
    network: Any = step.agent._policy(step.state, deterministic=True)[0]
    layers: dict[Any, str] = {}
    if isinstance(network.torso, Stack):
        # Blocks without a memory have no arrays here.
        having = [index for index, carry in enumerate(memory) if jax.tree.leaves(carry)]
        layers = {index: f"layer_{number}" for number, index in enumerate(having)}
    names = []
    for path, _ in jax.tree.leaves_with_path(memory):
        parts = [jax.tree_util.keystr((part,), simple=True) for part in path]
        if layers:
            parts[0] = layers[path[0].idx]
        names.append("/".join(["memory", *parts]))
    return [*names, "previous_action"]


def _flat(step: PolicyStep, rows: Any) -> Callable[..., tuple[Any, ...]]:
    """Return the step as a function of arrays alone, which lead with rows if there are any."""
    num_carries = len(step.initial_carry)

    num_arrays = len(jax.tree.leaves(step.observation))
    structure = jax.tree.structure(step.observation)

    def flat(*arrays):
        observation = jax.tree.unflatten(structure, arrays[:num_arrays])
        carry = arrays[num_arrays : num_arrays + num_carries]
        done, *reward = arrays[num_arrays + num_carries :]
        action, carry = step(observation, carry, done, *reward)
        return action, *carry

    def one_row(*arrays):
        arrays = [
            array[None] if num_arrays <= index < num_arrays + num_carries else array
            for index, array in enumerate(arrays)
        ]
        action, *carry = flat(*arrays)
        return action, *(array[0] for array in carry)

    return flat if rows is None else jax.vmap(one_row)


def _signature(step: PolicyStep, rows: Any) -> Signature:
    batch = () if rows is None else (rows,)

    def array(like):
        return jax.ShapeDtypeStruct((*batch, *like.shape), like.dtype)

    # A carry's arrays lead with a batch already, of one.
    carry = {
        name: jax.ShapeDtypeStruct((1 if rows is None else rows, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in zip(_carry_names(step), step.initial_carry, strict=True)
    }
    observations = {
        name: array(part) for name, part in _parts("observation", step.observation).items()
    }
    inputs = {**observations, **carry, "done": jax.ShapeDtypeStruct(batch, bool)}
    if step.reads_reward:
        inputs["reward"] = jax.ShapeDtypeStruct(batch, jnp.float32)
    action, *_ = jax.eval_shape(_flat(step, rows), *inputs.values())
    outputs = {
        "action": jax.ShapeDtypeStruct(action.shape, action.dtype),
        **{f"next_{name}": array for name, array in carry.items()},
    }
    return Signature(inputs, outputs)


def _parts(name: str, tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by name, such as ``observation/image`` if there are several."""
    leaves = jax.tree.leaves_with_path({name: tree})
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _described(step: PolicyStep, signature: Signature) -> dict[str, Any]:
    """Return what ``signature.json`` says."""
    params = step.agent.env_params
    spaces = {
        **_parts("observation", step.task.observation_space(params)),
        "action": step.task.action_space(params),
    }
    return {
        part: [
            {"name": name, "shape": _shape(array), "dtype": str(array.dtype)}
            | ({"values": _values(spaces[name])} if name in spaces else {})
            for name, array in arrays.items()
        ]
        for part, arrays in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }


def _shape(array: jax.ShapeDtypeStruct) -> list[int | str]:
    """Return a shape as JSON can hold it, a free axis by its name."""
    return [size if isinstance(size, int) else str(size) for size in array.shape]


def _values(space: Space) -> dict[str, Any]:
    """Return what the elements of a space may be, as the task has them before any scaling."""
    if isinstance(space, Discrete):
        return {"low": 0, "high": space.n - 1, "categories": True}
    bounds = {"low": np.asarray(space.low), "high": np.asarray(space.high)}
    return {name: _bound(bound) for name, bound in bounds.items()} | {
        "categories": isinstance(space, MultiDiscrete)
    }


def _bound(bound: np.ndarray) -> Any:
    """Return a bound as JSON can hold it: one number if all are equal, null where there is none."""
    values = np.unique(bound)
    if len(values) == 1:
        return values[0].item() if np.isfinite(values[0]) else None
    return jax.tree.map(lambda value: value if math.isfinite(value) else None, bound.tolist())


def _stablehlo(step: Callable[..., Any], signature: Signature) -> bytes:
    exported = jax.export.export(jax.jit(step), platforms=PLATFORMS)(*signature.inputs.values())
    return bytes(exported.serialize())


def _onnx_libraries() -> tuple[Any, Any]:
    """Return the modules that write and run ONNX."""
    # They warn of every library that they would know too and that is not there, and of values whose
    # type ONNX infers by itself.
    for library in ("jax2onnx", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        import jax2onnx  # noqa: PLC0415
        import onnxruntime  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"format onnx needs the extra onnx: {install_command('onnx')}"
        ) from error
    return jax2onnx, onnxruntime


def _onnx(step: Callable[..., Any], signature: Signature) -> bytes:
    jax2onnx, _ = _onnx_libraries()
    import onnx_ir  # noqa: PLC0415
    import onnx_ir.passes.common  # noqa: PLC0415

    arrays = signature.inputs.values()
    try:
        # Traced by JAX itself: jax2onnx's own tracing puts tracers into shapes.
        program = in_real_operators(jax.make_jaxpr(step)(*arrays))
        model: Any = jax2onnx.to_onnx(
            jax.extend.core.jaxpr_as_fun(program),
            list(arrays),
            model_name="policy",
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
        )
    except Exception as error:
        # It fails in many ways where it has no operator.
        raise ValueError(_first_line(error)) from error
    # Else whoever loads it is warned of every constant that no operator reads.
    model = onnx_ir.from_proto(model)
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
    return onnx_ir.to_proto(model).SerializeToString()


def _load_stablehlo(file: Path, signature: Signature) -> Callable[..., Any]:
    return jax.jit(jax.export.deserialize(bytearray(file.read_bytes())).call)


def _load_onnx(file: Path, signature: Signature) -> Callable[..., Any]:
    _, onnxruntime = _onnx_libraries()
    options = onnxruntime.SessionOptions()
    # What fails is raised.
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its exceptions have no common base of their own.
        raise ValueError(f"onnxruntime does not load it: {_first_line(error)}") from error

    def run(*arrays):
        feeds = dict(zip(signature.inputs, map(np.asarray, arrays), strict=True))
        try:
            return session.run(list(signature.outputs), feeds)
        except Exception as error:
            raise ValueError(f"onnxruntime does not run it: {_first_line(error)}") from error

    return run


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
