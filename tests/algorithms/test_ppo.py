from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax import environments
from memorax.algorithms import PPO, PPOConfig
from memorax.algorithms.acting import Timestep, apply_sequence
from memorax.algorithms.rollout import in_groups, minibatch_indices, take_minibatch
from memorax.environments import ClipAction, Discrete
from memorax.networks import RNN, Network, heads
from memorax.networks.sequence_models.base import SequenceModel, checked_carry
from tests.algorithms.agents import gru_torso, make_agent, make_networks, mlp_torso, perturbed
from tests.algorithms.tasks import Counting, Recalling
from tests.registry import ARCHITECTURES, REGISTRY

drawn_parameters = pytest.mark.usefixtures("drawn_parameters")


def ratio_error(agent):
    """Return the largest distance of the ratio from 1 after two rollouts without an update."""

    @jax.jit
    def measure(key):
        init_key, rollouts_key = jax.random.split(key)

        def act(state, key):
            next_state, rollout = agent._rollout(state, key)
            return next_state, (state, next_state, rollout)

        _, rollouts = jax.lax.scan(act, agent.init(init_key), jax.random.split(rollouts_key))
        state, next_state, rollout = jax.tree.map(lambda leaf: leaf[1], rollouts)
        _, metrics = agent._loss(state.params, agent._sequences(state, next_state, rollout))
        return ended_steps(rollout), metrics["ratio_error"]

    ended, error = measure(jax.random.key(0))
    assert ended[:-1].any(axis=0).all(), "every environment must end an episode inside the rollout"
    return float(error)


def ended_steps(rollout):
    """Return where the next step is the first of an episode, ``(time, envs)``."""
    return rollout.transitions.terminated | rollout.transitions.truncated


def roll_out(agent):
    """Return the states before and after a first rollout, the rollout and its sequences."""

    @jax.jit
    def run(key):
        init_key, rollout_key = jax.random.split(key)
        state = agent.init(init_key)
        next_state, rollout = agent._rollout(state, rollout_key)
        return state, next_state, rollout, agent._sequences(state, next_state, rollout)

    return run(jax.random.key(0))


@drawn_parameters
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(
            entry,
            id=entry.name,
            marks=[pytest.mark.exhaustive] if entry in ARCHITECTURES else [],
        )
        for entry in REGISTRY
    ],
)
def test_the_importance_ratio_is_1_before_the_first_update(entry):
    torso = entry.build(None, jnp.float32)
    # The ratio is the actor's; another memory for the critic would take as long to compile.
    agent = make_agent(torso, all_extractors=True, critic_torso=mlp_torso())
    assert ratio_error(agent) < 1e-5


@drawn_parameters
@pytest.mark.parametrize("config", [{}, {"burn_in_length": 5}])
def test_the_importance_ratio_is_1_for_continuous_actions_too(config):
    env, env_params = environments.make("gymnax::Pendulum-v1", max_steps_in_episode=6)
    agent = make_agent(gru_torso(), env, env_params, all_extractors=True, **config)
    assert ratio_error(agent) < 1e-5


def shared_agent(horde=False, **config):
    """Return PPO whose actor and critic share a torso."""
    head = heads.ActorCritic(
        heads.Categorical(2, kernel_init=nn.initializers.orthogonal(1.0)), heads.VNetwork()
    )
    if horde:
        demon = heads.GVF(heads.VNetwork(), lambda transition: transition.reward, 0.5)
        head = heads.Horde(head=head, demons={"reward": demon})
    env, env_params = environments.make("gymnax::MemoryChain-bsuite", memory_length=4)
    network = make_networks(gru_torso(), Discrete(2))[0].clone(head=head)
    config = PPOConfig(**{"num_envs": 4, "num_steps": 16, "num_minibatches": 2} | config)
    return PPO(config, env, env_params, network, None, optax.adam(1e-3))


@drawn_parameters
def test_the_importance_ratio_is_1_with_a_shared_memory():
    assert ratio_error(shared_agent()) < 1e-5


def test_a_shared_memory_learns_what_the_separate_losses_ask_for():
    state, _, _, sequences = roll_out(shared_agent())
    params = perturbed(state.params)

    def gradient(value_coefficient):
        agent = shared_agent(entropy_coefficient=0.0, value_coefficient=value_coefficient)
        gradients = jax.jit(jax.grad(lambda params: agent._loss(params, sequences)[0]))(params)
        return jax.tree.leaves(gradients["actor_critic"]["params"]["torso"])

    # The loss is linear in the coefficient, and both losses reach the torso.
    for none, half, whole in zip(*map(gradient, (0.0, 0.5, 1.0)), strict=True):
        assert jnp.abs(none).max() > 0
        assert jnp.abs(whole - none).max() > 0
        np.testing.assert_allclose(half - none, (whole - none) / 2, rtol=1e-3, atol=1e-6)


def test_a_horde_stands_around_a_shared_memory():
    agent = shared_agent(horde=True)
    _, metrics = agent.train(jax.random.key(1), agent.init(jax.random.key(0)), 64)
    assert np.isfinite(metrics["auxiliary_loss"]).all()


def test_a_shared_agent_evaluates_with_its_policy():
    agent = shared_agent()
    report = agent.evaluate(jax.random.key(1), agent.init(jax.random.key(0)), 3)
    assert report.completed.all()


def test_a_critic_beside_a_shared_memory_is_refused(as_a_user):
    shared = heads.ActorCritic(heads.Categorical(2), heads.VNetwork())
    with pytest.raises(ValueError, match=r"PPO\.critic must be None if .* got Network beside"):
        make_ppo("gymnax::CartPole-v1", shared)
    with pytest.raises(ValueError, match=r"PPO\.critic must be None if .* head is Categorical"):
        make_ppo("gymnax::CartPole-v1", heads.Categorical(2), critic=False)
    with pytest.raises(ValueError, match=r"PPO\.critic\.head must value states, .* ActorCritic"):
        make_ppo("gymnax::CartPole-v1", heads.Categorical(2), shared)
    squashed = heads.ActorCritic(heads.SquashedGaussian(1), heads.VNetwork())
    with pytest.raises(ValueError, match="must be a distribution whose entropy is known"):
        make_ppo("gymnax::Pendulum-v1", squashed, critic=False)


class RestartingCounter(SequenceModel):
    """A torso that breaks the cut law: it counts the steps of each call, not of the episode."""

    def __call__(self, inputs, done=None, initial_carry=None):
        steps = jnp.arange(inputs.shape[1], dtype=inputs.dtype)
        return checked_carry(self, initial_carry, inputs), inputs + steps[:, None]

    @nn.nowrap
    def initialize_carry(self, key, input_shape):
        return jnp.zeros((input_shape[0], 1))


@drawn_parameters
def test_a_torso_that_breaks_the_cut_law_shows_in_the_ratio():
    assert ratio_error(make_agent(RestartingCounter())) > 0.01


@drawn_parameters
def test_time_limits_bootstrap_from_the_true_last_observation_and_terminations_do_not():
    agent = make_agent(gru_torso(), Counting(), gamma=0.9, gae_lambda=0.8, num_steps=13)
    state, next_state, _, sequences = roll_out(agent)
    transitions, critic = sequences.transitions, agent.networks["critic"]
    timestep = transitions.timestep
    terminated, truncated = np.asarray(transitions.terminated), np.asarray(transitions.truncated)
    assert terminated.any()
    assert truncated.any()
    # The last observation of an episode of five steps that a time limit ends, and no other.
    observation = np.asarray(timestep.observation)
    np.testing.assert_array_equal(truncated, (observation == 1).all(-1))

    # A critic that reads all of it at once.
    last = np.asarray(next_state.timestep.observation)
    steps = Timestep(
        jnp.concatenate([observation, last[:, None]], axis=1),
        jnp.concatenate([timestep.done, next_state.timestep.done[:, None]], axis=1),
        jnp.zeros((4, 14), jnp.int32),
        jnp.zeros((4, 14)),
    )
    carry = critic.initialize_carry(4)
    _, value = jax.jit(apply_sequence, static_argnums=0)(
        critic, state.params["critic"], steps, carry
    )
    value = np.asarray(value, np.float64)
    advantage = np.zeros((4, 14))
    for row in range(4):
        for t in reversed(range(13)):
            if not truncated[row, t]:
                going_on = 0.0 if terminated[row, t] else 1.0
                delta = 1.0 + 0.9 * going_on * value[row, t + 1] - value[row, t]
                advantage[row, t] = delta + 0.9 * 0.8 * going_on * advantage[row, t + 1]
    learned = ~truncated
    np.testing.assert_allclose(
        sequences.advantage[learned], advantage[:, :13][learned], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        sequences.target[learned],
        (advantage + value)[:, :13][learned],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.exhaustive
def test_training_many_seeds_at_once_is_training_each():
    agent = make_agent(gru_torso())
    keys = jax.random.split(jax.random.key(3), 2)
    states = jax.vmap(agent.init)(keys)
    num_steps = 2 * agent.steps_per_update
    together, metrics = jax.vmap(agent.train, in_axes=(0, 0, None))(keys, states, num_steps)
    assert metrics["policy_loss"].shape == (2, 2)
    for row in range(2):
        alone, _ = agent.train(keys[row], agent.init(keys[row]), num_steps)
        for one, many in zip(
            jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True
        ):
            np.testing.assert_allclose(one, many[row], rtol=1e-4, atol=1e-5)


def test_training_rounds_up_to_whole_updates_and_reports_each():
    agent = make_agent(mlp_torso())
    state = agent.init(jax.random.key(0))
    state, metrics = agent.train(jax.random.key(1), state, agent.steps_per_update + 1)
    assert state.num_updates == 2
    assert metrics["policy_loss"].shape == (2,)
    assert all(np.isfinite(values).all() for values in metrics.values())
    assert metrics["initial_ratio_error"].max() < 1e-5


def learned_steps(agent):
    """Return for each step whether the loss depends on what the actor did there."""
    state, *_, sequences = roll_out(agent)

    def loss(log_prob):
        return agent._loss(state.params, replace(sequences, log_prob=log_prob))[0]

    return np.asarray(jax.jit(jax.grad(loss))(sequences.log_prob) != 0)


@drawn_parameters
def test_burn_in_only_refreshes_the_carry():
    agent = make_agent(gru_torso(), burn_in_length=6, normalize_advantage=False)
    learned = learned_steps(agent)
    assert not learned[:, :6].any()
    assert learned[:, 6:].all()


@drawn_parameters
def test_nothing_is_learned_from_a_step_that_a_time_limit_cut_off():
    agent = make_agent(gru_torso(), Counting(), num_steps=13)
    state, *_, sequences = roll_out(agent)
    truncated = np.asarray(sequences.transitions.truncated)
    assert truncated.any()

    def loss(log_prob, advantage, target):
        changed = replace(sequences, log_prob=log_prob, advantage=advantage, target=target)
        return agent._loss(state.params, changed)[0]

    read = sequences.log_prob, sequences.advantage, sequences.target
    # Their own gradients would have been cut where they decide how others are normalised.
    changed = [jnp.where(truncated, leaf + 100, leaf) for leaf in read]
    gradients = jax.jit(jax.grad(loss, argnums=(0, 2)))(*read)
    for gradient in gradients:
        assert not gradient[truncated].any()
        assert gradient[~truncated].any()
    np.testing.assert_allclose(loss(*changed), loss(*read), rtol=1e-6)


@drawn_parameters
def test_no_gradient_reaches_into_the_burn_in():
    agent = make_agent(gru_torso(), burn_in_length=6)
    state, *_, sequences = roll_out(agent)
    transitions = sequences.transitions

    def loss(observation):
        timestep = replace(transitions.timestep, observation=observation)
        shown = replace(sequences, transitions=replace(transitions, timestep=timestep))
        return agent._loss(state.params, shown)[0]

    gradient = jax.jit(jax.grad(loss))(transitions.timestep.observation)
    assert not gradient[:, :6].any()
    assert gradient[:, 6:].any()


def minibatches_learned_from(**config):
    """Return how many gradient steps one update took."""
    agent = make_agent(gru_torso(), optimizer=optax.adam(0.05), **config)
    state, metrics = agent.train(
        jax.random.key(0), agent.init(jax.random.key(1)), agent.steps_per_update
    )
    assert all(np.isfinite(metrics[name]).all() for name in ("policy_loss", "approximate_kl"))
    return int(optax.tree.get(state.optimizer_state, "count"))


@pytest.mark.exhaustive
def test_target_kl_stops_an_update_early():
    assert minibatches_learned_from() == 8
    assert 1 <= minibatches_learned_from(target_kl=1e-3) < 8
    assert minibatches_learned_from(target_kl=1e6) == 8


@drawn_parameters
def test_sequences_are_never_cut_unless_no_network_holds_a_carry():
    def shape(torso, **config):
        *_, sequences = jax.eval_shape(lambda: roll_out(make_agent(torso, **config)))
        return sequences.log_prob.shape

    assert shape(gru_torso()) == (4, 16)
    assert shape(mlp_torso()) == (64, 1)
    assert shape(mlp_torso(), advantage="vtrace") == (4, 16)


@drawn_parameters
def test_vtrace_corrects_for_a_policy_that_has_changed_and_is_gae_before():
    config = {"num_steps": 13, "burn_in_length": 3}
    agent = make_agent(gru_torso(), Counting(), advantage="vtrace", **config)
    state, *_, sequences = roll_out(agent)
    learned = jax.tree.map(lambda leaf: leaf[:, 3:], replace(sequences, carry={}))
    assert np.asarray(learned.transitions.truncated).any()
    unchanged = agent._corrected(learned, learned.value, jnp.ones_like(learned.value))
    for field in ("advantage", "target"):
        got, expected = getattr(unchanged, field), getattr(learned, field)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)

    @jax.jit
    def metrics(params):
        return agent._loss(params, sequences)[1]

    with_vtrace = metrics(perturbed(state.params))
    agent = make_agent(gru_torso(), Counting(), **config)
    with_gae = jax.jit(agent._loss)(perturbed(state.params), sequences)[1]
    assert with_vtrace["entropy"] == with_gae["entropy"]
    for name in ("policy_loss", "value_loss"):
        assert abs(with_vtrace[name] - with_gae[name]) > 1e-3


@drawn_parameters
@pytest.mark.parametrize(
    ("normalize_advantage", "value_clip_coefficient"), [(True, 0.2), (False, None)]
)
def test_the_loss_is_the_published_one(normalize_advantage, value_clip_coefficient):
    agent = make_agent(
        gru_torso(),
        normalize_advantage=normalize_advantage,
        value_clip_coefficient=value_clip_coefficient,
        clip_coefficient=0.1,
        entropy_coefficient=0.3,
        value_coefficient=0.7,
    )
    state, *_, sequences = roll_out(agent)
    params = perturbed(state.params)
    # Targets of a deviation below 1, in units of which values would else be compared.
    noise = 0.5 * np.random.default_rng(0).standard_normal((4, 16), np.float32)
    sequences = replace(sequences, target=sequences.target + noise)
    assert sequences.target.std() < 1

    @jax.jit
    def learn(params):
        policy, value = (
            apply_sequence(
                network, params[name], sequences.transitions.timestep, sequences.carry[name]
            )[1]
            for name, network in agent.networks.items()
        )
        return agent._loss(params, sequences)[0], policy.logits, value

    loss, *outputs = learn(params)
    logits, value = (np.asarray(output, np.float64) for output in outputs)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_probs, np.asarray(sequences.transitions.action)[..., None], -1)[
        ..., 0
    ]
    ratio = np.exp(chosen - np.asarray(sequences.log_prob))
    assert (np.abs(ratio - 1) > 0.1).any()
    advantage = np.asarray(sequences.advantage, np.float64)
    if normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    policy_loss = -np.minimum(ratio * advantage, np.clip(ratio, 0.9, 1.1) * advantage).mean()
    old = np.asarray(sequences.value)
    squared = (value - np.asarray(sequences.target)) ** 2
    if value_clip_coefficient is not None:
        clipped = old + np.clip(value - old, -0.2, 0.2)
        squared = np.maximum(squared, (clipped - np.asarray(sequences.target)) ** 2)
    entropy = -(np.exp(log_probs) * log_probs).sum(-1).mean()
    expected = policy_loss + 0.7 * 0.5 * squared.mean() - 0.3 * entropy
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@drawn_parameters
def test_evaluation_counts_each_environments_first_episode_and_repeats():
    agent = make_agent(gru_torso())
    state = agent.init(jax.random.key(0))
    report = agent.evaluate(jax.random.key(1), state, 32)
    assert report.episode_returns.shape == (32,)
    assert set(np.unique(report.episode_returns)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(report.episode_lengths, 5)
    assert report.completed.all()
    again = agent.evaluate(jax.random.key(1), state, 32)
    np.testing.assert_array_equal(report.episode_returns, again.episode_returns)
    drawn = agent.evaluate(jax.random.key(1), state, 32, deterministic=False)
    assert drawn.completed.all()
    assert (drawn.episode_returns != report.episode_returns).any()
    assert agent._programs["_evaluate"]._cache_size() == 1, "one program takes either actions"


def test_an_evaluation_in_parts_is_the_one_in_a_single_program():
    agent = make_agent(gru_torso())
    state = agent.init(jax.random.key(0))
    whole = agent.evaluate(jax.random.key(1), state, 8)
    episodes = agent.begin_evaluation(jax.random.key(1), state, 8)
    for first, last in ((0, 1), (1, 3), (3, 100)):
        assert not episodes.report.completed.any()
        episodes = agent.continue_evaluation(state, episodes, first, last)
    assert agent._programs["_continue_evaluation"]._cache_size() == 1
    jax.tree.map(np.testing.assert_array_equal, episodes.report, whole)


@drawn_parameters
def test_evaluation_says_which_episodes_it_gave_up():
    agent = make_agent(gru_torso())
    report = agent.evaluate(jax.random.key(1), agent.init(jax.random.key(0)), 4, max_steps=3)
    assert not report.completed.any()
    np.testing.assert_array_equal(report.episode_lengths, 3)


CHAIN = environments.make("gymnax::MemoryChain-bsuite", memory_length=5)
RECALLING = ClipAction(Recalling()), None


@pytest.mark.parametrize(
    ("task", "remembered", "forgotten"),
    [
        pytest.param(CHAIN, 0.95, 0.3, id="discrete"),
        pytest.param(RECALLING, 0.9, 0.6, id="continuous", marks=pytest.mark.exhaustive),
    ],
)
def test_memory_solves_what_no_memoryless_agent_can(task, remembered, forgotten):
    env, env_params = task

    def mean_return(torso):
        agent = make_agent(
            torso,
            env,
            env_params,
            optimizer=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(5e-3)),
            num_envs=16,
            num_steps=32,
            num_minibatches=4,
        )
        state = agent.init(jax.random.key(0))
        state, _ = agent.train(jax.random.key(1), state, 30_000)
        return agent.evaluate(jax.random.key(2), state, 200).episode_returns.mean()

    assert mean_return(gru_torso()) > remembered
    assert mean_return(mlp_torso()) < forgotten


def test_minibatches_of_one_step_move_the_actor_without_normalising():
    agent = make_agent(
        mlp_torso(), num_envs=2, num_steps=4, num_minibatches=8, normalize_advantage=False
    )
    state = agent.init(jax.random.key(0))
    moved, metrics = agent.train(jax.random.key(1), state, 8)
    assert np.abs(metrics["policy_loss"]).max() > 0
    assert any(
        (old != new).any()
        for old, new in zip(
            *(jax.tree.leaves(each.params["actor"]) for each in (state, moved)), strict=True
        )
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
        ({"num_steps": -3}, "num_steps must be an integer of at least 1, got -3"),
        ({"num_minibatches": 2.0}, "num_minibatches must be an integer"),
        ({"num_envs": 3, "num_steps": 5}, "must be divisible by num_minibatches, got num_envs=3"),
        ({"minibatch_groups": 3}, "minibatch_groups must divide num_envs,.*got minibatch_groups=3"),
        ({"gamma": 1.5}, "gamma must be a number from 0 to 1, got 1.5"),
        ({"clip_coefficient": -0.1}, "clip_coefficient must be a number of at least 0, got -0.1"),
        ({"burn_in_length": 128}, "burn_in_length must be an integer from 0 to 127, got 128"),
        ({"advantage": "td"}, "advantage must be 'gae' or 'vtrace', got 'td'"),
        ({"clip_c_threshold": 2.0}, "clip_c_threshold must be 1.0 unless advantage is 'vtrace'"),
        ({"gae_lambda": float("nan")}, "gae_lambda must be a number from 0 to 1, got nan"),
        (
            {"num_envs": 2, "num_steps": 4, "num_minibatches": 8},
            "normalize_advantage needs minibatches of at least 2 steps, .*num_minibatches=8",
        ),
        (
            {"num_envs": 2, "num_steps": 4, "burn_in_length": 3, "num_minibatches": 2},
            "normalize_advantage needs minibatches of at least 2 steps, .*burn_in_length=3",
        ),
    ],
)
def test_a_configuration_out_of_range_is_refused(config, words, as_a_user):
    with pytest.raises(ValueError, match=f"PPOConfig.*{words}"):
        PPOConfig(**config)


def make_ppo(env_name, actor_head, critic_head=None, torso=None, critic=True, **config):
    env, env_params = environments.make(env_name)
    torso = torso or gru_torso()
    extractor = make_networks(torso, Discrete(2))[0].feature_extractor
    actor, other = (
        Network(feature_extractor=extractor, torso=torso, head=head)
        for head in (actor_head, critic_head or heads.VNetwork())
    )
    parts = env, env_params, actor, other if critic else None
    return PPO(PPOConfig(**config), *parts, optax.adam(1e-3))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gymnax::CartPole-v1", heads.Categorical(4)), "actor.head.action_dim must be 2 .* got 4"),
        (("gymnax::Pendulum-v1", heads.Categorical(4)), "actor.head must be continuous.*Categor"),
        (("gymnax::CartPole-v1", heads.Gaussian(2)), "actor.head must be discrete.*n=2.*Gaussian"),
        (("gymnax::Pendulum-v1", heads.Gaussian(3)), r"actor.head: .*\(1,\), got \(3,\)"),
        (("gymnax::CartPole-v1", heads.VNetwork()), "actor.head must return a distribution"),
        (
            ("gymnax::CartPole-v1", heads.Categorical(2), nn.Dense(1)),
            r"critic.head must have a loss, such as VNetwork\(\), got Dense",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused(arguments, words, as_a_user):
    with pytest.raises(ValueError, match=f"PPO.{words}"):
        make_ppo(*arguments)


def test_sequences_that_cannot_be_shared_out_are_refused(as_a_user):
    with pytest.raises(ValueError, match="num_envs must be divisible by num_minibatches"):
        make_ppo("gymnax::CartPole-v1", heads.Categorical(2), num_envs=6)
    make_ppo("gymnax::CartPole-v1", heads.Categorical(2), torso=mlp_torso(), num_envs=6)
    with pytest.raises(
        ValueError, match="must divide the environments of each of minibatch_groups"
    ):
        make_ppo("gymnax::CartPole-v1", heads.Categorical(2), minibatch_groups=8)


def test_every_minibatch_holds_as_many_sequences_of_each_group():
    groups, group_size, epochs, minibatches = 3, 8, 2, 4
    indices = minibatch_indices(jax.random.key(0), groups, group_size, epochs, minibatches)
    sequences = in_groups({"environment": jnp.arange(groups * group_size)}, groups)
    taken = jax.vmap(lambda index: take_minibatch(sequences, index)["environment"])(indices)
    assert taken.shape == (epochs * minibatches, groups * group_size // minibatches)
    for epoch in np.split(np.asarray(taken), epochs):
        assert sorted(epoch.ravel()) == list(range(groups * group_size))
        for minibatch in epoch:
            assert np.bincount(minibatch // group_size).tolist() == [2, 2, 2]
    assert not np.array_equal(*np.split(np.asarray(taken), epochs))


def test_one_group_draws_what_a_permutation_of_all_sequences_does():
    key = jax.random.key(0)
    indices = minibatch_indices(key, 1, 16, 1, 4)
    permutation = jax.random.permutation(jax.random.split(key, 1)[0], 16)
    np.testing.assert_array_equal(indices.ravel(), permutation)


def test_an_lstm_trains_on_continuous_actions():
    env, env_params = environments.make("gymnax::Pendulum-v1", max_steps_in_episode=20)
    torso = RNN(cell=nn.LSTMCell(features=8))
    agent = make_agent(torso, env, env_params, all_extractors=True)
    state = agent.init(jax.random.key(0))
    state, metrics = agent.train(jax.random.key(1), state, 3 * agent.steps_per_update)
    assert all(np.isfinite(metrics[name]).all() for name in metrics if "episode" not in name)
    assert metrics["num_episodes"].sum() == 3 * 16 // 20 * 4


def with_demons(head):
    """Return a horde of one demon of each kind; the second's discount depends on the episode."""
    demons = {
        "reward": heads.GVF(heads.VNetwork(), lambda step: step.reward, 0.7),
        "count": heads.GVF(
            heads.HLGaussVNetwork(num_bins=11, v_min=-1.0, v_max=4.0),
            lambda step: step.next_observation[..., 0] + step.action,
            lambda step: 0.5 + 0.3 * step.observation[..., 1],
        ),
    }
    return heads.Horde(head, demons)


def horde_agent(**config):
    networks = make_networks(gru_torso(), Discrete(2))
    actor, critic = (replace(network, head=with_demons(network.head)) for network in networks)
    config = PPOConfig(**{"num_envs": 4, "num_steps": 13, "num_minibatches": 2} | config)
    return PPO(config, Counting(), None, actor, critic, optax.adam(1e-3))


@drawn_parameters
def test_demons_learn_from_what_follows_a_rollout_or_a_time_limit():
    agent = horde_agent()
    state, next_state, _, sequences = roll_out(agent)
    transitions = sequences.transitions
    timestep, action = transitions.timestep, np.asarray(transitions.action)
    terminated, truncated = np.asarray(transitions.terminated), np.asarray(transitions.truncated)
    assert truncated[:, :-1].any()
    assert terminated.any()
    assert not (terminated | truncated)[:, -1].all()
    observation = np.concatenate(
        [timestep.observation, np.asarray(next_state.timestep.observation)[:, None]], axis=1
    )
    done = jnp.concatenate([timestep.done, next_state.timestep.done[:, None]], axis=1)
    steps = Timestep(
        jnp.asarray(observation), done, jnp.zeros((4, 14), jnp.int32), jnp.zeros((4, 14))
    )
    count, limited = np.moveaxis(observation.astype(np.float64), -1, 0)
    # After a termination, too, demons are shown the episode's own last observation.
    next_count = np.where(terminated, 1.0, count[:, 1:])
    for name, network in agent.networks.items():
        _, output = jax.jit(apply_sequence, static_argnums=0)(
            network, state.params[name], steps, network.initialize_carry(4)
        )
        predicted = jax.tree.map(np.asarray, heads.predictions(output))
        to_come = {demon: values[:, 1:] * ~terminated for demon, values in predicted.items()}
        expected = {
            "reward": 1.0 + 0.7 * to_come["reward"],
            "count": next_count + action + (0.5 + 0.3 * limited[:, :-1]) * to_come["count"],
        }
        for demon, target in expected.items():
            got = sequences.demon_targets[name][demon]
            np.testing.assert_allclose(got[~truncated], target[~truncated], rtol=1e-4, atol=1e-5)


@drawn_parameters
def test_demons_shape_the_torso_by_their_coefficient():
    agents = [horde_agent(auxiliary_coefficient=coefficient) for coefficient in (0.0, 0.7)]
    state, *_, sequences = roll_out(agents[0])
    losses = [lambda params, agent=agent: agent._loss(params, sequences)[0] for agent in agents]

    def auxiliary_loss(params):
        return agents[0]._loss(params, sequences)[1]["auxiliary_loss"]

    # One program, of which the most is the same for each.
    @jax.jit
    def gradients(params):
        return [jax.grad(loss)(params) for loss in (*losses, auxiliary_loss)]

    without, together, alone = gradients(state.params)
    for name in ("actor", "critic"):
        reached = alone[name]["params"]
        for part in ("torso", "feature_extractor"):
            assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(reached[part]))
    for got, old, new in zip(*map(jax.tree.leaves, (together, without, alone)), strict=True):
        np.testing.assert_allclose(got, old + 0.7 * new, rtol=1e-3, atol=1e-6)


def test_a_distribution_of_values_learns_as_a_critic():
    """A critic of an endless reward of 1, of which a time limit shows 5 at a time."""
    actor, critic = make_networks(mlp_torso(), Discrete(2))
    critic = replace(critic, head=heads.HLGaussVNetwork(num_bins=21, v_min=-1.0, v_max=4.0))
    config = PPOConfig(
        num_envs=8,
        num_steps=16,
        gamma=0.5,
        value_clip_coefficient=None,
        value_coefficient=1.0,
    )
    agent = PPO(config, Counting(), None, actor, critic, optax.adam(5e-3))
    state = agent.init(jax.random.key(0))
    state, metrics = agent.train(jax.random.key(1), state, 8_000)
    assert np.isfinite(metrics["value_loss"]).all()
    count = np.tile(np.arange(5), 2) / 5
    limited = np.repeat([0.0, 1.0], 5)
    timestep = Timestep(
        jnp.asarray(np.stack([count, limited], -1)[None], jnp.float32),
        jnp.zeros((1, 10), bool),
        jnp.zeros((1, 10), jnp.int32),
        jnp.zeros((1, 10)),
    )
    _, output = apply_sequence(critic, state.params["critic"], timestep, ())
    worth = np.where(limited == 1, 2.0, 2 - 2.0 ** (1 - (5 - 5 * count)))
    np.testing.assert_allclose(output.mean[0], worth, atol=0.15)


@pytest.mark.parametrize("demons", [False, True])
def test_a_distribution_of_values_is_not_clipped(demons, as_a_user):
    head = heads.HLGaussVNetwork()
    head = with_demons(head) if demons else head
    with pytest.raises(ValueError, match=r"value_clip_coefficient must be None for HLGauss.*0.2"):
        make_ppo("gymnax::CartPole-v1", heads.Categorical(2), head)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (heads.DiscreteQNetwork(2), r"must return values of shape .*got DiscreteQNetwork, which"),
        (heads.C51QNetwork(2), "must return values of shape .*got C51QNetwork, which"),
        (heads.TwinContinuousQNetwork(), "must value states.*got TwinContinuousQNetwork"),
        (with_demons(heads.DiscreteQNetwork(2)), "must return values of shape .*DiscreteQNetwork"),
        (heads.Categorical(2), "must have a loss.*got Categorical"),
    ],
)
def test_critics_that_do_not_value_states_are_refused(head, words, as_a_user):
    with pytest.raises(ValueError, match=f"PPO.critic.head {words}"):
        make_ppo("gymnax::CartPole-v1", heads.Categorical(2), head)


def test_a_squashed_policy_is_refused_for_want_of_an_entropy(as_a_user):
    with pytest.raises(ValueError, match=r"PPO.actor.head .*entropy.*got SquashedGaussian"):
        make_ppo("gymnax::Pendulum-v1", heads.SquashedGaussian(1, low=-2.0, high=2.0))
