import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.algorithms import StreamingActorCriticConfig
from memorax.algorithms.acting import apply_sequence
from memorax.algorithms.eligibility_traces import overshooting_bounded_step, sparse_kernels
from tests.algorithms.agents import gru_torso, make_streaming_ac, perturbed

GAMMA, DECAY = 0.9, 0.7
STILL = {
    "step_size": 0.0,
    "sparsity": 0.0,
    "gamma": GAMMA,
    "trace_decay": DECAY,
    "normalize_rewards": False,
    "normalize_observations": False,
}
"""With parameters that are held still, the gradients carried are exact."""


@pytest.fixture(scope="module")
def stream():
    """A stream of steps without learning: the agent, its states before each, and what it says."""
    agent = make_streaming_ac(**STILL)

    @jax.jit
    def run(key):
        state = agent.init(key)
        state = state.replace(params=perturbed(state.params))

        def step(state, key):
            following, reported = agent._step(state, key)
            return following, (state, reported)

        return jax.lax.scan(step, state, jax.random.split(key, 40))[1]

    states, (metrics, learned, _) = run(jax.random.key(0))
    return agent, states, metrics, np.asarray(learned)


def starts_of(states):
    return np.flatnonzero(np.asarray(states.timestep.done)[:, 0])


def test_errors_bootstrap_at_time_limits_and_not_at_terminations(stream):
    _, states, metrics, learned = stream
    values = np.asarray(metrics["value"])
    count, limited = np.moveaxis(np.asarray(states.timestep.observation[:, 0]), -1, 0)
    terminated = np.isclose(count, 0.8) & (limited == 0)
    assert terminated.any()
    np.testing.assert_array_equal(learned, ~np.isclose(count, 1.0))
    assert not learned.all()
    steps = np.flatnonzero(learned[:-1])
    following = np.where(terminated, 0.0, np.roll(values, -1))[steps]
    errors = 1.0 + GAMMA * following - values[steps]
    np.testing.assert_allclose(
        np.asarray(metrics["value_loss"])[steps], 0.5 * errors**2, rtol=1e-4, atol=1e-6
    )


def test_traces_are_sums_of_gradients_of_backpropagation_through_the_episode(stream):
    agent, states, metrics, _ = stream
    start, after = starts_of(states)[1:3]
    first, last = int(start), int(after) - 1
    params = jax.tree.map(lambda leaf: leaf[0], states.params)
    steps = jax.tree.map(lambda leaf: leaf[None, first:last, 0], states.timestep)
    actions = states.timestep.action[None, first + 1 : last + 1, 0]
    values = np.asarray(metrics["value"])[first : last + 1]
    signs = jnp.asarray(np.sign(1.0 + GAMMA * values[1:] - values[:-1]))
    weights = (GAMMA * DECAY) ** jnp.arange(last - first - 1, -1, -1.0)

    @jax.jit
    def expected(params):
        def preference(params):
            _, policy = apply_sequence(agent.networks["actor"], params, steps, None)
            bonus = agent.config.entropy_coefficient * signs * policy.entropy()[0]
            return jnp.sum(weights * (policy.log_prob(actions)[0] + bonus))

        def value(params):
            return jnp.sum(
                weights * apply_sequence(agent.networks["critic"], params, steps, None)[1]
            )

        return {
            "actor": jax.grad(preference)(params["actor"]),
            "critic": jax.grad(value)(params["critic"]),
        }

    gradients = expected(params)
    # The encoder before the memory has the gradient of the latest step alone.
    traces = jax.tree.map(lambda leaf: leaf[last], states.traces)
    for name in traces:
        for part in ("torso", "head"):
            pair = (traces[name]["params"][part], gradients[name]["params"][part])
            for got, wanted in zip(*map(jax.tree.leaves, pair), strict=True):
                np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)
    begun = jax.tree.map(lambda leaf: leaf[first], states.traces)
    assert not any(leaf.any() for leaf in jax.tree.leaves(begun))


@pytest.mark.parametrize("td_error", [-3.0, 0.4, 0.0])
@pytest.mark.parametrize("scale", [0.01, 5.0])
def test_a_bounded_step_is_that_of_the_paper(td_error, scale):
    draw = np.random.default_rng(0)
    params, trace = (
        {"a": draw.standard_normal(3), "b": draw.standard_normal((2, 2))} for _ in "pz"
    )
    trace = {name: scale * leaf for name, leaf in trace.items()}
    length = sum(np.abs(leaf).sum() for leaf in trace.values())
    # Overshooting-bounded gradient descent, arXiv 2410.14606.
    bound = 0.5 * 2.0 * max(abs(td_error), 1.0) * length
    size = min(0.5 / bound, 0.5)
    moved, bounded = overshooting_bounded_step(params, trace, jnp.float32(td_error), 0.5, 2.0)
    np.testing.assert_allclose(bounded, size, rtol=1e-6)
    for name in params:
        wanted = params[name] + size * td_error * trace[name]
        np.testing.assert_allclose(moved[name], wanted, rtol=1e-6)


def test_kernels_begin_sparse_and_no_unit_without_input():
    params = {
        "wide": {"kernel": jnp.ones((40, 7)), "bias": jnp.ones(7)},
        "kernel": jnp.ones((3, 5)),
    }
    drawn = sparse_kernels(jax.random.key(0), params, 0.9)
    kept = [np.count_nonzero(drawn["wide"]["kernel"], axis=0), np.count_nonzero(drawn["kernel"], 0)]
    np.testing.assert_array_equal(kept[0], 4)
    np.testing.assert_array_equal(kept[1], 1)
    assert np.abs(drawn["wide"]["kernel"]).max() <= 40**-0.5
    np.testing.assert_array_equal(drawn["wide"]["bias"], 1.0)
    for old, new in zip(
        *map(jax.tree.leaves, (params, sparse_kernels(jax.random.key(0), params, 0.0))), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_a_memory_without_an_exact_gradient_is_refused_by_name_or_truncated():
    with pytest.raises(ValueError, match="actor: GRUCell has no exact recurrent gradient"):
        make_streaming_ac(gru_torso(4))
    agent = make_streaming_ac(gru_torso(4), recurrent_gradient="truncated")
    assert agent.notes == ("recurrent gradient truncated: through the latest step only",)
    assert jax.eval_shape(agent.init, jax.random.key(0)).sensitivities["actor"] == {}


def test_settings_out_of_range_are_refused(as_a_user):
    with pytest.raises(ValueError, match=r"recurrent_gradient 'exakt'.*exact"):
        StreamingActorCriticConfig(recurrent_gradient="exakt")
    with pytest.raises(ValueError, match="sparsity must be a number from 0 to 1, got 2"):
        StreamingActorCriticConfig(sparsity=2)
