import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.networks import RNN
from memorax.networks.cells.shm import SHMCell, SHMConfig
from tests.networks.samples import draw

INPUTS = jax.random.normal(jax.random.key(0), (3, 11, 5))
CONFIG = SHMConfig(features=6, hidden_dim=4, num_calibrations=8)


def drawn_parameters(model):
    return draw(jax.eval_shape(model.init, jax.random.key(1), INPUTS))


def test_memory_and_output_have_sizes_of_their_own():
    model = RNN(cell=SHMCell(CONFIG))
    (memory, outputs), _ = jax.eval_shape(model.init_with_output, jax.random.key(1), INPUTS)
    assert memory.shape == (3, 4, 4)
    assert outputs.shape == (3, 11, 6)


def test_half_precision_remembers_in_float32():
    model = RNN(cell=SHMCell(CONFIG, dtype=jnp.bfloat16))
    memory, _ = jax.jit(model.apply)(drawn_parameters(model), INPUTS)
    assert memory.dtype == jnp.float32
    assert (memory != memory.astype(jnp.bfloat16).astype(jnp.float32)).any()


def test_rows_are_random_with_a_key_and_the_first_without():
    model = RNN(cell=SHMCell(CONFIG))
    variables = drawn_parameters(model)
    apply = jax.jit(model.apply)

    def read(**rngs):
        return np.asarray(apply(variables, INPUTS, rngs=rngs)[1])

    assert (read() == read()).all()
    one, other = (read(dropout=jax.random.key(seed)) for seed in (0, 1))
    assert (read(dropout=jax.random.key(0)) == one).all()
    assert (one != other).any()
    # With every row like the first, none can be told from it.
    theta = variables["params"]["cell"]["theta"]
    variables["params"]["cell"]["theta"] = jnp.broadcast_to(theta[:1], theta.shape)
    np.testing.assert_allclose(read(dropout=jax.random.key(0)), read(), rtol=1e-5)


def test_rows_are_drawn_uniformly_for_each_item():
    rows = SHMCell(CONFIG).apply(
        {}, jnp.zeros((8000, 5)), rngs={"dropout": jax.random.key(0)}, method="choose_rows"
    )
    np.testing.assert_allclose(np.bincount(rows, minlength=8) / 8000, np.full(8, 1 / 8), atol=0.015)


def growing_parameters(model):
    """Let the layer norm's bias alone calibrate rows well above 1, and its first key be zero."""
    variables = drawn_parameters(model)
    cell = variables["params"]["cell"]
    cell["norm"]["bias"] = jnp.ones_like(cell["norm"]["bias"])
    for name, weight in {"calibration": 0.2, "key": 0.2, "query": 0.2}.items():
        cell[name]["kernel"] = jnp.full_like(cell[name]["kernel"], weight)
    cell["key"]["kernel"] = cell["key"]["kernel"].at[:, 0].set(-0.2)
    return variables


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
def test_bounded_memory_and_gradients_stay_finite_where_calibrations_grow(scale):
    model = RNN(cell=SHMCell(CONFIG))
    inputs = scale * jax.random.normal(jax.random.key(0), (3, 2000, 5))

    # Where a key is always zero, the memory is too and never meets its bound, but it is read.
    def read(variables, inputs):
        memory, outputs = model.apply(variables, inputs)
        return outputs.sum(), memory

    differentiate = jax.jit(jax.grad(read, argnums=(0, 1), has_aux=True))
    gradients, memory = differentiate(growing_parameters(model), inputs)
    assert np.abs(memory).max() <= 100
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_unbounded_memory_overflows_where_calibrations_grow():
    config = SHMConfig(features=6, hidden_dim=4, num_calibrations=8, max_memory=None)
    model = RNN(cell=SHMCell(config))
    memory, _ = jax.jit(model.apply)(growing_parameters(model), jnp.zeros((3, 2000, 5)))
    assert not jnp.isfinite(memory).all()


def test_bound_changes_nothing_before_it_is_met():
    unbounded = SHMConfig(features=6, hidden_dim=4, num_calibrations=8, max_memory=None)
    models = [RNN(cell=SHMCell(config)) for config in (CONFIG, unbounded)]
    variables = drawn_parameters(models[0])

    def slopes(model):
        def loss(variables, inputs):
            memory, outputs = model.apply(variables, inputs)
            return jnp.sin(outputs).sum() + jnp.cos(memory).sum()

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, INPUTS)

    one, other = map(slopes, models)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


def test_initial_values():
    config = SHMConfig(features=32, hidden_dim=64)
    model = RNN(cell=SHMCell(config))
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 1, 100)))
    cell = variables["params"]["cell"]
    assert cell["theta"].shape == (128, 64)
    # Uniform between -limit and limit: a deviation of limit / sqrt(3).
    limits = {"theta": (6 / (128 + 64)) ** 0.5, "key": 0.1, "calibration": 0.1}
    for name, limit in limits.items():
        values = np.asarray(jax.tree.leaves(cell[name])[0])
        np.testing.assert_allclose(values.std(), limit / 3**0.5, rtol=0.05)
        assert np.abs(values).max() <= limit


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"features": 0}, "SHMConfig.features must be an integer of at least 1, got 0"),
        ({"hidden_dim": 2.5}, "SHMConfig.hidden_dim must be an integer .* got 2.5"),
        ({"num_calibrations": 0}, "SHMConfig.num_calibrations must be an integer .* got 0"),
        ({"max_memory": 0}, "SHMConfig.max_memory must be None or a finite number .* got 0"),
        ({"max_memory": float("inf")}, "SHMConfig.max_memory must be None or .* got inf"),
        ({"max_memory": "100"}, "SHMConfig.max_memory must be None or .* got '100'"),
    ],
)
def test_bad_field_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        SHMConfig(**{"features": 6, "hidden_dim": 4} | fields)
