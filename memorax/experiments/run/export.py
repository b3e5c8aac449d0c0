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
from memorax.experiments.run.policy import PolicyStep
from memorax.experiments.run.real_program import in_real_operators
from memorax.experiments.run.verification import check_acts_alike

PLATFORMS = "cpu", "cuda", "tpu"
FORMATS = "stablehlo", "onnx"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of an exported step, by name.

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
    argument for each array of an observation of several parts. ``signature.json`` has names, shapes
    and dtypes in that order, and ``initial_carry.npz`` has the carry to begin with. On a task in
    processes, observation and action are the arrays that ``environments.make`` has for Gymnasium's.

    The file is loaded and run beside the agent for 200 steps before the folder appears.

    Args:
        step: The step.
        kind: ``"stablehlo"`` or ``"onnx"``.
        folder: Where; its parent has to exist.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder exists, the kind is unknown, the network does something that
            ONNX has no operator for, or what was written does not act as the agent does.
        ModuleNotFoundError: If ONNX's extra is not installed.
    """
    if kind not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {kind!r}")
    if folder.exists():
        raise ValueError(f"{folder} exists and is not overwritten: choose another by --output")
    signature = _signature(step)
    serialize, load = (_stablehlo, _load_stablehlo) if kind == "stablehlo" else (_onnx, _load_onnx)
    refusal = f"{step.name} cannot be exported as {kind}"
    try:
        program = serialize(_flat(step), signature)
    except ValueError as error:
        raise ValueError(f"{refusal}: {_first_line(error)}") from error
    # Made beside its place and moved there, so that it is never half there.
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        file = partial / f"policy.{kind}"
        file.write_bytes(program)
        try:
            check_acts_alike(load(file, signature), step, list(signature.outputs))
        except ValueError as error:
            raise ValueError(f"{refusal}: {_first_line(error)}") from error
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
    return model.SerializeToString()


def _load_stablehlo(file: Path, signature: Signature) -> Callable[..., Any]:
    return jax.jit(jax.export.deserialize(bytearray(file.read_bytes())).call)


def _load_onnx(file: Path, signature: Signature) -> Callable[..., Any]:
    _, onnxruntime = _onnx_libraries()
    options = onnxruntime.SessionOptions()
    # What fails is raised, and it warns of every constant that no operator reads.
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
