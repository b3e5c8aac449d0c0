import importlib
import math

import jax
import numpy as np
import pytest

from memorax import ops
from tests.ops.loops import draw_done

BATCH, TIME = 3, 13


@pytest.mark.parametrize("cpu", [True, False], ids=["by_steps", "in_parallel"])
def test_angles_add_up_from_an_episodes_first_step(cpu, monkeypatch):
    # memorax.ops.running_angle is the function.
    module = importlib.import_module("memorax.ops.running_angle")
    monkeypatch.setattr(module, "on_cpu", lambda: cpu)
    numbers = np.random.default_rng(0)
    turns = 4 * numbers.standard_normal((BATCH, TIME, 2))
    initial = numbers.standard_normal((BATCH, 2))
    done = draw_done(BATCH, TIME)
    expected, angle = np.zeros_like(turns), initial
    for t in range(TIME):
        angle = np.where(done[:, t, None], 0, angle) + turns[:, t]
        expected[:, t] = angle
    with jax.enable_x64(True):
        last, angles = jax.device_get(jax.jit(ops.running_angle)(turns, done, initial))
    assert angles.dtype == np.float64
    assert (angles >= 0).all()
    assert (angles <= 2 * math.pi).all()
    np.testing.assert_allclose(np.exp(1j * angles), np.exp(1j * expected), atol=1e-12)
    np.testing.assert_array_equal(last, angles[:, -1])
