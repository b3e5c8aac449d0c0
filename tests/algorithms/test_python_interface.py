"""What a script has beside ``init``, ``train`` and ``evaluate``: progress, a policy, files."""

import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import memorax
from memorax import environments
from memorax.algorithms import progress
from memorax.algorithms.saving import abstract_state
from memorax.environments import MaskObservation, NormalizeObservation
from tests.algorithms.agents import gru_torso, make_agent, make_pqn, make_sac

KEY = jax.random.key(0)
UPDATES = 5


@pytest.fixture(scope="module", autouse=True)
def _few_reports():
    """Report every two of five updates, and the one that is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorax.algorithms.reporting, "REPORTS", 3)
        yield


@pytest.fixture(scope="module")
def agent():
    return make_pqn(num_steps=4, num_minibatches=1)


@pytest.fixture(scope="module")
def state(agent):
    return agent.init(KEY)


@pytest.fixture(scope="module")
def num_steps(agent):
    return UPDATES * agent.steps_per_update


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_callback_gets_every_metric_once_and_changes_nothing(agent, state, num_steps):
    expected = agent.train(KEY, state, num_steps)
    reports = []
    trained = agent.train(KEY, state, num_steps, reports.append)
    assert_equal(trained, expected)
    per_update = agent.steps_per_update
    assert [report.step for report in reports] == [2 * per_update, 4 * per_update, num_steps]
    assert {report.num_steps for report in reports} == {num_steps}
    for name, values in expected[1].items():
        together = np.concatenate([report.metrics[name] for report in reports])
        np.testing.assert_array_equal(together, values)


def test_another_callback_compiles_nothing(agent, state, num_steps):
    agent.train(KEY, state, num_steps, lambda _: None)
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        compiled = []
        patch.setattr(type(agent), "_update", lambda *_: compiled.append(1))
        agent.train(KEY, state, num_steps, lambda _: None)
    assert compiled == []


def test_what_a_callback_raises_stops_training_as_it_is(agent, state, num_steps, capfd):
    steps = []

    def stop(report):
        steps.append(report.step)
        raise StopIteration("good enough")

    with pytest.raises(StopIteration, match="good enough"):
        agent.train(KEY, state, num_steps, stop)
    assert steps == [2 * agent.steps_per_update]
    assert capfd.readouterr().err == ""


def test_a_callback_sees_all_seeds_of_a_vmap_at_once(agent, num_steps):
    keys = jax.random.split(KEY, 2)
    states = jax.vmap(agent.init)(keys)
    reports = []

    def train(key, state):
        return agent.train(key, state, num_steps, reports.append)

    _, metrics = jax.block_until_ready(jax.jit(jax.vmap(train))(keys, states))
    assert len(reports) == 3
    shown = np.concatenate([report.metrics["loss"] for report in reports], axis=1)
    np.testing.assert_array_equal(shown, metrics["loss"])
    assert shown.shape == (2, UPDATES)


@pytest.mark.usefixtures("as_a_user")
def test_a_callback_must_be_callable(agent, state):
    with pytest.raises(ValueError, match=r"PQN.train: callback must be .* got 3"):
        agent.train(KEY, state, 1, 3)


@pytest.mark.parametrize("width", [80, 120])
def test_a_progress_bar_shows_how_far_training_is(agent, state, num_steps, monkeypatch, width):
    shown = io.StringIO()
    console = Console(file=shown, width=width)
    monkeypatch.setattr(
        progress,
        "progress_line",
        lambda *args, line=progress.progress_line, **options: line(
            *args, **options, console=console
        ),
    )
    agent.train(KEY, state, num_steps, memorax.ProgressBar("PQN"))
    (line,) = shown.getvalue().splitlines()
    assert line.startswith("PQN ━")
    assert "100%" in line
    assert "steps/s" in line
    assert len(line) <= width


def test_a_bar_says_for_how_long_a_program_is_compiled():
    shown = io.StringIO()
    console = Console(file=shown, width=120)
    line = progress.progress_line("gru", 10, console=console)
    console.print(line.get_renderable())
    assert "compiling, 0 s" in shown.getvalue()
    progress.advance(line, 5, np.ones((1, 2)), 1.0)
    console.print(line.get_renderable())
    assert shown.getvalue().splitlines()[-1].split()[-2:] == ["return", "1.00"]
    assert "5 steps/s" in shown.getvalue()


def test_a_policy_acts_as_an_evaluation_does_through_wrappers():
    env, params = environments.make("memory::StatelessCartPoleEasy")
    wrapped = NormalizeObservation(MaskObservation(env, hidden=(0,)))
    agent = make_agent(gru_torso(8), wrapped, params, num_steps=8)
    state, _ = agent.train(KEY, agent.init(KEY), 256)
    expected = agent.evaluate(KEY, state, num_episodes=1, max_steps=500)
    policy = agent.policy(state)
    assert isinstance(policy, memorax.Policy)
    task = environments.Vectorize(env, 1)
    reset_key, key = jax.random.split(KEY)
    observation, env_state = task.reset(reset_key, params)
    total, ended, length = 0.0, False, 0
    while not ended:
        action = policy(observation[0])
        _, step_key = jax.random.split(jax.random.fold_in(key, length))
        observation, env_state, reward, terminated, truncated, _ = task.step(
            step_key, env_state, jnp.asarray(action)[None], params
        )
        total, length = total + float(reward[0]), length + 1
        ended = bool((terminated | truncated)[0])
    assert length == int(expected.episode_lengths[0])
    assert total == pytest.approx(float(expected.episode_returns[0]))


def test_a_policy_is_of_one_seed(agent):
    states = jax.vmap(agent.init)(jax.random.split(KEY, 3))
    with pytest.raises(ValueError, match=r"PQN.policy: state must be of one seed, got 3; take"):
        agent.policy(states)


def filled(like, *seeds):
    """Return a state of an agent with other numbers in every array; nothing is compiled."""
    shapes, structure = jax.tree.flatten(like)
    leaves = [
        np.full((*seeds, *leaf.shape), index % 2, leaf.dtype) for index, leaf in enumerate(shapes)
    ]
    return jax.tree.unflatten(structure, leaves)


@pytest.mark.parametrize(("make", "seeds"), [(make_pqn, ()), (make_sac, (2,))])
def test_a_saved_state_is_loaded_as_it_was(make, seeds, tmp_path):
    agent = make()
    state = filled(abstract_state(agent), *seeds)
    path = tmp_path / "agent.npz"
    memorax.save(path, agent, state)
    assert_equal(memorax.load(path, agent), state)
    assert list(tmp_path.iterdir()) == [path]


def test_half_precision_and_keys_are_saved(agent, tmp_path):
    class Other(type(agent)):
        def _init(self, key):
            return {"half": jnp.arange(3, dtype=jnp.bfloat16), "key": key}

    other = Other(agent.config, agent.env, None, agent.network, agent.optimizer)
    state = other.init(KEY)
    memorax.save(tmp_path / "other", other, state)
    loaded = memorax.load(tmp_path / "other", other)
    assert loaded["half"].dtype == jnp.bfloat16
    assert_equal(loaded["half"], state["half"])
    assert (loaded["key"] == KEY).all()


def test_what_does_not_fit_or_is_no_saved_state_is_refused_in_one_line(agent, state, tmp_path):
    path = tmp_path / "agent.npz"
    with pytest.raises(ValueError, match="save: state must be a PQNState of this agent, got dict"):
        memorax.save(path, agent, {})
    assert not path.exists()
    memorax.save(path, agent, state)
    wider = make_pqn(gru_torso(16), num_steps=4, num_minibatches=1)
    with pytest.raises(ValueError, match=r"agent.npz does not fit the agent: \S+ is float32 \("):
        memorax.load(path, wider)
    with pytest.raises(ValueError, match="holds a state of PQN, and the agent is PPO"):
        memorax.load(path, make_agent(gru_torso(8)))
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole.replace(b"float32", b"float99")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"agent.npz (is damaged|does not fit)") as error:
            memorax.load(path, agent)
        assert "\n" not in str(error.value)


class Touch:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_loading_executes_nothing(agent, tmp_path):
    path, touched = tmp_path / "agent.npz", tmp_path / "touched"
    with path.open("wb") as file:
        np.savez(file, memorax=np.array(Touch(str(touched)), object))
    assert zipfile.is_zipfile(path)
    with pytest.raises(ValueError, match=r"is damaged or was not written by memorax\.save"):
        memorax.load(path, agent)
    assert not touched.exists()
