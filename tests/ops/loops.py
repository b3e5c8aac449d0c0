"""What tests of recurrences share: sums to differentiate, and how closely float64 must agree."""

import jax
import jax.numpy as jnp
import numpy as np


def weighted_sum(tree):
    """Add up the leaves with weights of either sign, so that no two errors cancel."""
    return sum(
        (jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)) * leaf).real.sum()
        for leaf in jax.tree.leaves(tree)
    )


def with_gradients(run, argnums):
    """Compile a function and its gradients as one program.

    It returns what the function does, then the gradients of a sum over that and, since an op may
    go another way for them, what the function does there.
    """

    def total(*arguments):
        results = run(*arguments)
        return weighted_sum(results), results

    differentiated = jax.grad(total, argnums, has_aux=True)
    return jax.jit(lambda *arguments: (run(*arguments), differentiated(*arguments)))


def assert_close(actual, expected, atol=1e-11):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype in (np.float64, np.complex128)
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=atol, equal_nan=False)


def draw_done(batch, time):
    done = np.random.default_rng(1).random((batch, time)) < 0.3
    done[0, 0], done[1, 0] = True, False
    return done


def poisoned(tree, start, poison=np.nan):
    """Replace every step before ``start``."""

    def replaced(leaf):
        leaf = np.array(leaf)
        leaf[:, :start] = poison
        return leaf

    return jax.tree.map(replaced, tree)
