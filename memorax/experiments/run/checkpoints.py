"""The checkpoints that a run keeps."""

import contextlib
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from memorax.experiments.files.checksums import check_sums, write_sums
from memorax.experiments.files.fields import read_json
from memorax.experiments.run.failures import CheckpointError
from memorax.experiments.run.folder import RunFolder
from memorax.experiments.run.options import Choice
from memorax.validation import check_between, unknown_name

# Checkpoints to delete are first moved here in one step, so that a run that is killed in between
# never leaves half of one.
DISCARDED = ".discarded"
SCORES = "metrics/metrics"
OLD_REPLAY = "replay/is_full"
"""An entry of states saved when flashbax held the replay."""
# Characters that etils' glob, TensorStore and etils' cloud paths interpret.
UNUSUAL = re.compile(r"[*?\[\]\\:]")


class Checkpoints:
    """The checkpoints of one model of a run: the last few, and the best.

    A save happens in the background: it returns as soon as the state is copied, and waits before
    that only for the save before it. What is being written has another name until it is whole, with
    the checksums of its files, ``SHA256SUMS``.

    Args:
        folder: The run's folder.
        model: The model's name.
        keep: How many of the last to keep, the best aside; None: only read, and write nothing.
    """

    def __init__(self, folder: RunFolder, model: str, keep: int | None = None):
        self.path = (folder.path / "checkpoints" / model).absolute()
        self._orbax_path, self._alias = _orbax_path(folder.path, self.path)
        self._writes = keep is not None
        self._discarded = self.path / DISCARDED
        if self._writes:
            self._sweep()
        # Scores are read, and compared, before any state.
        for step in self._steps_there():
            with self._as_checkpoint_error(step):
                check_sums(self.path / str(step), SCORES)
                _score(read_json(self.path / str(step) / SCORES))
        best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        self._manager = ocp.CheckpointManager(
            self._orbax_path,
            handler_registry=_handlers(),
            options=ocp.CheckpointManagerOptions(
                create=self._writes,
                cleanup_tmp_directories=self._writes,
                todelete_subdir=DISCARDED,
                best_fn=_score,
                preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
                async_options=ocp.AsyncOptions(
                    # Else a folder that cannot be created delays the end of the run.
                    create_directories_asynchronously=False,
                    post_finalization_callback=self._write_sums,
                ),
            ),
        )

    @property
    def last_step(self) -> int | None:
        """The last step that was saved, None if none was."""
        return max(self._manager.all_steps(), default=None)

    @property
    def best_step(self) -> int | None:
        """The step with the greatest return, the last of equals, None if none has a return."""
        step = self._manager.best_step()
        if step is None or _score(self._manager.metrics(step) or {}) == -math.inf:
            return None
        return step

    def save(self, step: int, state: PyTree, episode_return: float = math.nan) -> None:
        """Begin to save a state, unless its step is saved already.

        Args:
            step: The steps that led to it.
            state: The state to save. It may be donated as soon as this returns.
            episode_return: The score by which checkpoints are compared; NaN: it is never best.

        Raises:
            OSError: If it cannot be written, or the one before it could not.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        # JSON has no NaN.
        score = None if math.isnan(episode_return) else episode_return
        with self._as_os_error():
            self._manager.save(
                step, args=ocp.args.StandardSave(state), metrics={"episode_return": score}
            )

    def check(self) -> None:
        """Raise if the last save is over and has failed.

        Raises:
            OSError: If it could not be written.
        """
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Wait until the last save is safe.

        Raises:
            OSError: If it could not be written.
        """
        with self._as_os_error():
            self._manager.wait_until_finished()
        self._sweep()

    def restore(self, like: PyTree, choice: Choice = "last") -> tuple[int, PyTree] | None:
        """Return a step and its state, or None if nothing was saved.

        Args:
            like: A state, concrete or abstract, of the same structure, shapes and dtypes.
            choice: Which of the checkpoints.

        Raises:
            CheckpointError: If the state does not fit or is damaged, or if none of several is best.
        """
        step = self._step(choice)
        if step is None:
            return None
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with self._as_checkpoint_error(step):
            check_sums(self.path / str(step))
            metadata = self._manager.item_metadata(step)
            if metadata is None:
                raise ValueError("it has no metadata")
            _check_chunks(metadata.tree)
        saved = _entries(metadata.tree)
        if OLD_REPLAY in saved:
            raise CheckpointError(
                f"{self.path / str(step)} holds a replay of an earlier version of memorax, which "
                "this version cannot restore; start a new run"
            )
        different = list(_differences(saved, _entries(like)))
        if different and all(entry.startswith("env_state/") for entry in different):
            raise CheckpointError(
                f"{self.path / str(step)} holds environments of an earlier version of memorax or "
                "of their package, which this version cannot restore; start a new run"
            )
        if different:
            raise CheckpointError(
                f"{self.path / str(step)} does not fit the configuration:\n" + "\n".join(different)
            )
        with self._as_checkpoint_error(step):
            return step, self._manager.restore(step, args=ocp.args.StandardRestore(like))

    def _step(self, choice: Choice) -> int | None:
        if choice not in get_args(Choice):
            raise ValueError(unknown_name("checkpoint", choice, get_args(Choice)))
        step = self.last_step if choice == "last" else self.best_step
        if step is None and self.last_step is not None:
            raise CheckpointError(
                f"{self.path} holds no best checkpoint: before none of them has every seed ended "
                "an episode; take the last"
            )
        return step

    def close(self) -> None:
        """Wait until the last save is complete and close the manager.

        Raises:
            OSError: If it could not be written.
        """
        try:
            self.wait()
        finally:
            self._manager.close()
            if self._alias is not None:
                self._alias.cleanup()

    def _steps_there(self) -> list[int]:
        names = [path.name for path in self.path.glob("[0-9]*") if path.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch("[0-9]+", name))

    def _write_sums(self) -> None:
        # Only one is written at a time, and leftovers of a killed run are removed before.
        (partial,) = self.path.glob("*.orbax-checkpoint-tmp*")
        write_sums(partial)

    def _sweep(self) -> None:
        shutil.rmtree(self._discarded, ignore_errors=True)

    @contextlib.contextmanager
    def _as_os_error(self) -> Iterator[None]:
        """Discard a checkpoint that could not be written, and raise its cause as OSError."""
        try:
            yield
        except (OSError, ValueError) as error:
            # TensorStore raises ValueError, with the number of the system's error in its words.
            found = re.search(r"os_error_code='(\d+)'", str(error))
            number = int(found[1]) if found else getattr(error, "errno", None)
            if number is None:
                raise
            for partial in self.path.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(partial, ignore_errors=True)
            self._manager.reload()
            raise OSError(number, os.strerror(number), str(self.path)) from error

    @contextlib.contextmanager
    def _as_checkpoint_error(self, step: int) -> Iterator[None]:
        """Raise CheckpointError naming the damaged checkpoint and the remaining ones."""
        try:
            yield
        except Exception as error:
            # Orbax and TensorStore raise all kinds for files that make no sense to them.
            reason = (str(error) or type(error).__name__).splitlines()[0].partition(" [")[0]
            reason = reason.replace(str(self._orbax_path), str(self.path))
            left = ", ".join(f"{other:,}" for other in self._steps_there() if other != step)
            raise CheckpointError(
                f"checkpoint {self.path / str(step)} is damaged ({reason}); without it, there is "
                f"{f'still that of step {left}' if left else 'no other'}"
            ) from error


def _orbax_path(folder: Path, path: Path) -> tuple[Path, TemporaryDirectory[str] | None]:
    """Return a path that Orbax can take, and a folder to remove after its use.

    Orbax and TensorStore read some characters of a path as patterns, as separators or as the name
    of a cloud's storage: to them such a path has another name, a link in a temporary folder.
    """
    if not UNUSUAL.search(str(path)):
        return path, None
    alias = TemporaryDirectory(prefix="memorax-")
    link = Path(alias.name) / "run"
    link.symlink_to(folder.absolute(), target_is_directory=True)
    return link / path.relative_to(folder.absolute()), alias


def _handlers() -> Any:
    """Return handlers, which Orbax needs to read metadata before any save."""
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    for arguments in (ocp.args.StandardSave, ocp.args.StandardRestore):
        registry.add("default", arguments, ocp.StandardCheckpointHandler)
    return registry


def _score(metrics: dict[str, Any]) -> float:
    score = metrics.get("episode_return")
    if score is None:
        return -math.inf
    check_between("episode_return", score, -sys.float_info.max, sys.float_info.max)
    return score


def _check_chunks(tree: PyTree) -> None:
    """Check that no array is stored in chunks larger than itself, which reading would allocate.

    Raises:
        ValueError: If one is.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        storage = getattr(leaf, "storage", None)
        if storage is not None and any(
            chunk > max(1, size)
            for chunk, size in zip(storage.chunk_shape, leaf.shape, strict=True)
        ):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"{name} of shape {leaf.shape} has chunks of {storage.chunk_shape}")


def _entries(tree: PyTree) -> dict[str, str]:
    """Return the dtype and shape of every array, in words, by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _description(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _description(leaf: Any) -> str:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return f"{leaf.dtype} {tuple(leaf.shape)}"


def _differences(saved: dict[str, str], made: dict[str, str]) -> Iterator[str]:
    for path in sorted(saved.keys() | made.keys()):
        if path not in made:
            yield f"{path}: unexpected, checkpoint has {saved[path]}"
        elif path not in saved:
            yield f"{path}: missing, the configuration makes {made[path]}"
        elif saved[path] != made[path]:
            yield f"{path}: checkpoint has {saved[path]}, the configuration makes {made[path]}"
