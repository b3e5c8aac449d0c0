"""Returns and losses against rlax, in values and gradients, and against their definitions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from memorax.algorithms.returns import (
    clipped_surrogate_loss,
    generalized_advantages,
    lambda_returns,
    vtrace,
)
from memorax.networks import heads
from memorax.networks.heads.value_distribution import project

TIME, BATCH = 7, 3
KEYS = jax.random.split(jax.random.key(0), 4)
REWARDS = jax.random.normal(KEYS[0], (TIME, BATCH))
DISCOUNTS = 0.9 * jax.random.bernoulli(KEYS[1], 0.8, (TIME, BATCH))
VALUES = jax.random.normal(KEYS[2], (TIME + 1, BATCH))
WEIGHTS = jax.random.normal(KEYS[3], (TIME, BATCH))


def assert_same(ours, theirs, *inputs):
    """Compare values, and gradients with regard to every input."""

    def both(function):
        def weighted(*inputs):
            outputs = function(*inputs)
            return outputs.sum(), outputs

        every = tuple(range(len(inputs)))
        return jax.jit(jax.grad(weighted, argnums=every, has_aux=True))(*inputs)

    jax.tree.map(
        lambda got, expected: np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6),
        both(ours),
        both(theirs),
    )


@pytest.mark.parametrize("trace_decay", [0.0, 0.65, 1.0])
def test_lambda_returns_are_those_of_rlax_and_of_their_definition(trace_decay):
    def ours(rewards, discounts, values):
        return WEIGHTS * lambda_returns(rewards, discounts, values[1:], trace_decay)

    def theirs(rewards, discounts, values):
        returns = jax.vmap(rlax.lambda_returns, in_axes=(1, 1, 1, None), out_axes=1)
        return WEIGHTS * returns(rewards, discounts, values[1:], trace_decay)

    assert_same(ours, theirs, REWARDS, DISCOUNTS, VALUES)
    rewards, discounts, values = (
        np.asarray(each, np.float64) for each in (REWARDS, DISCOUNTS, VALUES)
    )
    expected, following = np.zeros((TIME, BATCH)), values[-1]
    for time in reversed(range(TIME)):
        mixed = (1 - trace_decay) * values[time + 1] + trace_decay * following
        following = expected[time] = rewards[time] + discounts[time] * mixed
    returns = jax.jit(lambda_returns)(REWARDS, DISCOUNTS, VALUES[1:], trace_decay)
    np.testing.assert_allclose(returns, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("trace_decay", [0.0, 0.95, 1.0])
def test_generalized_advantages_are_those_of_rlax_and_the_lambda_returns_less_the_values(
    trace_decay,
):
    def ours(*inputs):
        return WEIGHTS * generalized_advantages(*inputs, trace_decay)

    def theirs(rewards, discounts, values):
        advantages = jax.vmap(
            rlax.truncated_generalized_advantage_estimation, in_axes=(1, 1, None, 1), out_axes=1
        )
        return WEIGHTS * advantages(rewards, discounts, trace_decay, values)

    assert_same(ours, theirs, REWARDS, DISCOUNTS, VALUES)
    np.testing.assert_allclose(
        generalized_advantages(REWARDS, DISCOUNTS, VALUES, trace_decay),
        lambda_returns(REWARDS, DISCOUNTS, VALUES[1:], trace_decay) - VALUES[:-1],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("trace_decay", [0.0, 0.95, 1.0])
def test_vtrace_is_that_of_rlax(trace_decay):
    ratio = jnp.exp(WEIGHTS)

    def theirs(rewards, discounts, values, ratio):
        compute = partial(
            rlax.vtrace_td_error_and_advantage, lambda_=trace_decay, clip_rho_threshold=1.3
        )
        inputs = values[:-1], values[1:], rewards, discounts, ratio
        return jax.vmap(compute, in_axes=1, out_axes=1)(*inputs)

    advantages, targets = jax.jit(vtrace)(REWARDS, DISCOUNTS, VALUES, ratio, trace_decay, 1.3, 1.0)
    expected = jax.jit(theirs)(REWARDS, DISCOUNTS, VALUES, ratio)
    np.testing.assert_allclose(targets - VALUES[:-1], expected.errors, rtol=1e-5, atol=1e-6)
    # Theirs weights the advantage for a loss without the ratio.
    weight = jnp.minimum(ratio, 1.0)
    np.testing.assert_allclose(weight * advantages, expected.pg_advantage, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rho", "c"), [(1.3, 0.7), (100.0, 100.0)])
def test_vtrace_is_the_published_sum(rho, c):
    ratio = np.exp(np.asarray(WEIGHTS, np.float64))
    rewards, discounts, values = (
        np.asarray(each, np.float64) for each in (REWARDS, DISCOUNTS, VALUES)
    )
    errors = rewards + discounts * values[1:] - values[:-1]
    expected = values.copy()
    for start in range(TIME):
        for time in range(start, TIME):
            weights = discounts[start:time] * 0.9 * np.minimum(ratio[start:time], c)
            expected[start] += weights.prod(0) * np.minimum(ratio[time], rho) * errors[time]
    mixed = 0.9 * expected[1:] + 0.1 * values[1:]
    inputs = REWARDS, DISCOUNTS, VALUES, ratio.astype(np.float32)
    advantages, targets = jax.jit(vtrace)(*inputs, 0.9, rho, c)
    np.testing.assert_allclose(targets, expected[:-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        advantages, rewards + discounts * mixed - values[:-1], rtol=1e-5, atol=1e-5
    )


def test_the_clipped_surrogate_loss_is_that_of_rlax():
    ratio = jnp.exp(0.3 * VALUES[:-1])
    assert (jnp.abs(ratio - 1) > 0.2).any()
    assert (jnp.abs(ratio - 1) < 0.2).any()

    def theirs(ratio, advantage):
        return rlax.clipped_surrogate_pg_loss(ratio.reshape(-1), advantage.reshape(-1), 0.2)

    assert_same(
        lambda ratio, advantage: clipped_surrogate_loss(ratio, advantage, 0.2).mean(),
        theirs,
        ratio,
        WEIGHTS,
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (heads.SIGNED_HYPERBOLIC.apply, rlax.SIGNED_HYPERBOLIC_PAIR.apply),
        (heads.SIGNED_HYPERBOLIC.apply_inv, rlax.SIGNED_HYPERBOLIC_PAIR.apply_inv),
        (heads.IDENTITY.apply, rlax.IDENTITY_PAIR.apply),
        (heads.IDENTITY.apply_inv, rlax.IDENTITY_PAIR.apply_inv),
    ],
)
def test_scales_of_values_are_those_of_rlax(ours, theirs):
    assert_same(ours, theirs, jnp.array([-300.0, -2.0, -0.01, 0.02, 1.5, 70.0]))


def test_heads_lose_half_the_squared_error_as_rlax_does():
    head = heads.VNetwork()
    assert_same(head.loss, rlax.l2_loss, VALUES, VALUES[::-1] + 1)


def test_projections_are_those_of_rlax_for_atoms_of_any_distance():
    atoms = jnp.array([-2.0, -1.5, 0.0, 3.0])
    values = jnp.array([-9.0, -2.0, -1.7, 0.0, 1.0, 2.5, 8.0])
    probs = jax.nn.softmax(VALUES[:7, 0])
    assert_same(
        lambda values, probs: project(values, probs, atoms) * jnp.arange(4.0),
        lambda values, probs: rlax.categorical_l2_project(values, probs, atoms) * jnp.arange(4.0),
        values,
        probs,
    )
