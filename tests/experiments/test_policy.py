import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import memorax
from memorax import environments
from memorax.experiments.cli.command_line import main
from memorax.experiments.play.episode import Player
from memorax.experiments.run.policy import load_step

pytestmark = pytest.mark.exhaustive

SMALL = (
    *("--features", "8", "--num-envs", "4", "--num-steps", "8", "--num-seeds", "2"),
    *("--evaluation-episodes", "2", "--no-memoryless-twin"),
)
RUNS = {
    "discrete": (
        *("--environment", "memory::RepeatFirstEasy", "--torso", "gru", "--previous-inputs"),
        *("--num-minibatches", "2", "--update-epochs", "1", "--total-steps", "64"),
    ),
    "continuous": (
        *("--algorithm", "sac", "--environment", "memory::StatelessPendulumEasy"),
        *("--torso", "min_gru", "--total-steps", "96", "--learning-starts", "64"),
        *("--sequence-length", "8", "--batch-size", "4", "--buffer-size", "256"),
    ),
}
STEPS = 500


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folders of runs that went to their ends."""
    folders = {}
    for name, options in RUNS.items():
        folders[name] = tmp_path_factory.mktemp("runs") / name
        assert main(["train", *SMALL, *options, "--run-folder", str(folders[name])]) == 0
    return folders


def read_log(run, seed, num_steps=STEPS):
    """Return observations, whether they begin episodes, rewards and actions of a policy's play."""
    step = load_step(run, None, seed)
    policy = memorax.Policy.load(run, seed=seed)
    task, params = step.task, step.agent.env_params
    observation, state = task.reset(jax.random.key(0), params)
    advance = jax.jit(lambda key, state, action: task.step(key, state, action, params))
    log, done, reward = [], True, 0.0
    for key in jax.random.split(jax.random.key(1), num_steps):
        if done:
            policy.reset()
        action = policy(observation, reward)
        log.append((np.asarray(observation), done, np.float32(reward), action))
        observation, state, reward, terminated, truncated, _ = advance(key, state, action)
        done, reward = bool(terminated | truncated), float(reward)
    return [np.array(part) for part in zip(*log, strict=True)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", RUNS)
def test_a_policy_acts_as_an_evaluation_does(runs, name, seed):
    step = load_step(runs[name], None, seed)
    agent = step.agent
    key = jax.random.key(3)
    expected = agent.evaluate(key, step.state, num_episodes=1)
    # The same episode, by the evaluation's own keys.
    task = environments.Vectorize(step.task, 1)
    reset_key, key = jax.random.split(key)
    observation, state = task.reset(reset_key, agent.env_params)
    advance = jax.jit(lambda key, state, action: task.step(key, state, action, agent.env_params))
    policy = memorax.Policy.load(runs[name], seed=seed)
    reward, ended, total, length = None, False, 0.0, 0
    while not ended:
        action = policy(observation[0], reward)
        _, step_key = jax.random.split(jax.random.fold_in(key, length))
        observation, state, reward, terminated, truncated, _ = advance(
            step_key, state, action[None]
        )
        reward, ended = float(reward[0]), bool(terminated[0] | truncated[0])
        total, length = total + reward, length + 1
    assert length == expected.episode_lengths[0]
    np.testing.assert_allclose(total, expected.episode_returns[0], rtol=1e-4, atol=1e-5)


# What an observation of the task is not, and what is said of it.
IN_PROCESSES = {
    "gymnasium::CartPole-v1": (
        np.zeros(4),
        r"float32 of shape \(4,\), got float64 of shape \(4,\)",
    ),
    "gymnasium::Pendulum-v1": (
        np.zeros(1, np.float32),
        r"of shape \(3,\), got float32 of shape \(1,",
    ),
    "popgym::AutoencodeEasy": ((0, 4), r"observation\[1\] must lie in Discrete\(4\), got 4"),
    "popgym::BattleshipEasy": (2, r"must lie in Discrete\(2\), got 2"),
    "popgym::CountRecallEasy": (np.zeros(2), r"int64 of shape \(2,\), got float64 of shape \(2,\)"),
}


@pytest.mark.extra("gymnasium")
@pytest.mark.extra("popgym")
@pytest.mark.parametrize("task", IN_PROCESSES)
def test_a_policy_acts_in_what_gymnasium_makes_of_its_task(task, tmp_path):
    import gymnasium

    options = [*SMALL, "--environment", task, "--num-seeds", "1", "--total-steps", "32"]
    options += ["--num-minibatches", "1", "--update-epochs", "1", "--previous-inputs"]
    assert main(["train", *options, "--run-folder", str(tmp_path / "run")]) == 0
    step = load_step(tmp_path / "run", None, 0)
    key = jax.random.key(3)
    expected = Player(step, task, draw=False).play(key, max_steps=10_000)
    suite, _, name = task.partition("::")
    env = gymnasium.make(f"popgym-{name}-v0" if suite == "popgym" else name)
    reset_key, _ = jax.random.split(key)
    observation, _ = env.reset(seed=int(jax.random.bits(reset_key, (), "uint32") >> 1))
    policy = memorax.Policy.load(tmp_path / "run")
    wrong, words = IN_PROCESSES[task]
    with pytest.raises(ValueError, match=words):
        policy(wrong)
    reward, ended, actions, rewards = None, False, [], []
    while not ended:
        action = policy(observation, reward)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        actions.append(action)
        rewards.append(reward)
    encoded = [moment.action for moment in expected.moments]
    if task == "popgym::BattleshipEasy":
        encoded = np.transpose(np.unravel_index(encoded, env.action_space.nvec))
    np.testing.assert_allclose(actions, encoded, rtol=1e-5)
    np.testing.assert_allclose(rewards, [moment.reward for moment in expected.moments], rtol=1e-5)
    env.close()


def test_what_is_no_observation_of_the_task_is_refused(runs):
    policy = memorax.Policy.load(runs["continuous"])
    with pytest.raises(ValueError, match=r"float32 of shape \(2,\), got float32 of shape \(3,\)"):
        policy(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"float32 of shape \(2,\), got float64 of shape \(2,\)"):
        policy(np.zeros(2))
    assert policy(np.zeros(2, np.float32)).shape == (1,)
    reading = memorax.Policy.load(runs["discrete"])
    with pytest.raises(ValueError, match=r"must be int32 of shape \(\), got float64"):
        reading(1.0)
    for choice in (-5, 4, 2**40):
        with pytest.raises(ValueError, match=rf"must lie in Discrete\(n=4\), got {choice}"):
            reading(choice)
    assert reading(1).shape == ()
    with pytest.raises(ValueError, match="also needs the reward of its last action"):
        reading(1)


def test_what_a_run_does_not_have_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 1, got 2"):
        memorax.Policy.load(runs["discrete"], seed=2)
    with pytest.raises(ValueError, match=r"unknown model .* 'mlp'"):
        memorax.Policy.load(runs["discrete"], model="mlp")
    with pytest.raises(ValueError, match="is not a run folder"):
        memorax.Policy.load(tmp_path)


# What runs elsewhere, with neither memorax nor, for ONNX, JAX.
ELSEWHERE = {
    "stablehlo": """
import sys; sys.modules["memorax"] = None
import jax
program = jax.export.deserialize(bytearray(open(folder + "/policy.stablehlo", "rb").read()))
assert program.platforms == ("cpu", "cuda", "tpu")
call = jax.jit(program.call)
""",
    "onnx": """
import sys; sys.modules["memorax"] = sys.modules["jax"] = None
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/policy.onnx")
def call(*arguments):
    return session.run(outputs, dict(zip(inputs, map(np.asarray, arguments))))
""",
}
LOOP = """
carry = list(np.load(folder + "/initial_carry.npz", allow_pickle=False).values())
log, actions = np.load(log_path), []
for observation, done, reward in zip(log["observations"], log["dones"], log["rewards"]):
    rest = [reward] if "reward" in inputs else []
    action, *carry = call(observation, *carry, done, *rest)
    actions.append(np.asarray(action))
np.save(actions_path, actions)
"""
BEGIN = """
import json, sys
import numpy as np
folder, log_path, actions_path = sys.argv[1:]
signature = json.load(open(folder + "/signature.json"))
inputs, outputs = ([part["name"] for part in signature[key]] for key in ("inputs", "outputs"))
"""


@pytest.mark.parametrize("kind", ELSEWHERE)
@pytest.mark.parametrize("name", RUNS)
def test_an_exported_step_acts_alike_without_memorax(runs, name, kind, caplog, tmp_path):
    folder = tmp_path / "exported"
    options = ["--output", str(folder), "--format", kind, "--seed", "1"]
    assert main(["export", str(runs[name]), *options]) == 0
    assert not caplog.records
    observations, dones, rewards, actions = read_log(runs[name], 1)
    assert dones.sum() > 2
    log_path, actions_path = tmp_path / "log.npz", tmp_path / "actions.npy"
    np.savez(log_path, observations=observations, dones=dones, rewards=rewards)
    script = BEGIN + ELSEWHERE[kind] + LOOP
    command = [sys.executable, "-c", script, str(folder), str(log_path), str(actions_path)]
    subprocess.run(command, check=True, cwd=tmp_path)
    elsewhere = np.load(actions_path)
    assert elsewhere.shape == actions.shape
    if name == "discrete":
        np.testing.assert_array_equal(elsewhere, actions)
    else:
        np.testing.assert_allclose(elsewhere, actions, rtol=1e-4, atol=1e-4)
    signature = json.loads((folder / "signature.json").read_text())
    assert signature["inputs"][0]["shape"] == list(observations.shape[1:])


def test_an_export_overwrites_nothing_and_leaves_nothing_half_made(runs, capsys, tmp_path):
    assert main(["export", str(runs["discrete"]), "--output", str(tmp_path)]) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err
    assert main(["export", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_onnx_names_its_extra(runs, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    arguments = [str(runs["discrete"]), "--output", str(tmp_path / "x"), "--format", "onnx"]
    assert main(["export", *arguments]) == 2
    assert "needs the extra onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_memorax_itself_stays_light_to_import():
    script = "import sys, memorax; assert 'jax' not in sys.modules; memorax.Policy"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Polcy'"):
        memorax.Polcy  # noqa: B018
