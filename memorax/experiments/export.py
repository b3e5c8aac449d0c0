"""Taking a trained agent to where memorax is not."""

import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from memorax.distribution import install_command
from memorax.experiments.policy import PolicyStep

PLATFORMS = "cpu", "cuda", "tpu"
FORMATS = "stablehlo", "onnx"


@dataclass(frozen=True)
class Signature:
    """What an exported step takes and returns, by name.

    Attributes:
        inputs: The observation's arrays, the carry's arrays, done and, if it is read, reward.
        outputs: Action and the carry's arrays.
    """

    inputs: dict[str, jax.ShapeDtypeStruct]
    outputs: dict[str, jax.ShapeDtypeStruct]


def export(step: PolicyStep, kind: str, folder: Path) -> Path:
    """Write an agent's step, its signature and its initial carry into a new folder.

    ``policy.stablehlo`` (by ``jax.export``, for cpu, cuda and tpu) or ``policy.onnx`` is a function
    ``(observation, *carry, done[, reward]) -> (action, *carry)`` with the parameters inside, and an
    argument for each array of an observation of several parts,
    ``signature.json`` tells names, shapes and dtypes in that order, and ``initial_carry.npz`` has
    the carry to begin with. On a task in processes, observation and action are the arrays that
    ``environments.make`` has for Gymnasium's.

    Args:
        step: The step.
        kind: ``"stablehlo"`` or ``"onnx"``.
        folder: Where; its parent has to exist.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder exists, the kind is unknown, or the network does something that
            ONNX has no operator for.
        ModuleNotFoundError: If ONNX's extra is not installed.
    """
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {kind!r}")
    if folder.exists():
        raise ValueError(f"{folder} exists and is not overwritten: choose another by --output")
    signature = _signature(step)
    serialize = _stablehlo if kind == "stablehlo" else _onnx
    program = serialize(_flat(step), signature)
    # Made beside its place and moved there, so that it is never half there.
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        (partial / f"policy.{kind}").write_bytes(program)
        (partial / "signature.json").write_text(_to_json(signature), encoding="utf-8")
        carry: Any = dict(zip(_carry_names(step), step.initial_carry, strict=True))
        np.savez(partial / "initial_carry.npz", **carry)
        partial.chmod(0o755)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return folder


def _carry_names(step: PolicyStep) -> list[str]:
    return [f"carry_{index}" for index in range(len(step.initial_carry))]


def _flat(step: PolicyStep) -> Callable[..., tuple[Any, ...]]:
    """Return the step as a function of arrays alone."""
    num_carries = len(step.initial_carry)

    num_arrays = len(jax.tree.leaves(step.observation))
    structure = jax.tree.structure(step.observation)

    def flat(*arrays):
        observation = jax.tree.unflatten(structure, arrays[:num_arrays])
        carry = arrays[num_arrays : num_arrays + num_carries]
        done, *reward = arrays[num_arrays + num_carries :]
        action, carry = step(observation, carry, done, *reward)
        return action, *carry

    return flat


def _signature(step: PolicyStep) -> Signature:
    carry = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype)
        for name, array in zip(_carry_names(step), step.initial_carry, strict=True)
    }
    inputs = {**_observations(step), **carry, "done": jax.ShapeDtypeStruct((), bool)}
    if step.reads_reward:
        inputs["reward"] = jax.ShapeDtypeStruct((), jnp.float32)
    action, *_ = jax.eval_shape(_flat(step), *inputs.values())
    outputs = {
        "action": jax.ShapeDtypeStruct(action.shape, action.dtype),
        **{f"next_{name}": array for name, array in carry.items()},
    }
    return Signature(inputs, outputs)


def _observations(step: PolicyStep) -> dict[str, jax.ShapeDtypeStruct]:
    """Return an observation's arrays by name, such as ``observation/image`` of several parts."""
    arrays = jax.tree.leaves_with_path({"observation": step.observation})
    return {jax.tree_util.keystr(path, simple=True, separator="/"): array for path, array in arrays}


def _to_json(signature: Signature) -> str:
    described = {
        part: [
            {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
            for name, array in arrays.items()
        ]
        for part, arrays in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }
    return json.dumps(described, indent=2) + "\n"


def _stablehlo(step: Callable[..., Any], signature: Signature) -> bytes:
    exported = jax.export.export(jax.jit(step), platforms=PLATFORMS)(*signature.inputs.values())
    return bytes(exported.serialize())


def _onnx(step: Callable[..., Any], signature: Signature) -> bytes:
    # They warn of every library that they would know too and that is not there, and of values whose
    # type ONNX infers by itself.
    for library in ("jax2onnx", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        import jax2onnx  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"format onnx needs the extra onnx: {install_command('onnx')}"
        ) from error
    # Traced by JAX itself: jax2onnx's own tracing puts tracers into shapes.
    program = jax.extend.core.jaxpr_as_fun(jax.make_jaxpr(step)(*signature.inputs.values()))
    try:
        model: Any = jax2onnx.to_onnx(
            program,
            list(signature.inputs.values()),
            model_name="policy",
            input_names=list(signature.inputs),
            output_names=list(signature.outputs),
        )
    except Exception as error:
        # It fails in many ways where it has no operator, complex numbers being the most frequent.
        raise ValueError(f"this network cannot be written as ONNX: {error}") from error
    return model.SerializeToString()
