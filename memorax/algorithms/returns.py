"""Returns and advantages, where they bootstrap, and the losses of a policy and of values."""

from collections.abc import Callable

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


def vtrace(
    rewards: Float[Array, "time *batch"],
    discounts: Float[Array, "time *batch"],
    values: Float[Array, "time+1 *batch"],
    ratio: Float[Array, "time *batch"],
    trace_decay: float | Float[Array, ""],
    clip_rho_threshold: float | Float[Array, ""],
    clip_c_threshold: float | Float[Array, ""],
) -> tuple[Float[Array, "time *batch"], Float[Array, "time *batch"]]:
    """Return advantages and targets of a policy for steps that another one took.

    With d_t = r_t + g_t v_{t+1} - v_t, rho_t and c_t the ratio up to its thresholds, the target is
    v_t + e_t with e_t = rho_t d_t + g_t lambda c_t e_{t+1}, and the advantage is
    d_t + g_t lambda e_{t+1}. It is not weighted by rho_t, since the policy's loss holds the ratio.
    For a ratio of 1 these are the generalised advantage and its target.

    Args:
        rewards: The reward of each action.
        discounts: Of what comes after it; 0 where an episode ended.
        values: The values of what each action was chosen in, and of what comes after the last.
        ratio: Of the probabilities of actions by the policy and by the one that acted.
        trace_decay: Lambda, from 0, one step, to 1, all rewards.
        clip_rho_threshold: The largest rho.
        clip_c_threshold: The largest c.

    Source: Espeholt et al. 2018, arXiv 1802.01561, section 4.1 and remark 2.
    """
    errors = rewards + discounts * values[1:] - values[:-1]
    rho, c = jnp.minimum(ratio, clip_rho_threshold), jnp.minimum(ratio, clip_c_threshold)

    def step(following, inputs):
        error, discount, rho, c = inputs
        advantage = error + discount * trace_decay * following
        correction = rho * error + discount * trace_decay * c * following
        return correction, (advantage, correction)

    inputs = errors, discounts, rho, c
    _, (advantages, corrections) = jax.lax.scan(
        step, jnp.zeros_like(errors[0]), inputs, reverse=True
    )
    return advantages, values[:-1] + corrections


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


def scaled_value_loss(
    loss: Callable[[Array, Array], Array],
    value: Float[Array, "batch time"],
    old_value: Float[Array, "batch time"],
    target: Float[Array, "batch time"],
    mean: Callable[[Array], Float[Array, ""]],
    clip_coefficient: float | Float[Array, ""] | None,
) -> Float[Array, "batch time"]:
    """Return the loss of values in standard deviations of their targets, where these are above 1.

    Otherwise the gradient of large returns would outweigh the policy's, and clipping lag behind.

    Args:
        loss: Of values and targets.
        value: By the parameters that learn.
        old_value: While acting.
        target: What the values should be.
        mean: Over the steps that are learned from.
        clip_coefficient: How far a value may leave the old one before its gradient is cut, in these
            units; ``None``: no clipping.

    Source: for clipping Huang et al. 2022, "The 37 implementation details of PPO", detail 9.
    """
    deviation = jnp.sqrt(mean((target - mean(target)) ** 2))
    unit = jnp.maximum(deviation, 1.0)
    value, old_value, target = value / unit, old_value / unit, target / unit
    unclipped = loss(value, target)
    if clip_coefficient is None:
        return unclipped
    clipped = old_value + jnp.clip(value - old_value, -clip_coefficient, clip_coefficient)
    return jnp.maximum(unclipped, loss(clipped, target))


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
