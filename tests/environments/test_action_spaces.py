import jax.numpy as jnp
import numpy as np
import pytest

from memorax.environments import Box, Discrete
from memorax.environments.checks import check_action_space
from memorax.networks import heads
from tests.algorithms.agents import make_agent, make_dqn, make_sac, mlp_torso
from tests.algorithms.tasks import Counting

HALF_BOUNDED = Box(0.0, np.array([1.0, np.inf], np.float32), (2,))


@pytest.mark.parametrize(
    ("space", "bounded", "words"),
    [
        (Discrete(0), False, r"Discrete\(n=0\), which has no action"),
        (Box(0, 5, (2,), jnp.int32), False, "numbers are integers: .*MultiDiscrete"),
        (Box(0.0, 1.0, (0,)), False, "which has no dimension"),
        (Box(1.0, -1.0, (2,)), False, "whose low must not be above high"),
        (Box(float("nan"), 1.0, (2,)), False, "whose low must not be above high"),
        (Box(-np.inf, np.inf, (2,)), True, "bounds must be finite.*with a Gaussian policy"),
        (HALF_BOUNDED, True, "bounds must be finite"),
        (Box(0.5, 0.5, (1,)), True, "bounds must be finite and low below high"),
        (Box(-np.ones(100), -2 * np.ones(100), (100,)), False, "low must not be above high"),
    ],
)
def test_a_space_that_nobody_can_act_in_is_refused_by_name_in_one_line(space, bounded, words):
    with pytest.raises(ValueError, match=f"PPO cannot act in the action space .*{words}") as told:
        check_action_space("PPO", space, bounded)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("space", "bounded"),
    [
        (Discrete(1), False),
        (Box(-np.inf, np.inf, (2,)), False),
        (HALF_BOUNDED, False),
        (Box(0.5, 0.5, (1,)), False),
        (Box(-1e-3, 1e3, (1,)), True),
    ],
)
def test_other_spaces_are_acted_in(space, bounded):
    check_action_space("PPO", space, bounded)


@pytest.mark.parametrize(
    ("make", "space"),
    [
        (lambda env: make_agent(mlp_torso(), env), Box(0, 5, (2,), jnp.int32)),
        (lambda env: make_dqn(mlp_torso(), env=env), Discrete(0)),
        (
            lambda env: make_sac(mlp_torso(), heads.SquashedGaussian(2), env=env),
            Box(-np.inf, np.inf, (2,)),
        ),
    ],
)
def test_algorithms_refuse_such_spaces_before_anything_is_made(make, space, as_a_user):
    with pytest.raises(ValueError, match="cannot act in the action space"):
        make(Counting(space))
