"""The gradient carried beside a memory's state is that of the whole episode."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN, CausalConv1d, Memoroid, RTUCell, RTUConfig, Stack
from memorax.networks.sequence_models.base import initialize_carry
from memorax.networks.sequence_models.sensitivities import (
    without_exact_gradient,
    zero_sensitivities,
)
from tests.registry import REGISTRY

BATCH, TIME, FEATURES = 2, 9, 3
# The second row resets at the first step, twice in succession and at the last.
DONE = np.zeros((BATCH, TIME), bool)
DONE[0, 4] = DONE[1, [0, 5, 6, 8]] = True

MODELS = {entry.name: entry.build(None, jnp.float64) for entry in REGISTRY}
MEMORIES = {
    name: model
    for name, model in MODELS.items()
    if isinstance(model, RNN | Memoroid) and not without_exact_gradient(model)
} | {"causal_conv1d": CausalConv1d(3, 3, param_dtype=jnp.float64)}


def gradients_by_step(model, exact=True):
    """Return the gradients of each step's loss: carried beside the state, and of the episode."""
    draw = np.random.default_rng(0)
    inputs = jnp.asarray(draw.standard_normal((BATCH, TIME, FEATURES)))
    params = model.init(jax.random.key(0), inputs)
    params = jax.tree.map(lambda leaf: leaf + 0.2 * draw.standard_normal(leaf.shape), params)
    done = jnp.asarray(DONE)
    carry = initialize_carry(model, jax.random.key(0), (BATCH, FEATURES))
    weights = jnp.asarray(draw.standard_normal(model.apply(params, inputs)[1].shape))

    def losses(params):
        _, outputs = model.apply(params, inputs, done=done, initial_carry=carry)
        return jnp.sum(weights * jnp.sin(outputs), axis=(0, 2))

    def step(state, at_time):
        carry, sensitivities = state
        one, begins, weight = jax.tree.map(lambda leaf: leaf[:, None], at_time)

        def loss(params):
            (following, output), moved = model.apply(
                params | {"sensitivities": sensitivities},
                *(one, begins, carry),
                mutable=["sensitivities"] if exact else [],
            )
            return jnp.sum(weight * jnp.sin(output)), (following, moved.get("sensitivities", {}))

        gradient, state = jax.grad(loss, has_aux=True)(params)
        return state, gradient

    sensitivities = zero_sensitivities(model, params, inputs[:, :1], done[:, :1], carry)
    steps = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (inputs, done, weights))
    _, online = jax.lax.scan(step, (carry, sensitivities if exact else {}), steps)
    return online["params"], jax.jacrev(losses)(params)["params"]


def largest_error(online, episode):
    """Return the largest difference of two gradients, relative to the second's scale."""
    pairs = zip(*map(jax.tree.leaves, (online, episode)), strict=True)
    return max(float(jnp.abs(one - other).max() / jnp.abs(other).max()) for one, other in pairs)


def test_diagonal_memories_have_an_exact_gradient():
    diagonal = {"rtu", "lru", "s5", "s5_bilinear", "min_gru", "ffm", "causal_conv1d"}
    assert set(MEMORIES) == diagonal


AT_GATE = ("rtu", "lru", "min_gru")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in AT_GATE else pytest.mark.exhaustive)
        for name in MEMORIES
    ],
)
def test_the_gradient_beside_the_state_is_that_of_the_whole_episode(name):
    with jax.enable_x64(True):
        online, episode = jax.jit(lambda: gradients_by_step(MEMORIES[name]))()
        assert largest_error(online, episode) < 1e-10


@pytest.mark.parametrize("name", ["gru", "rg_lru", "mamba2", "shm", "self_attention", "rl2"])
def test_memories_whose_units_read_each_other_are_named(name):
    (named,) = without_exact_gradient(MODELS[name])
    assert named in repr(MODELS[name])


@pytest.mark.exhaustive
def test_in_a_stack_the_last_memory_is_exact_and_the_one_before_better_than_truncated():
    with jax.enable_x64(True):
        cell = RTUCell(RTUConfig(6, hidden_dim=4), param_dtype=jnp.float64)
        model = Stack((RNN(cell),) * 2)
        online, episode = jax.jit(lambda: gradients_by_step(model))()
        truncated, _ = jax.jit(lambda: gradients_by_step(model, exact=False))()
        first, last = sorted(online)
        assert largest_error(online[last], episode[last]) < 1e-10
        assert largest_error(online[first], episode[first]) > 1e-3
        # Measured: 0.92 and 0.85.
        similarity = cosine(online[first], episode[first])
        assert similarity > cosine(truncated[first], episode[first]) + 0.05


def cosine(one, other):
    """Return the cosine of the angle between two gradients."""
    one, other = (jax.flatten_util.ravel_pytree(tree)[0] for tree in (one, other))
    return one @ other / jnp.linalg.norm(one) / jnp.linalg.norm(other)
