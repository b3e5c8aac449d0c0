"""An environment of Gymnasium's of any spaces, by their names."""

import gymnasium
import numpy as np
from gymnasium import spaces

OBSERVATIONS = {
    "scalar": spaces.Box(-1.0, 1.0, ()),
    "vector": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "matrix": spaces.Box(-1.0, 1.0, (2, 3), np.float32),
    "picture": spaces.Box(0, 255, (6, 5, 3), np.uint8),
    "bytes": spaces.Box(0, 255, (4,), np.uint8),
    "double": spaces.Box(-1e3, 1e3, (2,), np.float64),
    "long": spaces.Box(-(2**31), 2**31 - 1, (2,), np.int64),
    "choice": spaces.Discrete(5),
    "choice_from_minus_two": spaces.Discrete(4, start=-2),
    "choices": spaces.MultiDiscrete([3, 4]),
    "table_of_choices": spaces.MultiDiscrete([[3, 4], [2, 5]]),
    "bits": spaces.MultiBinary(5),
    "square_of_bits": spaces.MultiBinary((2, 3)),
    "dictionary": spaces.Dict(
        first=spaces.Box(-1.0, 1.0, (2,)), second=spaces.Discrete(3, start=1)
    ),
    "tuple": spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 255, (7, 7, 1), np.uint8))),
    "nested": spaces.Dict(
        inside=spaces.Dict(deep=spaces.Tuple((spaces.MultiBinary(2), spaces.Box(-9.0, 9.0, ())))),
        beside=spaces.Box(-1.0, 1.0, (2, 2, 2, 2)),
    ),
    "empty": spaces.Box(-1.0, 1.0, (0,)),
    "text": spaces.Text(5),
    "sequence": spaces.Sequence(spaces.Discrete(3)),
}
ACTIONS = {
    "choice": spaces.Discrete(3),
    "choice_from_five": spaces.Discrete(3, start=5),
    "only_choice": spaces.Discrete(1),
    "choices": spaces.MultiDiscrete([2, 3]),
    "bits": spaces.MultiBinary(2),
    "bounded": spaces.Box(-2.0, 1.0, (2,)),
    "unequally_bounded": spaces.Box(np.float32([-1, 0]), np.float32([1, 100]), (2,)),
    "half_bounded": spaces.Box(0.0, np.inf, (2,)),
    "unbounded": spaces.Box(-np.inf, np.inf, (1,)),
    "scalar": spaces.Box(-1.0, 1.0, ()),
    "matrix": spaces.Box(-1.0, 1.0, (2, 2)),
    "double": spaces.Box(-1.0, 1.0, (2,), np.float64),
    "integers": spaces.Box(0, 5, (2,), np.int32),
    "empty": spaces.Box(-1.0, 1.0, (0,)),
    "dictionary": spaces.Dict(left=spaces.Discrete(2), right=spaces.Box(-1.0, 1.0, (1,))),
}


class Spaced(gymnasium.Env):
    """Shows what it draws, refuses what is no action, and ends by a time limit of three steps.

    Args:
        observation: A name of ``OBSERVATIONS``.
        action: A name of ``ACTIONS``.
    """

    def __init__(self, observation, action):
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        self._count += 1
        return self.observation_space.sample(), 1.0, False, self._count == 3, {}


gymnasium.register("Spaced-v0", entry_point="tests.environments.spaced:Spaced")
