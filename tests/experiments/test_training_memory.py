import jax
import pytest

from memorax.algorithms import PPOConfig
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.devices import one_device
from memorax.experiments.run.program import Program, run_once_options


def memory(num_steps, num_updates):
    """Return the memory of a compiled training by name, and the bytes of its state."""
    config = TrainConfig(
        environment="memory::MemoryChain",
        features=8,
        num_seeds=1,
        algorithm=PPOConfig(num_envs=4, num_steps=num_steps, num_minibatches=2, update_epochs=1),
    )
    agent = make_agent(config, "gru")
    program = Program(one_device(), config, "gru", agent)
    compiled = program.compiled(num_updates * agent.steps_per_update)
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.like))
    return compiled.memory_analysis(), state_bytes


@pytest.fixture(scope="module")
def short_rollout():
    return memory(num_steps=32, num_updates=2)


def test_memory_does_not_grow_with_updates(short_rollout):
    more, _ = memory(num_steps=32, num_updates=16)
    # But for the keys and the metrics of each update.
    assert more.temp_size_in_bytes <= 1.1 * short_rollout[0].temp_size_in_bytes


def test_memory_grows_with_the_rollout(short_rollout):
    longer, _ = memory(num_steps=128, num_updates=2)
    assert 2 <= longer.temp_size_in_bytes / short_rollout[0].temp_size_in_bytes <= 4.2


def test_training_takes_over_the_memory_of_the_state(short_rollout):
    analysis, state_bytes = short_rollout
    assert analysis.alias_size_in_bytes >= 0.9 * state_bytes


def test_a_program_that_runs_once_is_not_optimised_unless_the_user_says(monkeypatch):
    name = "xla_backend_optimization_level"
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    options = run_once_options()
    assert options == {name: 0}
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2
    monkeypatch.setenv("XLA_FLAGS", f"--{name}=3")
    assert run_once_options() == {}
