import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memorax.algorithms import TD3Config
from memorax.algorithms.acting import apply_sequence
from memorax.environments import Discrete
from memorax.networks import heads
from tests.algorithms.agents import make_td3, perturbed, random_sample, random_sequences
from tests.algorithms.tasks import Counting

drawn_parameters = pytest.mark.usefixtures("drawn_parameters")


@drawn_parameters
@pytest.mark.parametrize("burn_in_length", [0, 5])
def test_the_losses_are_the_published_ones(burn_in_length):
    agent = make_td3(gamma=0.9, burn_in_length=burn_in_length, target_noise_clip=0.15)
    config, sequences = agent.config, random_sequences(agent)
    learner = agent.init(jax.random.key(0)).learner
    params, target_params = perturbed(learner.params, 1), perturbed(learner.target_params, 2)
    key = jax.random.key(3)
    loss, metrics = jax.jit(agent._loss)(params, target_params, sequences, key)
    steps = sequences.timestep

    def act(params):
        actor = agent.networks["actor"]
        carry = sequences.carry["actor"]
        policy = apply_sequence(actor, params["actor"], steps, carry)[1]
        # From bounds of -1 and 2 to -1 and 1.
        return (policy.mode() - 0.5) / 1.5

    def value(params, action):
        _, output = agent.networks["critic"].apply(
            params["critic"],
            steps.observation,
            done=steps.done,
            action=steps.action,
            reward=steps.reward,
            initial_carry=sequences.carry["critic"],
            candidate_action=action,
        )
        return output

    @jax.jit
    def outputs():
        length = config.sequence_length + 1 - burn_in_length
        noise = 0.2 * jax.random.normal(key, (config.batch_size, length, 1))
        noise = jnp.pad(jnp.clip(noise, -0.15, 0.15), ((0, 0), (burn_in_length, 0), (0, 0)))
        smoothed = jnp.clip(act(target_params) + noise, -1, 1)
        taken = jnp.pad((sequences.action - 0.5) / 1.5, ((0, 0), (0, 1), (0, 0)))
        return value(params, taken), value(params, act(params)), value(target_params, smoothed)

    taken, of_policy, of_target = (np.asarray(leaf, np.float64) for leaf in outputs())
    sequences = jax.tree.map(np.asarray, sequences)
    critic_loss = actor_loss = 0.0
    for row in range(config.batch_size):
        losses = []
        for step in range(burn_in_length, config.sequence_length):
            if sequences.truncated[row, step]:
                continue
            target = float(sequences.reward[row, step])
            if not sequences.terminated[row, step]:
                target += 0.9 * of_target[row, step + 1].min()
            error = 0.5 * ((taken[row, step] - target) ** 2).sum()
            losses.append((error, -of_policy[row, step, 0]))
        means = np.mean(losses, axis=0) / config.batch_size
        critic_loss, actor_loss = critic_loss + means[0], actor_loss + means[1]
    np.testing.assert_allclose(metrics["critic_loss"], critic_loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["actor_loss"], actor_loss, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, critic_loss + actor_loss, rtol=1e-4)


@drawn_parameters
def test_the_actor_and_the_targets_move_once_every_policy_delay_steps_of_the_critic():
    agent = make_td3(policy_delay=3, target_update_rate=0.25)
    state = agent.init(jax.random.key(0))
    sample, learn = random_sample(agent, state), jax.jit(agent._learn)

    def differ(old, new):
        pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
        return any((one != other).any() for one, other in pairs)

    learner = state.learner
    for step in range(1, 7):
        before, (learner, _, _) = learner, learn(learner, sample, jax.random.key(step))
        due = step % 3 == 0
        assert differ(before.params["critic"], learner.params["critic"])
        assert differ(before.params["actor"], learner.params["actor"]) == due
        assert differ(before.optimizer_state["actor"], learner.optimizer_state["actor"]) == due
        for name in ("actor", "critic"):
            old, new, target = before.target_params, learner.params, learner.target_params
            expected = jax.tree.map(
                lambda old, new, due=due: 0.75 * old + 0.25 * new if due else old,
                old[name],
                new[name],
            )
            jax.tree.map(
                lambda got, leaf: np.testing.assert_allclose(got, leaf, rtol=1e-5, atol=1e-7),
                target[name],
                expected,
            )


@drawn_parameters
def test_acting_is_uniform_before_learning_starts_then_the_policy_with_clipped_noise():
    agent = make_td3(num_envs=512, exploration_noise=0.5, buffer_size=4096, learning_starts=4096)
    state = agent.init(jax.random.key(0))
    choose = jax.jit(agent._choose)
    _, drawn = choose(state, jax.random.key(1))
    assert abs(drawn.mean() - 0.5) < 0.15
    assert abs(drawn.std() - 3 / np.sqrt(12)) < 0.1
    started = state.replace(num_updates=jnp.int32(2))
    _, distribution = apply_sequence(
        agent.networks["actor"],
        state.params["actor"],
        jax.tree.map(lambda leaf: leaf[:, None], state.timestep),
        state.carry["actor"],
    )
    _, noisy = choose(started, jax.random.key(1))
    noise = noisy - distribution.mode()[:, 0]
    assert noisy.min() >= -1
    assert noisy.max() <= 2
    inside = (noisy > -1) & (noisy < 2)
    assert 0.5 < noise.std() < 0.8  # 0.5 of half the range, 1.5, less what is clipped
    assert inside.mean() > 0.8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"env": Counting(Discrete(2))}, r"TD3 acts continuously, got .*Discrete\(n=2\)"),
        ({"actor_head": heads.SquashedGaussian(1, low=-1.0, high=2.0)}, "such as Deterministic"),
        ({"actor_head": heads.Deterministic(1)}, "TD3.actor.head.high must be that of the action"),
        ({"critic_head": heads.VNetwork()}, "TD3.critic.head must value given actions"),
    ],
)
def test_networks_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_td3(**arguments)


@pytest.mark.parametrize("field", ["exploration_noise", "target_noise", "target_noise_clip"])
def test_noise_is_not_negative(field):
    with pytest.raises(ValueError, match=f"TD3Config.{field} must be"):
        TD3Config(**{field: -0.1})
