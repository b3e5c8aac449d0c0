"""A user's own Gymnasium environments, wherever they were written."""

import subprocess
import sys
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.environments import Vectorize, release
from memorax.experiments.cli.command_line import main
from memorax.networks import FeatureExtractor, Network, heads
from tests.algorithms.tasks import Counting as InJax

gymnasium = pytest.importorskip("gymnasium")
from tests.environments.counting import Counting, Filling  # noqa: E402

KEY = jax.random.key(0)


def steps(env, num_steps=2):
    """Return what two copies show step by step."""
    envs = Vectorize(env, 2)
    observation, state = envs.reset(KEY, None)
    shown = [observation]
    for _ in range(num_steps):
        observation, state, *_ = envs.step(KEY, state, jnp.zeros(2, jnp.int32), None)
        shown.append(observation)
    release(state)
    return np.array(shown)


class Locked(Counting):
    """An environment that holds what no other process can have."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def local_class(start):
    class Local(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 100, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.count = start
            return np.float32([self.count]), {}

        def step(self, action):
            self.count += 1
            return np.float32([self.count]), 1.0, False, False, {}

    return Local


gymnasium.register("Local-v0", entry_point=local_class(6), max_episode_steps=100)


@pytest.mark.parametrize(
    ("own", "first"),
    [
        (Filling, 0),
        (lambda: Filling("array"), 0),
        (local_class(3), 3),
        (lambda: gymnasium.wrappers.TimeLimit(local_class(4)(), 100), 4),
        (gymnasium.wrappers.TransformReward(local_class(5)(), lambda reward: 2 * reward), 5),
        (gymnasium.make("Local-v0"), 6),
        ("gymnasium::Local-v0", 6),
    ],
    ids=["class", "lambda", "local class", "closure", "environment", "made", "registered"],
)
def test_an_environment_of_one_s_own_runs_in_processes(own, first):
    env, params = environments.make(own)
    assert params is None
    assert steps(env).tolist() == [[[first], [first]], [[first + 1]] * 2, [[first + 2]] * 2]


def test_an_environment_that_is_given_is_copied_and_never_stepped_itself():
    own = Counting()
    own.reset()
    own.step((0, 0))
    env, _ = environments.make(own, max_episode_steps=2)
    counts = steps(env, 3)[:, :, 1]
    assert counts.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]], "the time limit is two steps"
    assert own._count == 1


def test_what_a_class_s_constructor_takes_is_a_parameter():
    env, _ = environments.make(Filling, kind="tuple", max_episode_steps=3)
    assert len(env.observation_space(None)) == 2
    with pytest.raises(ValueError, match=r"unknown parameter of gymnasium::Filling, 'kin'"):
        environments.make(Filling, kin="tuple")


@pytest.mark.parametrize("own", [Filling(), Filling, lambda: Filling("array")])
def test_an_agent_takes_it_too(own):
    def network(head):
        return Network(FeatureExtractor(observation_extractor=nn.Dense(4)), nn.Dense(4), head)

    actor, critic = network(heads.Categorical(action_dim=2)), network(heads.VNetwork())
    config = PPOConfig(num_envs=2, num_steps=4, num_minibatches=1)
    agent = PPO(config, own, None, actor, critic, optax.adam(1e-3))
    assert agent.env.name == ("lambda" if own.__class__.__name__ == "function" else "Filling")


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (Locked(), "gymnasium::Locked runs in processes, and cannot be sent to one: TypeError: c"),
        (InJax(), "Counting is an environment already: give it to the agent as it is"),
        (InJax, "got the class Counting"),
        (3, "got int"),
        (gymnasium.vector.SyncVectorEnv([Filling]), "got SyncVectorEnv"),
        (lambda: 3, "must inherit from the gymnasium.Env class"),
        (lambda: 1 / 0, "lambda> cannot be made with {}: ZeroDivisionError: division by zero"),
        ("Filling-v0", "'suite::name', got 'Filling-v0'; for one of your own, register it in a m"),
        (
            "gymnasium::Fillin-v0",
            "for one of your own, register it in a module, gymnasium.register",
        ),
        (
            "gymnasium::tests.environments.counting:Fillin",
            "the closest are: tests.environments.counting:Filling",
        ),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_line_that_says_what_can(own, words):
    with pytest.raises(ValueError, match=r".") as told:
        environments.make(own)
    (line,) = str(told.value).splitlines()
    assert words in line
    if "runs in processes" in line:
        assert "gymnasium.register(id='Name-v0', entry_point='module:Class')" in line
        assert "'gymnasium::module:Name-v0'" in line
        assert "; pass its class, Locked, or a function that makes one, or register it" in line


def test_a_class_may_be_named_by_its_module():
    env, _ = environments.make("gymnasium::tests.environments.counting:Filling")
    assert steps(env).shape == (3, 2, 1)
    # Names come from files too: nothing but an environment is called.
    for name in ("os:system", "subprocess:Popen", "tests.environments.counting:REWARDS"):
        with pytest.raises(ValueError, match="unknown gymnasium environment"):
            environments.make(f"gymnasium::{name}")


def test_a_command_names_what_to_do_for_a_class_of_one_s_own(capsys):
    assert main(["train", "--environment", "__main__:Maze"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "got '__main__:Maze'; for one of your own, register it in a module, gymnasium.regi" in line
    )
    assert main(["train", "--environment", "gymnasium::__main__:Maze"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown gymnasium environment '__main__:Maze'" in line


def test_a_script_s_own_classes_work_as_those_of_a_module_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from memorax import environments

STEP = 2.0


class Maze(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 100, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0.0
        return np.float32([self.place]), {}

    def step(self, action):
        self.place += STEP
        return np.float32([self.place]), 1.0, False, False, {}


gymnasium.register("Text-v0", entry_point="__main__:Maze")
gymnasium.register("Class-v0", entry_point=Maze)
gymnasium.register("Lambda-v0", entry_point=lambda: Maze())
for own in (Maze, Maze(), "Text-v0", "Class-v0", "Lambda-v0", "__main__:Maze"):
    env, params = environments.make(f"gymnasium::{own}" if isinstance(own, str) else own)
    observation, state = env.reset(jax.random.key(0), params)
    observation, state, *_ = env.step(jax.random.key(0), state, 0, params)
    print(env.name, float(observation[0]))
    environments.release(state)
""")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    names = ["Maze", "Maze", "Text-v0", "Class-v0", "Lambda-v0", "__main__:Maze"]
    assert done.stdout.splitlines() == [f"{name} 2.0" for name in names]
