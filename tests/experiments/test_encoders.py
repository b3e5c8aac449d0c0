import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memorax.algorithms import DQN, DQNConfig
from memorax.environments import Box, Discrete, Environment, MultiDiscrete
from memorax.experiments.cli.command_line import main
from memorax.experiments.presets.encoders import describe, make_encoder, report
from memorax.experiments.presets.names import ENCODERS
from memorax.experiments.run.config import TrainConfig, from_json, to_fields
from memorax.networks import FeatureExtractor, Network, heads

FEATURES = 8
BYTES = np.uint8(0), np.uint8(255)


def pixels(*shape):
    return Box(*BYTES, shape, np.uint8)


def floats(*shape):
    return Box(0.0, 1.0, shape)


GRID = MultiDiscrete(0, np.array([10, 5, 3], np.uint8), (7, 7, 3), np.uint8)
CRAFTAX = floats(63, 63, 3)
PARTS = {"view": GRID, "camera": pixels(64, 64, 3), "facts": (Discrete(3), floats(2))}


def sample(space, seed=0, steps=(2, 3)):
    """Return observations drawn from a space, leading with (batch, time)."""
    generator = np.random.default_rng(seed)

    def draw(part):
        if isinstance(part, Discrete):
            return jnp.asarray(generator.integers(0, part.n, steps), jnp.int32)
        shape = (*steps, *part.shape)
        low, high = (np.broadcast_to(np.asarray(bound), shape) for bound in (part.low, part.high))
        if np.issubdtype(part.dtype, np.integer):
            return jnp.asarray(generator.integers(low, high, endpoint=True), part.dtype)
        return jnp.asarray(generator.uniform(low, high), part.dtype)

    return jax.tree.map(draw, space)


def applied(encoder, space, observation, features=FEATURES):
    model = make_encoder(encoder, space, features)
    params = model.init(jax.random.key(0), observation)
    return model.apply(params, observation), params["params"]


def num_parameters(encoder, space, features=64):
    return int(report(encoder, space, features).split(": ")[-1].split()[0].replace(",", ""))


@pytest.mark.parametrize(
    ("space", "kind", "width"),
    [
        (floats(4), "MLP", 8),
        (floats(), "MLP", 8),
        (Discrete(4), "MLP", 8),
        (Discrete(5000), "embedding", 8),
        (MultiDiscrete(0, 2, (52,)), "MLP", 8),
        (MultiDiscrete(0, 999, (2,)), "embedding", 8),
        (GRID, "minatar CNN", 8),
        (MultiDiscrete(-1, 10, (7, 9)), "minatar CNN", 8),
        (MultiDiscrete(0, 10, (3, 3, 2)), "MLP", 8),
        (floats(10, 5), "minatar CNN", 8),
        (floats(10, 5, 1), "minatar CNN", 8),
        (floats(10, 10, 4), "minatar CNN", 8),
        (floats(4, 10), "MLP", 8),
        (floats(30, 40, 3), "impala CNN", 8),
        (pixels(60, 64, 3), "nature CNN", 8),
        (pixels(64, 64), "nature CNN", 8),
        (floats(2, 6, 6, 3), "MLP", 8),
        ((Discrete(2), Discrete(4)), "MLP", 8),
        (PARTS, "nature CNN and MLP and minatar CNN", 24),
    ],
)
def test_auto_reads_each_space_by_what_suits_it(space, kind, width):
    model = make_encoder("auto", space, FEATURES)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), sample(space))
    features, params = jax.eval_shape(model.init_with_output, jax.random.key(0), shapes)
    assert features.shape == (2, 3, width)
    assert features.dtype == jnp.float32
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    line = f"observation {describe(space)} read by {kind}: {size:,} parameters"
    assert report("auto", space, FEATURES) == line


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (floats(4), "(4,) float32"),
        (Discrete(4), "Discrete(4)"),
        (GRID, "(7, 7, 3) uint8 categories"),
        (
            PARTS,
            "{camera: (64, 64, 3) uint8, facts: (Discrete(3), (2,) float32), "
            "view: (7, 7, 3) uint8 categories}",
        ),
    ],
)
def test_a_space_is_described_by_shapes_dtypes_and_categories(space, words):
    assert describe(space) == words


@pytest.mark.parametrize(
    ("space", "as_vector"),
    [
        (floats(4), lambda observation: observation),
        (floats(), lambda observation: observation[..., None]),
        (Box(np.int32(0), np.int32(9), (3,), np.int32), lambda observation: observation),
        (Discrete(4), lambda observation: jax.nn.one_hot(observation, 4)),
        (
            (Discrete(2), floats(3)),
            lambda observation: jnp.concatenate(
                [jax.nn.one_hot(observation[0], 2), observation[1]], axis=-1
            ),
        ),
    ],
)
def test_vectors_and_categories_are_read_as_by_dense_and_relu(space, as_vector):
    observation = sample(space)
    plain = FeatureExtractor(observation_extractor=nn.Sequential((nn.Dense(FEATURES), nn.relu)))
    extractor = FeatureExtractor(observation_extractor=make_encoder("auto", space, FEATURES))
    expected, params = plain.init_with_output(jax.random.key(0), as_vector(observation))
    features, same = extractor.init_with_output(jax.random.key(0), observation)
    jax.tree.map(np.testing.assert_array_equal, same, params)
    np.testing.assert_array_equal(features, expected)


@pytest.mark.parametrize("encoder", ["minatar", "mlp"])
def test_bytes_are_scaled(encoder):
    space = pixels(6, 5, 2)
    observation = sample(space)
    features, params = applied(encoder, space, observation)
    scaled, same = applied(encoder, floats(6, 5, 2), observation / np.float32(255))
    jax.tree.map(np.testing.assert_array_equal, same, params)
    np.testing.assert_allclose(features, scaled, rtol=1e-6)


@pytest.mark.parametrize("space", [Box(-1.0, 1.0, (0,)), {"seen": Box(0.0, 1.0, (2, 0))}, {}])
def test_an_observation_without_an_element_is_refused(space):
    with pytest.raises(ValueError, match="must have an element to read, got the observation"):
        make_encoder("auto", space, 8)


def test_integers_are_scaled_by_their_bounds_unless_these_are_out_of_reach():
    shape = (6, 5, 2)
    few = Box(np.int32(-5), np.int32(5), shape, np.int32)
    many = Box(np.int32(-(2**30)), np.int32(2**30), shape, np.int32)
    observation = sample(few)
    features, _ = applied("minatar", few, observation)
    scaled, _ = applied("minatar", floats(*shape), (observation + 5) / np.float32(10))
    np.testing.assert_allclose(features, scaled, rtol=1e-6)
    features, _ = applied("minatar", many, observation)
    plain, _ = applied("minatar", floats(*shape), observation.astype(jnp.float32))
    np.testing.assert_array_equal(features, plain)


@pytest.mark.parametrize("low", [0, -1])
def test_each_category_of_a_grid_has_a_channel(low):
    sizes = np.array([3, 2])
    space = MultiDiscrete(low, low + sizes - 1, (6, 5, 2))
    observation = sample(space)
    channels = np.zeros((2, 3, 6, 5, 5), np.float32)
    for index in np.ndindex(2, 3, 6, 5):
        first, second = np.asarray(observation[index]) - low
        channels[index][first] = channels[index][3 + second] = 1
    features, params = applied("auto", space, observation)
    expected, same = applied("minatar", floats(6, 5, 5), jnp.asarray(channels))
    jax.tree.map(np.testing.assert_array_equal, same, params)
    np.testing.assert_array_equal(features, expected)


def test_many_categories_are_the_sum_of_a_vector_each():
    space = MultiDiscrete(np.array([0, -3]), np.array([1999, 96]), (2,))
    observation = sample(space)
    features, params = applied("auto", space, observation)
    ((table,),) = (jax.tree.leaves(params),)
    assert table.shape == (2100, FEATURES)
    first, second = observation[..., 0], observation[..., 1] + 3
    expected = (table[first] + table[2000 + second]) / np.sqrt(2)
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_parts_of_an_observation_are_read_apart_and_joined():
    space = {"picture": floats(6, 5, 1), "choice": Discrete(3), "numbers": (floats(2), floats())}
    observation = sample(space)
    features, params = applied("auto", space, observation)
    vector = jnp.concatenate(
        [
            jax.nn.one_hot(observation["choice"], 3),
            observation["numbers"][0],
            observation["numbers"][1][..., None],
        ],
        axis=-1,
    )
    dense = params["layers_0"]
    np.testing.assert_allclose(
        features[..., FEATURES:], nn.relu(vector @ dense["kernel"] + dense["bias"]), rtol=1e-5
    )
    other = observation | {"choice": (observation["choice"] + 1) % 3}
    again = make_encoder("auto", space, FEATURES).apply({"params": params}, other)
    np.testing.assert_array_equal(again[..., :FEATURES], features[..., :FEATURES])


def test_a_picture_of_craftax_is_no_dense_of_many_parameters():
    assert num_parameters("mlp", CRAFTAX) == 63 * 63 * 3 * 64 + 64
    assert num_parameters("auto", CRAFTAX) < 150_000
    assert num_parameters("auto", floats(130, 110, 3)) < 600_000


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_reads_a_picture_by_name(encoder):
    space = pixels(64, 64, 3)
    model = make_encoder(encoder, space, FEATURES)
    observation = jax.ShapeDtypeStruct((1, 2, 64, 64, 3), jnp.uint8)
    features, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), observation)
    assert features.shape == (1, 2, FEATURES)


def test_an_encoder_of_pictures_leaves_other_parts_to_the_mlp():
    space = {"picture": floats(6, 5, 1), "numbers": floats(2)}
    assert make_encoder("impala", space, FEATURES).kinds == ("MLP", "impala CNN")


@pytest.mark.parametrize(
    ("encoder", "space", "words"),
    [
        ("nature", floats(4), r"nature reads pictures .*, got the observation \(4,\) float32: use"),
        (
            "impala",
            Discrete(4),
            r"impala reads pictures .*, got the observation Discrete\(4\)",
        ),
        ("vit", (Discrete(2), floats(3)), r"got the observation \(Discrete\(2\), \(3,\) float32\)"),
        ("minatar", floats(4, 4, 3), r"at least 5 x 5, got the observation \(4, 4, 3\) float32"),
        ("nature", GRID, r"not fit the observation \(7, 7, 3\) uint8 cat.* 36 x 36, got 7 x 7"),
        ("vit", pixels(84, 84, 3), r"\(84, 84, 3\) uint8: .* divide .* patch_size=8, .* 84 x 84"),
        ("vit", GRID, r"\(7, 7, 3\) uint8 categories: .*patch_size must not exceed the image"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_by_name(encoder, space, words):
    with pytest.raises(ValueError, match=words) as caught:
        make_encoder(encoder, space, FEATURES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --encoder cnn", "unknown encoder 'cnn'; choose from: auto, impala, minatar, mlp"),
        ("train --encoder impalla", "unknown encoder 'impalla'; the closest are: impala"),
        ("train --encoder nature", "got the observation (3,) float32: use auto or mlp"),
        (
            "train --encoder vit --environment gymnax::Breakout-MinAtar",
            "encoder vit does not fit the observation (10, 10, 4) float32: PatchEmbedding",
        ),
        ("compare --encoder nature", "got the observation (3,) float32: use auto or mlp"),
        (
            "sweep --search encoder=auto,nature --num-trials 2",
            "got the observation (3,) float32: use auto or mlp",
        ),
    ],
)
def test_bad_encoders_are_told_in_one_line_with_exit_code_2(
    arguments, words, capsys, as_a_user, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    output = capsys.readouterr()
    assert words in output.err
    assert output.err.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing may be written for bad input"


def test_a_run_from_before_encoders_is_refused_with_the_default(tmp_path):
    fields = to_fields(TrainConfig())
    del fields["encoder"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"memorax: encoder: missing, its default is 'auto'$"):
        from_json(path)


class Lights(Environment):
    """Shows a picture of bytes, all of one shade; naming whether it is light is worth 1."""

    def reset(self, key, params):
        light = jax.random.bernoulli(key)
        return self._show(light), (light, jnp.int32(0))

    def step(self, key, state, action, params):
        light, time = state
        reward = jnp.float32(action == light)
        observation, (light, _) = self.reset(key, params)
        ended = time == 3
        info = {"final_observation": observation}
        state = light, jnp.where(ended, 0, time + 1)
        return observation, state, reward, ended, jnp.bool_(False), info

    def _show(self, light):
        return jnp.where(light, jnp.full((6, 6, 1), 255, jnp.uint8), jnp.uint8(0))

    def observation_space(self, params):
        return pixels(6, 6, 1)

    def action_space(self, params):
        return Discrete(2)


def test_a_replay_keeps_bytes_as_bytes():
    config = DQNConfig(num_envs=2, num_steps=4, sequence_length=4, buffer_size=64, batch_size=2)
    space = Lights().observation_space(None)
    network = Network(
        FeatureExtractor(observation_extractor=make_encoder("auto", space, FEATURES)),
        nn.Dense(FEATURES),
        heads.DiscreteQNetwork(action_dim=2),
    )
    agent = DQN(config, Lights(), None, network, optax.adam(1e-3))
    replay = jax.eval_shape(agent.init, jax.random.key(0)).replay
    pictures = [leaf for leaf in jax.tree.leaves(replay) if leaf.shape[-3:] == (6, 6, 1)]
    assert [leaf.dtype for leaf in pictures] == [jnp.uint8]
    # Of each sequence 5 observations of 36 bytes; the rest are rewards, actions and marks.
    sequences = config.num_sequences
    assert 5 * 36 * sequences < agent.replay_bytes < 2 * 5 * 36 * sequences


@pytest.mark.exhaustive
def test_train_says_what_reads_the_observation(tmp_path, capsys):
    command = ["train", "--environment", "gymnax::Catch-bsuite", "--features", "8"]
    command += ["--num-envs", "4", "--num-steps", "4", "--num-minibatches", "1", "--num-seeds", "1"]
    command += ["--total-steps", "16", "--evaluation-episodes", "2", "--loggers", "csv"]
    command += ["--no-memoryless-twin", "--run-folder", str(tmp_path / "run")]
    assert main(command) == 0
    header, line, folder, *_ = capsys.readouterr().out.splitlines()
    assert "gymnax::Catch-bsuite" in header
    assert line == report("auto", floats(10, 5), 8)
    assert folder.startswith("run folder")


@pytest.mark.exhaustive
@pytest.mark.extra("gymnasium")
def test_an_observation_of_several_parts_trains_acts_and_is_exported(tmp_path, capsys, monkeypatch):
    import gymnasium

    import memorax

    folder = tmp_path / "run"
    task = "tests.environments.counting:Several-v0"
    command = ["train", "--environment", f"gymnasium::{task}", "--features", "8"]
    command += ["--num-envs", "2", "--num-steps", "8", "--num-minibatches", "1", "--num-seeds", "1"]
    command += ["--total-steps", "32", "--evaluation-episodes", "2", "--loggers", "csv"]
    command += ["--no-memoryless-twin", "--run-folder", str(folder)]
    assert main(command) == 0
    assert "read by MLP and minatar CNN" in capsys.readouterr().out
    policy = memorax.Policy.load(folder)
    env = gymnasium.make(task)
    observation, _ = env.reset()
    assert policy(observation) in (0, 1)
    observation["choice"] = 0
    with pytest.raises(ValueError, match=r"\['choice'\] must lie in Discrete\(7, start=1\), got 0"):
        policy(observation)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert main(["play", str(folder), "--frames-per-second", "50"]) == 0
    monkeypatch.delenv("TTY_COMPATIBLE")
    played = capsys.readouterr().out
    assert all(name in played for name in ("choice:", "numbers/0:", "numbers/1:", "picture:"))
    assert main(["export", str(folder)]) == 0
    signature = json.loads((folder / "export-stablehlo" / "signature.json").read_text())
    shapes = {part["name"]: (part["shape"], part["dtype"]) for part in signature["inputs"]}
    assert [shapes[f"observation/{name}"] for name in ("choice", "numbers/0", "numbers/1")] == [
        ([], "int32"),
        ([2], "float32"),
        ([2], "int32"),
    ]
    assert shapes["observation/picture"] == ([6, 5, 3], "uint8")


@pytest.mark.exhaustive
def test_an_agent_learns_catch_from_pictures(tmp_path):
    folder = tmp_path / "run"
    command = ["train", "--environment", "gymnax::Catch-bsuite", "--torso", "mlp"]
    command += ["--num-seeds", "1", "--total-steps", "30000", "--learning-rate", "0.002"]
    command += ["--loggers", "csv", "--evaluation-episodes", "64"]
    assert main([*command, "--run-folder", str(folder)]) == 0
    (evaluation,) = json.loads((folder / "evaluation.json").read_text())
    # An episode is worth 1 or -1, and about -0.6 to who acts at random.
    assert evaluation["mean_return"] > 0.8
