"""Processes with environments in them, as a program in numpy uses them; no JAX here."""

import atexit
import itertools
import multiprocessing
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memorax.failures import EnvironmentProcessError


class InvalidActionError(ValueError):
    """An invalid action; the message names the task and the action."""


@dataclass(frozen=True, eq=False)
class ProcessTask:
    """A task that processes run.

    Attributes:
        name: The task, as ``"suite::name"``.
        spec: Gymnasium's ``EnvSpec``.
        params: Arguments of the environment's constructor.
        check: Raises ValueError if an observation is not in Gymnasium's space; told
            whether its dtype has to be the declared one, or only one whose numbers fit in that.
        encode: From Gymnasium's observation to an array, or to a tuple of arrays, a record, if it
            has several parts.
        decode: From an action, an array, to Gymnasium's; raises if it is out of range.
        shape: The shape of an encoded observation.
        dtype: Its dtype.
        draws: Whether it renders.
    """

    name: str
    spec: Any
    params: dict[str, Any]
    check: Callable[[Any, bool], None]
    encode: Callable[[Any], np.ndarray | tuple]
    decode: Callable[[np.ndarray], Any]
    shape: tuple[int, ...]
    dtype: Any
    draws: bool = False

    def read(self, observation: Any) -> np.ndarray:
        """Return an observation as an array.

        Raises:
            EnvironmentProcessError: If it is not in the observation space, where it would be
                silently broadcast or overflow, or has a non-finite number.
        """
        try:
            self.check(observation, False)
        except ValueError as error:
            raise EnvironmentProcessError(str(error)) from error
        array = np.asarray(self.encode(observation), self.dtype)
        # Several arrays of one observation are a record of NumPy's.
        for part in [array[name] for name in array.dtype.names or ()] or [array]:
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                bad = part[~np.isfinite(part)][0]
                raise EnvironmentProcessError(
                    f"{self.name}: the observation must be finite, got {bad}"
                )
        return array

    def read_reward(self, reward: np.ndarray) -> np.float32:
        """Return the number that an environment's reward is.

        Raises:
            EnvironmentProcessError: If it is not a single number, or one that is not finite.
        """
        if reward.shape in ((), (1,)) and reward.dtype.kind in "biuf":
            with np.errstate(over="ignore"):
                number = np.float32(reward.item())
            if np.isfinite(number):
                return number
        got = reward.tolist() if reward.size < 10 else f"{reward.dtype} of shape {reward.shape}"
        raise EnvironmentProcessError(
            f"{self.name}: the reward must be a finite number, got {got!r}"
        )

    def read_action(self, action: np.ndarray) -> Any:
        """Return Gymnasium's action of one of ours.

        Raises:
            InvalidActionError: If it is out of range.
        """
        try:
            return self.decode(action)
        except ValueError as error:
            raise InvalidActionError(str(error)) from error


class Process:
    """A process with environments of a task, and the pipe to it.

    Args:
        task: The task.
        num_envs: Number of environments.
    """

    def __init__(self, task: ProcessTask, num_envs: int):
        self._name = task.name
        self._connection, theirs = multiprocessing.Pipe()
        # What the environments print would come between what the run prints.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # Closed with the process.
        program = Path(__file__).with_name("worker.py")
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            # -P: a module of the program's own folder must not hide a package of the same name.
            [sys.executable, "-P", str(program), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=os.environ | {"PYTHONPATH": path},
            # Ctrl-C is for the run, which still needs its environments to finish a chunk.
            start_new_session=True,
        )
        theirs.close()
        # It comes with Gymnasium, without which there is no task.
        import cloudpickle  # noqa: PLC0415

        # Classes and functions that it cannot import, such as those of a notebook, go along.
        self.send((cloudpickle.dumps((task.spec, task.params)), num_envs))

    @property
    def process_id(self) -> int:
        """The operating system's number of it."""
        return self._process.pid

    def send(self, message: tuple) -> None:
        """Send a command; if the process is dead, ``receive`` raises."""
        try:
            self._connection.send(message)
        except OSError:
            return

    def receive(self) -> list:
        """Wait for the command and return its result.

        Raises:
            EnvironmentProcessError: If an environment fails or the process is dead.
        """
        try:
            succeeded, result = self._connection.recv()
        except (EOFError, OSError):
            raise EnvironmentProcessError(self._last_words()) from None
        if not succeeded:
            raise EnvironmentProcessError(f"{self._name} failed in its process:\n{result}")
        return result

    def close(self) -> None:
        """Let it end, or make it."""
        self._connection.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _last_words(self) -> str:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._output.seek(0)
        words = self._output.read().decode(errors="replace").strip()
        return f"a process of {self._name} died ({how}):\n{words or 'no output'}"


@dataclass
class Place:
    """Where an environment is, and how many steps it has taken."""

    process: Process
    index: int
    time: int = 0


# All environments of this program by number. Numbers of different programs differ, so that a
# state from a checkpoint is never mistaken for one of this program's.
_places: dict[int, Place] = {}
_numbers = itertools.count(secrets.randbits(30))
_lock = threading.Lock()


def reset(task: ProcessTask, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Begin an episode in a new environment for every seed.

    Args:
        task: The task.
        seeds: int32, the last axis environments side by side; every row has its own processes.

    Returns:
        The environments' numbers, int32, and first observations.
    """
    with _lock:
        numbers = _start(task, _rows(seeds.shape))
        given = dict(zip(numbers, seeds.ravel().tolist(), strict=True))
        begun = _exchange("reset", given, task.read)
    return (
        np.array(numbers, np.int32).reshape(seeds.shape),
        np.array([begun[number] for number in numbers], task.dtype).reshape(
            (*seeds.shape, *task.shape)
        ),
    )


def step(
    task: ProcessTask,
    numbers: np.ndarray,
    times: np.ndarray,
    held: np.ndarray,
    actions: np.ndarray,
    seeds: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Act once in every environment; one whose state is not the latest is replaced by a new one.

    Args:
        task: The task.
        numbers: The environments'.
        times: Steps that each had taken when its state was returned.
        held: Environments to skip; their outputs are undefined.
        actions: An action for each.
        seeds: Seeds of new environments.

    Returns:
        Numbers, times, observations, last observations of the episodes, rewards, terminated,
        truncated, and where an environment is new, whose last observation is undefined.
    """
    batch = np.shape(numbers)
    numbers, times, held, seeds = numbers.flatten(), times.ravel(), held.ravel(), seeds.ravel()
    actions = np.reshape(actions, (numbers.size, *np.shape(actions)[len(batch) :]))
    with _lock:
        renewed = ~_latest(numbers, times) & ~held
        taken = ~renewed & ~held
        given = {int(numbers[i]): task.read_action(actions[i, ...]) for i in np.flatnonzero(taken)}
        stepped = _exchange("step", given, partial(_read_step, task))
        for number in given:
            _places[number].time += 1
        new = _start(task, [_rows(batch)[i] for i in np.flatnonzero(renewed)])
        given = dict(zip(new, seeds[renewed].tolist(), strict=True))
        begun = _exchange("reset", given, task.read)
    numbers[renewed] = new
    times = np.where(renewed, 0, times + taken).astype(np.int32)
    observations = np.zeros((numbers.size, *task.shape), task.dtype)
    final_observations = observations.copy()
    rewards = np.zeros(numbers.size, np.float32)
    terminated, truncated = np.zeros((2, numbers.size), bool)
    for i in np.flatnonzero(taken):
        observations[i], final_observations[i], *outcome = stepped[int(numbers[i])]
        rewards[i], terminated[i], truncated[i] = outcome
    for i in np.flatnonzero(renewed):
        observations[i], truncated[i] = begun[int(numbers[i])], True
    results = (numbers, times, observations, final_observations, rewards, terminated)
    results += (truncated & ~terminated, renewed)
    return tuple(result.reshape((*batch, *result.shape[1:])) for result in results)


def render(number: int) -> Any:
    """Return an environment's frame.

    Raises:
        EnvironmentProcessError: If it fails to, or is not in this program.
    """
    with _lock:
        if number not in _places:
            raise EnvironmentProcessError(f"there is no environment of number {number}")
        return _exchange("render", {number: None}, lambda drawn: drawn)[number]


def release(numbers: np.ndarray) -> np.ndarray:
    """Forget environments and end the processes that have none left; return their numbers."""
    with _lock:
        places = [_places.pop(number, None) for number in np.ravel(numbers).tolist()]
        used = {place.process for place in _places.values()}
        for process in {place.process for place in places if place} - used:
            process.close()
    return np.asarray(numbers)


def process_ids(numbers: np.ndarray) -> np.ndarray:
    """Return the operating system's number of the process of each environment."""
    ids = [_places[number].process.process_id for number in np.ravel(numbers).tolist()]
    return np.reshape(ids, np.shape(numbers))


def _rows(shape: tuple[int, ...]) -> list[int]:
    """Return the row of each element of an array of that shape."""
    columns = shape[-1] if shape else 1
    return [index // columns for index in range(int(np.prod(shape)))]


def _latest(numbers: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return where a state is its environment's latest, and not there a second time."""
    _, first = np.unique(numbers, return_index=True)
    latest = np.zeros(numbers.size, bool)
    for i in first:
        place = _places.get(int(numbers[i]))
        latest[i] = place is not None and place.time == times[i]
    return latest


def usable_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start(task: ProcessTask, rows: Sequence[int]) -> list[int]:
    """Start an environment for each entry of ``rows``; return their numbers in that order.

    The processes of all rows together are as many as there are processors, if each row has one.
    """
    counts = Counter(rows)
    most = max(1, usable_processors() // max(1, len(counts)))
    started: dict[int, list[int]] = defaultdict(list)
    for row, count in counts.items():
        for share in np.array_split(np.arange(count), min(count, most)):
            process = Process(task, len(share))
            for index in range(len(share)):
                number = next(_numbers)
                _places[number] = Place(process, index)
                started[row].append(number)
    return [started[row].pop(0) for row in rows]


def _read_step(task: ProcessTask, step: tuple) -> tuple:
    """Return a worker's step with arrays, the last observation always among them."""
    observation, final_observation, reward, *ends = step
    read = task.read(observation)
    final_read = read if final_observation is None else task.read(final_observation)
    return read, final_read, task.read_reward(reward), *ends


def _exchange(method: str, arguments: dict[int, Any], read: Callable[[Any], Any]) -> dict[int, Any]:
    """Run a command in all processes in parallel; return the results by environment number."""
    shares: dict[Process, list[int]] = defaultdict(list)
    for number in arguments:
        shares[_places[number].process].append(number)
    for process, numbers in shares.items():
        process.send((method, {_places[number].index: arguments[number] for number in numbers}))
    results = {}
    try:
        for process, numbers in shares.items():
            for number, result in zip(numbers, process.receive(), strict=True):
                try:
                    results[number] = read(result)
                except EnvironmentProcessError as error:
                    steps = _places[number].time
                    when = f"step {steps + 1} of an environment" if method == "step" else method
                    raise EnvironmentProcessError(f"{error}, in {when}") from error
    except Exception:
        # What the others answer now would be taken for the answer to a later question.
        _abandon(set(shares))
        raise
    return results


def _abandon(processes: set[Process]) -> None:
    for number in [number for number, place in _places.items() if place.process in processes]:
        del _places[number]
    for process in processes:
        process.close()


@atexit.register
def _close_all() -> None:
    _abandon({place.process for place in _places.values()})
