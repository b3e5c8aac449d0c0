"""Several processes that train together, one or more on each host, through ``jax.distributed``."""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from memorax.experiments.files.lock import FolderInUseError, lock
from memorax.experiments.run.config import TrainConfig, to_json
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.options import SLURM, Processes
from memorax.experiments.run.supervision import PROCESS_LOST, end_with_supervisor

HEARTBEAT_SECONDS = 20
"""Seconds without a heartbeat after which a process counts as dead."""


def connect(options: Processes, run_folder: Path | None) -> None:
    """Connect to the other processes, before anything is computed.

    Args:
        options: The processes.
        run_folder: The run's folder, which all processes must see.

    Raises:
        ValueError: If there is no run folder, or no process answers.
    """
    if options.coordinator is None:
        return
    if run_folder is None:
        raise ValueError("coordinator needs run_folder, which all processes must see")
    where: dict[str, Any] = {"cluster_detection_method": SLURM}
    if options.coordinator != SLURM:
        where = {
            "coordinator_address": options.coordinator,
            "num_processes": options.num_processes,
            "process_id": options.process_id,
            "cluster_detection_method": "deactivate",
        }
    elif "SLURM_STEP_NODELIST" not in os.environ:
        raise ValueError("coordinator slurm needs the variables of SLURM: start it by srun")
    end_with_supervisor()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM away from everybody else.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        **where,
        initialization_timeout=300,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS,
    )


def create_run_folder(path: Path | None, config: TrainConfig) -> RunFolder:
    """Make a new run folder, by the first process.

    Raises:
        ValueError: If it cannot be made, or another process has another configuration.
    """
    if jax.process_count() == 1:
        return RunFolder.create(path, config)
    assert path is not None  # connect checks it
    refused = ""
    if jax.process_index() == 0:
        try:
            RunFolder.create(path, config)
        except ValueError as error:
            refused = str(error)
    refused = _from_the_first(refused)
    if refused:
        raise ValueError(refused)
    return open_run_folder(path, config)


def open_run_folder(path: Path, config: TrainConfig) -> RunFolder:
    """Open a run folder; only the first process will write there, checkpoints aside.

    Raises:
        ValueError: If there is none, or another process has another configuration.
    """
    folder = RunFolder.open(path)
    if jax.process_count() > 1:
        same = _from_the_first(to_json(config)) == to_json(config)
        if any_process(not same):
            raise ValueError("all processes of a run must be given the same options")
        folder.writes = jax.process_index() == 0
    return folder


def lock_run_folder(folder: RunFolder) -> contextlib.ExitStack:
    """Lock a run folder by the first process, until what is returned is closed.

    Raises:
        FolderInUseError: If another process, which is no part of this run, trains there.
    """
    held = contextlib.ExitStack()
    refused = ""
    if folder.writes:
        try:
            held.enter_context(lock(folder.path, folder.kind))
        except FolderInUseError as error:
            refused = str(error)
    if jax.process_count() > 1:
        refused = _from_the_first(refused)
    if refused:
        raise FolderInUseError(refused)
    return held


def any_process(flag: bool) -> bool:
    """Return the logical OR of a flag over all processes."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def wait_for_all(name: str) -> None:
    """Wait until all processes have reached this point.

    Args:
        name: The point's name in the error if one does not.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def exit_on_failure(expected: tuple[type[Exception], ...]) -> Iterator[None]:
    """Exit this process immediately if it fails alone: the others wait for it as long as it lives.

    Args:
        expected: Exceptions that all processes raise together.
    """
    try:
        yield
    except expected:
        raise
    except BaseException as error:
        if jax.process_count() == 1:
            raise
        code = 1
        exhausted, lost = out_of_memory(error), other_process_error(error)
        if exhausted is not None:
            print(f"memorax: error: {exhausted}", file=sys.stderr)
        elif lost is not None:
            code = PROCESS_LOST
            print(f"memorax: {str(lost).splitlines()[0]}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def out_of_memory(error: BaseException) -> str | None:
    """Return the message of an out-of-memory error, None for any other error."""
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory: {str(error).splitlines()[0]}"
    return None


def other_process_error(error: BaseException | None) -> BaseException | None:
    """Return the JAX error behind an error, if JAX could not reach another process.

    It may be wrapped: a checkpoint that another process never finishes raises TimeoutError, an
    interrupted transfer ValueError.
    """
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _from_the_first(text: str) -> str:
    """Return the first process's text."""
    data = np.frombuffer(text.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
    if not length:
        return ""
    padded = np.zeros(length, np.uint8)
    padded[: data.size] = data[:length]
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).decode()
