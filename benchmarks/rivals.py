"""What people train recurrent PPO with otherwise: a plain JAX loop, and SB3-contrib.

The plain loop is written as JAX users write it: one file, Flax and Optax, one shared
``flax.linen.GRUCell`` in a scan with resets, and the whole training jitted. All contenders have the
same sizes, which are below, and train on CartPole.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax

NUM_ENVS, NUM_STEPS, NUM_MINIBATCHES, UPDATE_EPOCHS = 16, 128, 4, 4
FEATURES, LEARNING_RATE, MAX_GRADIENT_NORM = 64, 1e-3, 0.5
GAMMA, GAE_LAMBDA, CLIP, VALUE_COEFFICIENT, ENTROPY_COEFFICIENT = 0.99, 0.95, 0.2, 0.5, 0.01
STEPS_PER_UPDATE = NUM_ENVS * NUM_STEPS


@dataclass
class Contender:
    """A training loop that goes on from where its last call has ended.

    Attributes:
        train: Trains for the updates of a turn; returns the mean return of the episodes that ended.
        compile_seconds: How long compiling took; ``None``: nothing is compiled.
    """

    train: Callable[[], float]
    compile_seconds: float | None = None


class GRU(nn.Module):
    """A GRU over (time, envs, features) whose state is zeroed where an episode begins."""

    features: int

    @partial(
        nn.scan, variable_broadcast="params", split_rngs={"params": False}, in_axes=0, out_axes=0
    )
    @nn.compact
    def __call__(self, carry, inputs_and_done):
        """Compute one step; Flax scans over them."""
        inputs, done = inputs_and_done
        carry = jnp.where(done[:, None], 0.0, carry)
        return nn.GRUCell(self.features)(carry, inputs)


class ActorCritic(nn.Module):
    """Logits and values from one memory, ``(time, envs, ...)``."""

    num_actions: int

    @nn.compact
    def __call__(self, carry, observation, done):
        """Return the last state, logits and values."""
        features = nn.relu(nn.Dense(FEATURES)(observation))
        carry, memory = GRU(FEATURES)(carry, (features, done))
        logits = nn.Dense(self.num_actions)(nn.relu(nn.Dense(FEATURES)(memory)))
        value = nn.Dense(1)(nn.relu(nn.Dense(FEATURES)(memory)))
        return carry, logits, value[..., 0]


class Step(NamedTuple):
    """A step of all environments."""

    observation: Any
    done: Any
    action: Any
    log_prob: Any
    value: Any
    reward: Any
    ended: Any
    episode_return: Any


def plain_loop(num_updates: int, seed: int = 0) -> Contender:  # noqa: PLR0915
    """Return the plain Flax and Optax loop, compiled."""
    env, env_params = gymnax.make("CartPole-v1")
    network = ActorCritic(env.num_actions)
    optimizer = optax.chain(
        optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.adam(LEARNING_RATE, eps=1e-5)
    )

    def act(state, key):
        params, optimizer_state, env_state, observation, done, carry, returns = state
        action_key, env_key = jax.random.split(key)
        next_carry, logits, value = network.apply(params, carry, observation[None], done[None])
        action = jax.random.categorical(action_key, logits[0])
        log_prob = jnp.take_along_axis(nn.log_softmax(logits[0]), action[:, None], 1)[:, 0]
        next_observation, env_state, reward, terminated, truncated, _ = jax.vmap(
            env.step, (0, 0, 0, None)
        )(jax.random.split(env_key, NUM_ENVS), env_state, action, env_params)
        ended = terminated | truncated
        returns += reward
        step = Step(observation, done, action, log_prob, value[0], reward, ended, returns)
        returns = jnp.where(ended, 0.0, returns)
        state = params, optimizer_state, env_state, next_observation, ended, next_carry, returns
        return state, step

    def advantages_of(steps, last_value):
        def step(carry, at_time):
            advantage, next_value = carry
            value, reward, ended = at_time
            error = reward + GAMMA * next_value * (1 - ended) - value
            advantage = error + GAMMA * GAE_LAMBDA * (1 - ended) * advantage
            return (advantage, value), advantage

        over = steps.value, steps.reward, steps.ended
        start = jnp.zeros_like(last_value), last_value
        return jax.lax.scan(step, start, over, reverse=True)[1]

    def loss(params, carry, steps, advantage):
        _, logits, value = network.apply(params, carry[0], steps.observation, steps.done)
        log_probs = nn.log_softmax(logits)
        log_prob = jnp.take_along_axis(log_probs, steps.action[..., None], -1)[..., 0]
        ratio = jnp.exp(log_prob - steps.log_prob)
        target = advantage + steps.value
        clipped = steps.value + jnp.clip(value - steps.value, -CLIP, CLIP)
        value_loss = jnp.maximum((value - target) ** 2, (clipped - target) ** 2).mean() / 2
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        return -surrogate.mean() + VALUE_COEFFICIENT * value_loss - ENTROPY_COEFFICIENT * entropy

    def learn(learner, minibatch):
        params, optimizer_state = learner
        gradients = jax.grad(loss)(params, *minibatch)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), None

    def update(state, key):
        act_key, learn_key = jax.random.split(key)
        first_carry = state[5]
        state, steps = jax.lax.scan(act, state, jax.random.split(act_key, NUM_STEPS))
        params, optimizer_state, env_state, observation, done, carry, returns = state
        _, _, last_value = network.apply(params, carry, observation[None], done[None])
        batch = first_carry[None], steps, advantages_of(steps, last_value[0])

        def epoch(learner, key):
            order = jax.random.permutation(key, NUM_ENVS)

            def cut(leaf):
                leaf = leaf[:, order].reshape(leaf.shape[0], NUM_MINIBATCHES, -1, *leaf.shape[2:])
                return jnp.swapaxes(leaf, 0, 1)

            return jax.lax.scan(learn, learner, jax.tree.map(cut, batch))

        (params, optimizer_state), _ = jax.lax.scan(
            epoch, (params, optimizer_state), jax.random.split(learn_key, UPDATE_EPOCHS)
        )
        total = jnp.where(steps.ended, steps.episode_return, 0).sum()
        state = params, optimizer_state, env_state, observation, done, carry, returns
        return state, (total, steps.ended.sum())

    @jax.jit
    def init(key):
        params_key, env_key = jax.random.split(key)
        observation, env_state = jax.vmap(env.reset, (0, None))(
            jax.random.split(env_key, NUM_ENVS), env_params
        )
        done, carry = jnp.ones(NUM_ENVS, bool), jnp.zeros((NUM_ENVS, FEATURES))
        params = network.init(params_key, carry, observation[None], done[None])
        return (
            *(params, optimizer.init(params)),
            *(env_state, observation, done, carry, jnp.zeros(NUM_ENVS)),
        )

    @partial(jax.jit, donate_argnums=1)
    def train(key, state):
        return jax.lax.scan(update, state, jax.random.split(key, num_updates))

    return compiled(train, init(jax.random.key(seed)), _weighted_mean)


def _weighted_mean(metrics):
    totals, episodes = metrics
    return totals.sum() / episodes.sum()


def compiled(train: Any, state: Any, mean_return: Callable[[Any], Any]) -> Contender:
    """Compile ``train(key, state) -> (state, metrics)``, which donates its state."""
    started = time.perf_counter()
    program = train.lower(jax.random.key(0), state).compile()
    seconds = time.perf_counter() - started
    kept = {"key": jax.random.key(1), "state": state}

    def go_on() -> float:
        kept["key"], key = jax.random.split(kept["key"])
        kept["state"], metrics = program(key, kept["state"])
        return float(mean_return(jax.block_until_ready(metrics)))

    return Contender(go_on, seconds)


def check_stable_baselines() -> None:
    """Exit with code 2 if SB3-contrib is not installed."""
    if importlib.util.find_spec("sb3_contrib") is None:
        print(
            "sb3_contrib is not installed: pip install 'memorax-rl[benchmarks]', or leave it out "
            "with --rivals plain",
            file=sys.stderr,
        )
        raise SystemExit(2)


def stable_baselines(num_updates: int, seed: int = 0) -> Contender:
    """Return SB3-contrib's RecurrentPPO, an LSTM that actor and critic share."""
    from sb3_contrib import RecurrentPPO  # noqa: PLC0415
    from stable_baselines3.common.env_util import make_vec_env  # noqa: PLC0415

    model = RecurrentPPO(
        "MlpLstmPolicy",
        make_vec_env("CartPole-v1", NUM_ENVS, seed),
        learning_rate=LEARNING_RATE,
        n_steps=NUM_STEPS,
        # Steps, not sequences.
        batch_size=STEPS_PER_UPDATE // NUM_MINIBATCHES,
        n_epochs=UPDATE_EPOCHS,
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        clip_range=CLIP,
        ent_coef=ENTROPY_COEFFICIENT,
        vf_coef=VALUE_COEFFICIENT,
        max_grad_norm=MAX_GRADIENT_NORM,
        policy_kwargs={
            "lstm_hidden_size": FEATURES,
            "net_arch": [FEATURES],
            "shared_lstm": True,
            "enable_critic_lstm": False,
        },
        seed=seed,
        device="cpu",
    )

    def train() -> float:
        model.learn(num_updates * STEPS_PER_UPDATE, reset_num_timesteps=False)
        return float(np.mean([episode["r"] for episode in model.ep_info_buffer]))

    return Contender(train)
