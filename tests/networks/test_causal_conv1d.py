import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import CausalConv1d


def test_it_weighs_the_last_steps_of_the_episode_and_adds_a_bias():
    inputs = jnp.arange(1.0, 7.0).reshape(1, 6, 1)
    done = jnp.array([[True, False, False, False, True, False]])
    params = {"kernel": jnp.array([[100.0], [10.0], [1.0]]), "bias": jnp.array([0.5])}
    carry, outputs = CausalConv1d(1, 3).apply({"params": {"convolution": params}}, inputs, done)
    np.testing.assert_allclose(outputs.ravel(), [1.5, 12.5, 123.5, 234.5, 5.5, 56.5])
    np.testing.assert_allclose(carry.ravel(), [5, 6])


def test_a_kernel_of_one_step_holds_nothing():
    model = CausalConv1d(5, 1)
    assert model.initialize_carry(jax.random.key(0), (2, 5)).shape == (2, 0, 5)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_kernel_without_a_step_is_refused(size):
    with pytest.raises(ValueError, match=r"CausalConv1d\.kernel_size must be an integer"):
        CausalConv1d(4, size)


@pytest.mark.usefixtures("as_a_user")
def test_inputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"must be the width of the inputs, 3, got 4"):
        CausalConv1d(4).init(jax.random.key(0), jnp.zeros((1, 2, 3)))
