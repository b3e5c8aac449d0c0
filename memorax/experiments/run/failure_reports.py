"""What is said of a failure that ends training: where, and from which checkpoint it can resume."""

import contextlib
from collections.abc import Iterator

import jax

from memorax.environments import process_failure
from memorax.environments.processes.environment import invalid_action, invalid_actions_unlogged
from memorax.experiments.files.write_errors import WriteFailedError
from memorax.experiments.run.failures import DivergedError, EnvironmentFailedError
from memorax.experiments.run.folder import RunFolder


@contextlib.contextmanager
def policy_checked(model: str, step: int, num_steps: int) -> Iterator[None]:
    """Raise DivergedError, with the steps, where a policy draws an invalid action."""
    try:
        with invalid_actions_unlogged():
            yield
    except jax.errors.JaxRuntimeError as error:
        action = invalid_action(error)
        if action is None:
            raise
        raise DivergedError(
            f"{model}: the policy is not finite between step {step:,} and {step + num_steps:,}: "
            f"{action}"
        ) from error


@contextlib.contextmanager
def report_last_checkpoint(model: str, folder: RunFolder) -> Iterator[None]:
    """Add the last checkpoint to the message of an error that ends a run."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"{error}; {_last_good_state(model, folder)}") from error
    except (WriteFailedError, OSError) as error:
        raise WriteFailedError(f"{model}: {error}\n{_last_good_state(model, folder)}") from error
    except jax.errors.JaxRuntimeError as error:
        kept = _last_good_state(model, folder)
        action = invalid_action(error)
        if action is not None:
            # Heads draw within the action space as long as their parameters are finite.
            raise DivergedError(f"{model}: the policy is not finite: {action}; {kept}") from error
        failure = process_failure(error)
        if failure is None:
            raise
        raise EnvironmentFailedError(f"{model}: {failure}\n{kept}") from error


def _last_good_state(model: str, folder: RunFolder) -> str:
    # Opening the checkpoints would wait for the other processes of a run, which may be gone.
    entries = (folder.path / "checkpoints" / model).glob("*")
    step = max((int(path.name) for path in entries if path.name.isdecimal()), default=None)
    kept = f"checkpoint of step {step:,}" if step else "no checkpoint yet"
    return f"last good state: {kept} in {folder.path}"
