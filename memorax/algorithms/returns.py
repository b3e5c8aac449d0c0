"""Returns and advantages, where they bootstrap, and the loss of a policy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from memorax.algorithms.transitions import Sequences, Transition


def bootstrap_truncations(
    transitions: Transition,
    values: Float[Array, "time batch"],
    gamma: float | Float[Array, ""],
) -> tuple[Float[Array, "time batch"], Float[Array, "time batch"]]:
    """Return rewards and discounts with which returns bootstrap from values at time limits.

    The last observation of a truncated episode is a step of its own (see ``vectorize``), whose
    return is its value.

    Args:
        transitions: Those of a rollout, time first.
        values: The values of what each action was chosen in.
        gamma: The discount, which is 0 where an episode terminated or was truncated.
    """
    reward = jnp.where(transitions.truncated, values, transitions.reward)
    ended = transitions.terminated | transitions.truncated
    return reward, jnp.where(jnp.asarray(ended), 0.0, gamma)


def lambda_returns(
    rewards: Float[Array, "time *batch"],
    discounts: Float[Array, "time *batch"],
    next_values: Float[Array, "time *batch"],
    trace_decay: float | Float[Array, ""],
) -> Float[Array, "time *batch"]:
    """Return G_t = r_t + g_t ((1 - lambda) v_{t+1} + lambda G_{t+1}), from G_T = v_T on.

    Args:
        rewards: The reward of each action.
        discounts: Of what comes after it; 0 where an episode ended.
        next_values: The values of what comes after it, or the most valued action's for Q(lambda).
        trace_decay: Lambda, from 0, one step, to 1, all rewards.

    Source: Sutton and Barto 2018, "Reinforcement Learning", section 12.1; for action values Daley
        and Amato 2019, arXiv 1810.09967.
    """

    def step(following, inputs):
        reward, discount, value = inputs
        mixed = (1 - trace_decay) * value + trace_decay * following
        following = reward + discount * mixed
        return following, following

    inputs = rewards, discounts, next_values
    return jax.lax.scan(step, next_values[-1], inputs, reverse=True)[1]


def generalized_advantages(
    rewards: Float[Array, "time *batch"],
    discounts: Float[Array, "time *batch"],
    values: Float[Array, "time+1 *batch"],
    trace_decay: float | Float[Array, ""],
) -> Float[Array, "time *batch"]:
    """Return A_t = d_t + g_t lambda A_{t+1} with d_t = r_t + g_t v_{t+1} - v_t.

    Args:
        rewards: The reward of each action.
        discounts: Of what comes after it; 0 where an episode ended.
        values: The values of what each action was chosen in, and of what comes after the last.
        trace_decay: Lambda, from 0, one step, to 1, all rewards.

    Source: Schulman et al. 2015, arXiv 1506.02438, equation 16; cut off at the rollout's end as in
        Schulman et al. 2017, arXiv 1707.06347, equation 11.
    """
    errors = rewards + discounts * values[1:] - values[:-1]

    def step(following, inputs):
        error, discount = inputs
        following = error + discount * trace_decay * following
        return following, following

    return jax.lax.scan(step, jnp.zeros_like(errors[0]), (errors, discounts), reverse=True)[1]


def clipped_surrogate_loss(
    ratio: Float[Array, "*axes"],
    advantage: Float[Array, "*axes"],
    clip_coefficient: float | Float[Array, ""],
) -> Float[Array, "*axes"]:
    """Return ``-min(ratio A, clip(ratio, 1 - c, 1 + c) A)``.

    Args:
        ratio: Of the probabilities of actions by the new policy and by the old.
        advantage: A, through which no gradient flows.
        clip_coefficient: c.

    Source: Schulman et al. 2017, arXiv 1707.06347, equation 7.
    """
    advantage = jax.lax.stop_gradient(advantage)
    clipped = jnp.clip(ratio, 1 - clip_coefficient, 1 + clip_coefficient)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


def n_step_returns(
    sequences: Sequences, gamma: float | Float[Array, ""], n_step: int
) -> tuple[Float[Array, "batch time"], Float[Array, "batch time"], Int[Array, "batch time"]]:
    """Add up the next ``n_step`` rewards, fewer where the episode or the sequence ends before.

    Returns:
        The discounted sum of rewards, the discount of the value to bootstrap from (0 after a
        termination), and at which of the ``time + 1`` timesteps that value is.
    """
    batch, time = sequences.reward.shape

    def later(values, steps, filler):
        padding = jnp.full((batch, steps), filler, values.dtype)
        return jnp.concatenate([values, padding], axis=1)[:, steps:]

    returns, discount = jnp.zeros_like(sequences.reward), jnp.ones_like(sequences.reward)
    index = jnp.broadcast_to(jnp.arange(time), (batch, time))
    continues = jnp.ones((batch, time), bool)
    for steps in range(n_step):
        continues &= ~later(sequences.truncated, steps, True)
        returns += jnp.where(continues, discount * later(sequences.reward, steps, 0), 0)
        index += continues
        terminated = later(sequences.terminated, steps, False)
        discount = jnp.where(continues, discount * gamma * (1.0 - terminated), discount)
        continues &= ~terminated
    return returns, discount, index
