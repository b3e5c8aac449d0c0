"""The program of a process that runs Gymnasium environments for another process.

It is run as a file and imports nothing of memorax, so that it starts quickly. It receives pickled
messages on a pipe and exits when the pipe is closed.
"""

import faulthandler
import pickle
import sys
import traceback
from copy import deepcopy
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


class Worker:
    """Some environments of one task.

    Their results are copied immediately: many environments reuse one array, or share it with others
    of their class.

    Args:
        task: Gymnasium's ``EnvSpec`` and its constructor's arguments, pickled.
        num_envs: Number of environments.
    """

    def __init__(self, task: bytes, num_envs: int):
        import gymnasium  # noqa: PLC0415

        spec, params = pickle.loads(task)
        self._envs = [
            gymnasium.make(spec, disable_env_checker=True, **params) for _ in range(num_envs)
        ]

    def reset(self, seeds: dict[int, int]) -> list[Any]:
        """Begin episodes; return their first observations."""
        return [deepcopy(self._envs[index].reset(seed=seed)[0]) for index, seed in seeds.items()]

    def render(self, indices: dict[int, None]) -> list[Any]:
        """Return what environments draw."""
        return [deepcopy(self._envs[index].render()) for index in indices]

    def step(self, actions: dict[int, Any]) -> list[tuple]:
        """Act once in some environments; one whose episode ends begins the next.

        Returns:
            For each, the observation, the last one of the episode if it ended (else None),
            reward as an array, terminated and truncated.
        """
        steps = []
        for index, action in actions.items():
            env = self._envs[index]
            observation, reward, terminated, truncated, _ = env.step(action)
            observation, final_observation = deepcopy(observation), None
            if terminated or truncated:
                final_observation = observation
                observation = deepcopy(env.reset()[0])
            # The other process checks that it is a number.
            outcome = np.array(reward), bool(terminated), bool(truncated)
            steps.append((observation, final_observation, *outcome))
        return steps


def main() -> None:
    """Serve until the pipe is closed; an error is sent with its traceback."""
    faulthandler.enable()
    connection = Connection(int(sys.argv[1]))
    try:
        worker = Worker(*connection.recv())
        while True:
            method, argument = connection.recv()
            connection.send((True, getattr(worker, method)(argument)))
    except EOFError:
        return
    except BaseException:
        connection.send((False, traceback.format_exc()))


if __name__ == "__main__":
    main()
