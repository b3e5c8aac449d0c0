from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN, RL2Wrapper
from memorax.networks.sequence_models.rl2 import LONGEST_TRIAL
from tests import laws
from tests.networks.samples import draw_params
from tests.registry import REGISTRY

TRIAL, STEPS = 4, np.array([4, 1, 3])
"""The steps of a trial, and how many of one each row has read."""

INPUTS = jax.random.normal(jax.random.key(0), (3, 9, 5))
DONE = jax.random.bernoulli(jax.random.key(1), 0.5, (3, 9))
MEMORY = RNN(cell=nn.GRUCell(features=6))
MODEL = RL2Wrapper(MEMORY, steps_per_trial=TRIAL)
PARAMS = draw_params(MODEL, INPUTS)
CARRY = jax.random.normal(jax.random.key(2), (3, 6)), jnp.asarray(STEPS, jnp.int32)
STARTS = (STEPS[:, None] + np.arange(9)) % TRIAL == 0


read = jax.jit(MODEL.apply)


@jax.jit
def memory_alone(inputs, done, carry):
    return MEMORY.apply({"params": PARAMS["params"]["sequence_model"]}, inputs, done, carry)


def test_memory_is_forgotten_between_trials_and_nowhere_else():
    (carry, step), outputs = read(PARAMS, INPUTS, DONE, CARRY)
    expected_carry, expected = memory_alone(INPUTS, jnp.asarray(STARTS), CARRY[0])
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(carry, expected_carry)
    np.testing.assert_array_equal(step, [1, 2, 4])
    assert step.dtype == jnp.int32


def test_trials_are_counted_from_a_fresh_carry():
    _, outputs = read(PARAMS, INPUTS)
    starts = jnp.broadcast_to(jnp.arange(9) % TRIAL == 0, (3, 9))
    np.testing.assert_array_equal(outputs, memory_alone(INPUTS, starts, None)[1])


def test_the_first_trial_begins_from_the_carry_that_is_given():
    fresh = CARRY[0], jnp.zeros(3, jnp.int32)

    @jax.jit
    @partial(jax.jacobian, has_aux=True)
    def differentiate(carry):
        _, outputs = MODEL.apply(PARAMS, INPUTS, DONE, (carry, fresh[1]))
        return outputs[:, : TRIAL + 1].sum((0, 2)), outputs

    to_carry, outputs = differentiate(CARRY[0])
    starts = jnp.broadcast_to(np.arange(9) % TRIAL == 0, (3, 9)).at[:, 0].set(False)
    np.testing.assert_array_equal(outputs, memory_alone(INPUTS, starts, CARRY[0])[1])
    assert to_carry[:TRIAL].all()
    assert not to_carry[TRIAL].any()


@partial(jax.jit, static_argnames=("row", "start"))
@partial(jax.grad, argnums=(0, 1), has_aux=True)
def differentiate(inputs, carry, row, start):
    _, outputs = MODEL.apply(PARAMS, inputs, DONE, (carry, CARRY[1]))
    return outputs[row, start:].sum(), outputs[row, start:]


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_trial_begins_as_if_nothing_had_been(row, poison):
    start = int(np.flatnonzero(STARTS[row, 1:])[0]) + 1
    (to_inputs, to_carry), outputs = differentiate(INPUTS, CARRY[0], row, start)
    assert not to_inputs[row, :start].any()
    assert not to_carry[row].any()
    assert to_inputs[row, start:].all()
    _, fresh = read(PARAMS, INPUTS[:, start:])
    np.testing.assert_allclose(outputs, fresh[row], rtol=1e-5)

    poisoned = INPUTS.at[row, :start].set(poison), CARRY[0].at[row].set(poison)
    (to_poisoned, _), after_poison = differentiate(*poisoned, row, start)
    np.testing.assert_array_equal(after_poison, outputs)
    np.testing.assert_array_equal(to_poisoned[row, start:], to_inputs[row, start:])


def test_episodes_within_a_trial_are_remembered():
    model = RL2Wrapper(MEMORY, steps_per_trial=9)
    done = jnp.ones((3, 9), bool)

    @jax.jit
    @jax.grad
    def slope(inputs):
        return model.apply(PARAMS, inputs, done)[1][:, -1].sum()

    assert slope(INPUTS)[:, 0].all()


def test_the_registry_is_right_that_it_does_not_reset_with_an_episode():
    (entry,) = (entry for entry in REGISTRY if entry.name == "rl2")
    with pytest.raises(laws.LawBrokenError, match="reset: outputs after done"):
        laws.reset(entry.build(None, jnp.float32))


def test_the_longest_trial_is_counted_exactly():
    model = RL2Wrapper(MEMORY, steps_per_trial=LONGEST_TRIAL)
    step = jnp.full(3, LONGEST_TRIAL - 2, jnp.int32)
    (_, end), outputs = jax.jit(model.apply)(PARAMS, INPUTS, initial_carry=(CARRY[0], step))
    starts = jnp.broadcast_to(jnp.arange(9) == 2, (3, 9))
    np.testing.assert_array_equal(outputs, memory_alone(INPUTS, starts, CARRY[0])[1])
    np.testing.assert_array_equal(end, [7, 7, 7])


def test_a_plain_module_is_a_memory_too():
    model = RL2Wrapper(nn.Dense(2), steps_per_trial=2)
    ((_, step), outputs), params = jax.jit(model.init_with_output)(jax.random.key(0), INPUTS)
    expected = nn.Dense(2).apply({"params": params["params"]["sequence_model"]}, INPUTS)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(step, [1, 1, 1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((nn.GRUCell(3), 4), "RL2Wrapper.sequence_model must be a sequence model, got the cell"),
        ((3, 4), "RL2Wrapper.sequence_model must be a Flax module or a callable, got 3"),
        ((MEMORY, 0), "RL2Wrapper.steps_per_trial must be an integer from 1 to .* got 0"),
        ((MEMORY, 4.0), "RL2Wrapper.steps_per_trial must be an integer from 1 to .* got 4.0"),
        ((MEMORY, 2**31), "RL2Wrapper.steps_per_trial must be an integer .* got 2147483648"),
    ],
)
def test_bad_fields_are_refused_by_name(as_a_user, fields, words):
    with pytest.raises(ValueError, match=words):
        RL2Wrapper(*fields)


def test_the_carry_of_another_memory_is_refused_by_name():
    with pytest.raises(ValueError, match="RL2Wrapper: initial_carry must be like"):
        MODEL.apply(PARAMS, INPUTS, initial_carry=CARRY[0])
