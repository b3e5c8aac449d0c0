from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax.algorithms import SACConfig
from memorax.algorithms.acting import apply_sequence
from memorax.algorithms.transitions import window_to_sequences
from memorax.environments import Discrete
from memorax.networks import heads
from tests.algorithms.agents import (
    gru_torso,
    make_sac,
    mlp_torso,
    perturbed,
    random_sample,
    random_sequences,
)
from tests.algorithms.tasks import Aiming, Counting, Recalling

drawn_parameters = pytest.mark.usefixtures("drawn_parameters")


def learner_away_from_its_start(agent):
    learner = agent.init(jax.random.key(0)).learner
    return perturbed(learner.params, 1), perturbed(learner.target_params, 2)


@drawn_parameters
@pytest.mark.parametrize("burn_in_length", [0, 5])
def test_the_losses_are_the_published_ones(burn_in_length):
    agent = make_sac(gamma=0.9, burn_in_length=burn_in_length, target_entropy=-0.5)
    config, sequences = agent.config, random_sequences(agent)
    params, target_params = learner_away_from_its_start(agent)
    key = jax.random.key(3)
    loss, metrics = jax.jit(agent._loss)(params, target_params, sequences, key)

    @jax.jit
    def outputs():
        _, distribution = apply_sequence(
            agent.networks["actor"], params["actor"], sequences.timestep, sequences.carry["actor"]
        )
        # Its bounds have no time.
        distribution = jax.tree.map(
            lambda leaf: leaf[:, burn_in_length:] if leaf.ndim > 1 else leaf, distribution
        )
        action, log_prob = distribution.sample_and_log_prob(seed=key)
        # The losses are those of actions from -1 to 1; here they are from -1 to 2.
        log_prob += np.log(1.5)

        def values(variables, candidate_action):
            # Only what follows the burn-in is valued: before it, any action will do.
            padding = jnp.zeros((config.batch_size, burn_in_length, 1))
            steps = sequences.timestep
            _, output = agent.networks["critic"].apply(
                variables,
                steps.observation,
                done=steps.done,
                action=steps.action,
                reward=steps.reward,
                initial_carry=sequences.carry["critic"],
                candidate_action=jnp.concatenate([padding, (candidate_action - 0.5) / 1.5], axis=1),
            )
            return output[:, burn_in_length:]

        taken = jnp.concatenate([sequences.action, jnp.zeros((config.batch_size, 1, 1))], axis=1)
        return (
            log_prob,
            values(params["critic"], taken[:, burn_in_length:]),
            values(params["critic"], action),
            values(target_params, action),
        )

    log_prob, taken, drawn, target_drawn = (np.asarray(leaf, np.float64) for leaf in outputs())
    alpha = float(np.exp(jax.tree.leaves(params["temperature"])[0]))
    sequences = jax.tree.map(np.asarray, sequences)
    critic_loss = actor_loss = temperature_loss = 0.0
    for row in range(config.batch_size):
        losses = []
        for step in range(config.sequence_length - burn_in_length):
            now = burn_in_length + step
            if sequences.truncated[row, now]:
                continue
            target = float(sequences.reward[row, now])
            if not sequences.terminated[row, now]:
                worth = target_drawn[row, step + 1].min() - alpha * log_prob[row, step + 1]
                target += 0.9 * worth
            losses.append(
                (
                    0.5 * ((taken[row, step] - target) ** 2).sum(),
                    alpha * log_prob[row, step] - drawn[row, step].min(),
                    -alpha * (log_prob[row, step] - 0.5),
                )
            )
        means = np.mean(losses, axis=0) / config.batch_size
        critic_loss, actor_loss = critic_loss + means[0], actor_loss + means[1]
        temperature_loss += means[2]
    np.testing.assert_allclose(metrics["critic_loss"], critic_loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["actor_loss"], actor_loss, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, critic_loss + actor_loss + temperature_loss, rtol=1e-4)


@drawn_parameters
def test_each_loss_reaches_its_own_parameters_alone():
    agent = make_sac()
    sequences = random_sequences(agent)
    params, target_params = learner_away_from_its_start(agent)

    @jax.jit
    def gradients():
        def of(name):
            def loss(params):
                total, metrics = agent._loss(params, target_params, sequences, jax.random.key(0))
                rest = total - metrics["critic_loss"] - metrics["actor_loss"]
                return rest if name == "temperature" else metrics[f"{name}_loss"]

            return jax.grad(loss)(params)

        total = jax.grad(
            lambda params, target_params: agent._loss(
                params, target_params, sequences, jax.random.key(0)
            )[0],
            argnums=1,
        )(params, target_params)
        return {name: of(name) for name in params}, total

    by_loss, of_target = gradients()
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_target))
    for name, gradient in by_loss.items():
        for part, leaves in gradient.items():
            largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(leaves))
            if part == name:
                assert largest > 1e-3
            else:
                # The rest of a difference is rounding.
                assert largest < 1e-5, (name, part)


@drawn_parameters
@pytest.mark.parametrize(("target_entropy", "sign"), [(-20.0, -1), (20.0, 1)])
def test_the_temperature_moves_the_entropy_to_its_target(target_entropy, sign):
    agent = make_sac(target_entropy=target_entropy)
    params, target_params = learner_away_from_its_start(agent)
    gradient = jax.jit(jax.grad(lambda *args: agent._loss(*args)[0]))(
        params, target_params, random_sequences(agent), jax.random.key(0)
    )
    # Down the gradient: up while there is too little entropy.
    assert float(jax.tree.leaves(gradient["temperature"])[0]) * sign < 0


def aiming(low, high):
    """Return SAC on ``Aiming``, whose actions have these bounds."""
    return make_sac(
        mlp_torso(),
        actor_head=heads.SquashedGaussian(2, low=low, high=high),
        env=Aiming(low, high),
        optimizer=optax.adam(3e-3),
        num_envs=8,
        num_steps=8,
        sequence_length=8,
        learning_starts=128,
        buffer_size=4096,
        gradient_steps=8,
    )


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((-0.01, -0.01), (0.01, 0.01)),
        # Unequal ones, of which one has its middle away from 0.
        ((-100.0, 3.0), (100.0, 3.5)),
    ],
)
def test_what_is_learned_does_not_depend_on_the_units_of_actions(low, high):
    def train(low, high):
        agent = aiming(low, high)
        state = agent.init(jax.random.key(0))
        return agent.train(jax.random.key(1), state, 1_024)[1]

    unit, other = train((-1.0, -1.0), (1.0, 1.0)), train(low, high)
    for name, values in unit.items():
        np.testing.assert_allclose(other[name], values, rtol=0.02, atol=0.02, err_msg=name)
    assert np.isfinite(other["temperature"]).any()


@pytest.mark.exhaustive
@pytest.mark.parametrize("bound", [0.01, 0.05, 1.0, 100.0])
def test_actions_of_any_scale_are_learned_and_the_temperature_falls(bound):
    agent = aiming((-bound,) * 2, (bound,) * 2)
    state, metrics = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), 20_000)
    assert metrics["temperature"][-1] < 0.2
    report = agent.evaluate(jax.random.key(2), state, 100)
    assert report.episode_returns.mean() > -0.05


@drawn_parameters
def test_sequences_show_what_a_time_limit_cut_off_and_carries_as_acting_had_them():
    agent = make_sac(learning_starts=10**6)
    state, _ = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), 96)
    sequences = jax.tree.map(np.asarray, window_to_sequences(state.window, state.timestep))
    count, limited = np.moveaxis(np.asarray(sequences.timestep.observation), -1, 0)
    for row, step in np.ndindex(*sequences.reward.shape):
        if sequences.truncated[row, step]:
            assert count[row, step] == 1
            assert limited[row, step] == 1
            assert sequences.reward[row, step] == 0
            assert sequences.timestep.done[row, step + 1]
        else:
            assert sequences.terminated[row, step] == (
                np.isclose(count[row, step], 0.8) and limited[row, step] == 0
            )
            if not sequences.terminated[row, step]:
                assert count[row, step + 1] == pytest.approx(count[row, step] + 0.2)
                assert limited[row, step + 1] == limited[row, step]
    assert sequences.truncated.any()
    assert sequences.terminated.any()
    acted = jax.tree.map(lambda leaf: leaf[:, :-1], sequences.timestep)
    for name, network in agent.networks.items():
        read = jax.jit(partial(apply_sequence, network))
        carry, _ = read(state.params[name], acted, sequences.carry[name])
        np.testing.assert_allclose(carry, state.carry[name], rtol=1e-5, atol=1e-6)


@drawn_parameters
def test_the_target_critic_follows_by_its_rate():
    agent = make_sac(target_update_rate=0.25)
    state = agent.init(jax.random.key(0))
    sample = random_sample(agent, state)
    learner, _, _ = jax.jit(agent._learn)(state.learner, sample, jax.random.key(1))
    old = state.learner.target_params
    for got, before, new in zip(
        *map(jax.tree.leaves, (learner.target_params, old, learner.params["critic"])), strict=True
    ):
        expected = 0.75 * np.asarray(before) + 0.25 * np.asarray(new)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"env": Counting(Discrete(2))}, r"SAC acts continuously, got .*Discrete\(n=2\)"),
        ({"actor_head": heads.Gaussian(1)}, "actor.head must keep within the bounds.*got Gaussian"),
        ({"actor_head": heads.SquashedGaussian(2, low=-1.0, high=2.0)}, r"actor.head: .*\(2,\)"),
        ({"actor_head": heads.SquashedGaussian(1)}, "actor.head.high must be that of the action"),
        ({"actor_head": heads.Categorical(2)}, "actor.head must be continuous.*got Categorical"),
        ({"critic_head": heads.VNetwork()}, "critic.head must value given actions.*got VNetwork"),
        ({"critic_head": heads.DiscreteQNetwork(2)}, "critic.head must value.*got DiscreteQNet"),
        (
            {
                "critic_head": heads.Horde(
                    heads.TwinContinuousQNetwork(), {"no": heads.GVF(heads.VNetwork(), len, 0.9)}
                )
            },
            "critic.head must value given actions.*got Horde",
        ),
    ],
)
def test_heads_that_do_not_fit_are_refused(arguments, words, as_a_user):
    with pytest.raises(ValueError, match=words):
        make_sac(**arguments)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"initial_temperature": 0.0}, "initial_temperature must be a number"),
        ({"target_update_rate": 2.0}, "target_update_rate must be a number from 0 to 1, got 2.0"),
        ({"target_entropy": float("nan")}, "target_entropy must be a number"),
        ({"burn_in_length": 32}, "burn_in_length must be an integer from 0 to 0, got 32"),
        (
            {"buffer_size": 64, "batch_size": 32},
            "buffer_size must hold at least batch_size sequences",
        ),
    ],
)
def test_a_configuration_out_of_range_is_refused(fields, words, as_a_user):
    with pytest.raises(ValueError, match=f"SACConfig.{words}"):
        SACConfig(**fields)


@pytest.mark.exhaustive
def test_memory_solves_what_no_memoryless_agent_can():
    def mean_return(torso):
        agent = make_sac(
            torso,
            actor_head=heads.SquashedGaussian(1),
            critic_head=heads.TwinContinuousQNetwork(hidden_dims=(32,)),
            env=Recalling(),
            optimizer=optax.adam(3e-3),
            num_envs=16,
            num_steps=6,
            buffer_size=20_000,
            batch_size=32,
            learning_starts=1_000,
        )
        state = agent.init(jax.random.key(0))
        state, _ = agent.train(jax.random.key(1), state, 15_000)
        return agent.evaluate(jax.random.key(2), state, 200).episode_returns.mean()

    assert mean_return(gru_torso()) > 0.9
    assert mean_return(mlp_torso()) < 0.6
