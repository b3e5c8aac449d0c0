"""An environment of Gymnasium's that says which process it is in, and can be made to fail."""

import os
import signal
from pathlib import Path

import gymnasium
import numpy as np


class Counting(gymnasium.Env):
    """Shows its process and how many steps the episode has had; five are its time limit.

    Args:
        failure: At the third step, raise an error, kill the process or show one number too many
            ("error", "kill", "shape").
        while_there: Fail only while there is such a file.
    """

    observation_space = gymnasium.spaces.Box(0, 2**31 - 1, (2,), np.int64)
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def __init__(self, failure="", while_there="/"):
        self._failure, self._while_there = failure, Path(while_there)

    def _observation(self):
        return np.array([os.getpid(), self._count])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count = 0
        return self._observation(), {}

    def step(self, action):
        self._count += 1
        if self._count == 3 and self._while_there.exists():
            if self._failure == "error":
                raise RuntimeError("three is too much")
            if self._failure == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._failure == "shape":
                return np.zeros(3, int), 0.0, False, False, {}
        reward = 10.0 * action[0] + action[1]
        return self._observation(), reward, False, self._count == 5, {}


class Several(gymnasium.Env):
    """Shows the steps of the episode so far in several parts; five are its time limit."""

    observation_space = gymnasium.spaces.Dict(
        picture=gymnasium.spaces.Box(0, 255, (6, 5, 3), np.uint8),
        choice=gymnasium.spaces.Discrete(7, start=1),
        numbers=gymnasium.spaces.Tuple(
            (gymnasium.spaces.Box(-9, 9, (2,)), gymnasium.spaces.MultiDiscrete([8, 9]))
        ),
    )
    action_space = gymnasium.spaces.Discrete(2)

    def _observation(self):
        count = self._count
        return {
            "picture": np.full((6, 5, 3), 50 * count, np.uint8),
            "choice": count + 1,
            "numbers": (np.float32([count, -count]), np.array([count, count + 1])),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count = 0
        return self._observation(), {}

    def step(self, action):
        self._count += 1
        return self._observation(), float(action), False, self._count == 5, {}


gymnasium.register("Counting-v0", entry_point="tests.environments.counting:Counting")
gymnasium.register("Several-v0", entry_point="tests.environments.counting:Several")


class Filling(gymnasium.Env):
    """Shows how many steps the episode has had, in arrays that all of its class fill again.

    Args:
        kind: What it shows them in ("array", "dictionary", "tuple").
    """

    action_space = gymnasium.spaces.Discrete(2)
    count, hundreds = np.zeros(1, np.float32), np.zeros(2, np.float32)

    def __init__(self, kind="array"):
        one, two = (gymnasium.spaces.Box(0, 1000, (size,), np.float32) for size in (1, 2))
        self._shown, self.observation_space = {
            "array": (self.count, one),
            "dictionary": (
                {"count": self.count, "inside": {"hundreds": self.hundreds}},
                gymnasium.spaces.Dict(count=one, inside=gymnasium.spaces.Dict(hundreds=two)),
            ),
            "tuple": ((self.count, self.hundreds), gymnasium.spaces.Tuple((one, two))),
        }[kind]

    def _fill(self):
        self.count[:] = self._count
        self.hundreds[:] = 100 * self._count
        return self._shown

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count = 0
        return self._fill(), {}

    def step(self, action):
        # Environments of different actions have different counts.
        self._count += 1 + int(action)
        return self._fill(), 0.0, False, False, {}


gymnasium.register("Filling-v0", entry_point="tests.environments.counting:Filling")


REWARDS = {
    "array": np.array([1.5]),
    "scalar": np.float64(1.5),
    "integer": np.int64(2),
    "none": None,
    "nan": float("nan"),
    "infinite": np.float64("inf"),
    "huge": 1e300,
    "two": np.ones(2),
    "text": "1.5",
}
SHOWN = {"zero": 0.0, "nan": np.nan, "infinite": -np.inf}


class Paying(gymnasium.Env):
    """Pays or shows what it is told to, at the second step.

    Args:
        reward: What it pays, a name of ``REWARDS``.
        shown: What it shows, a name of ``SHOWN``.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, reward="scalar", shown="zero"):
        self._reward, self._shown = REWARDS[reward], SHOWN[shown]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self._count += 1
        late = self._count == 2
        shown = np.array([0.0, self._shown if late else 0.0], np.float32)
        return shown, self._reward if late else 1.0, False, False, {}


gymnasium.register("Paying-v0", entry_point="tests.environments.counting:Paying")
