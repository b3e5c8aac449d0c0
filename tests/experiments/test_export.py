import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from memorax import environments
from memorax.algorithms import DQNConfig, SACConfig
from memorax.algorithms.policy import PolicyStep
from memorax.environments import Box, Discrete, Environment
from memorax.environments.spaces import structure
from memorax.experiments.presets.torsos import TORSOS
from memorax.experiments.run import export as exporting
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.export import FORMATS, export
from memorax.experiments.run.onnx_operators import in_real_operators
from memorax.experiments.run.verification import check_acts_alike

RUN_WITHOUT_MEMORAX = """
import sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
four = dict(np.load(sys.argv[2]))
together = session.run(["next_memory/layer_1"], four)[0]
single = [
    session.run(["next_memory/layer_1"], {name: array[[row]] for name, array in four.items()})[0]
    for row in range(4)
]
np.testing.assert_allclose(np.concatenate(single), together, atol=1e-5)
print(*(array.shape for array in (together, *single)))
"""
PAGE = Path(__file__).parents[2] / "docs" / "exporting.md"


def untrained(torso="gru", **options):
    """Return the step of an agent with random parameters; nothing is compiled for it."""
    config = TrainConfig(
        **{"environment": "memory::RepeatPreviousEasy", "environment_parameters": ()} | options,
        **{"torso": torso, "features": 8, "num_seeds": 1, "memoryless_twin": False},
    )
    agent = make_agent(config, torso)
    rng = np.random.default_rng(0)

    def draw(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(rng.normal(size=leaf.shape, scale=0.3), leaf.dtype)
        return leaf

    state = jax.tree.map(draw, jax.eval_shape(agent.init, jax.random.key(0)))
    return PolicyStep(agent, state, config.previous_inputs, f"torso {torso}")


def can_be_exported(step, kind, folder):
    try:
        export(step, kind, folder)
    except ValueError as error:
        message = str(error)
    else:
        return "yes"
    assert message.startswith(f"{step.name} cannot be exported as {kind}: "), message
    assert not folder.exists()
    return "no"


@pytest.mark.exhaustive
@pytest.mark.parametrize("torso", TORSOS)
def test_the_page_tells_which_torsos_are_exported_and_act_like_the_agent(torso, tmp_path):
    step = untrained(torso, previous_inputs=True)
    row = [can_be_exported(step, kind, tmp_path / kind) for kind in FORMATS]
    assert f"| `{torso}` | {' | '.join(row)} |" in PAGE.read_text().splitlines()


def test_the_page_of_exports_has_a_row_for_every_torso_and_no_other():
    rows = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert rows == list(TORSOS)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": DQNConfig(), "value_head": "dueling_q_network"},
        {"algorithm": DQNConfig(), "value_head": "c51_q_network"},
        {"shared_memory": False, "torso": "lru"},
        {"environment": "memory::StatelessPendulumEasy", "torso": "s5"},
        {"environment": "memory::StatelessPendulumEasy", "algorithm": SACConfig()},
        {"environment": "memory::BattleshipEasy", "torso": "mlp"},
    ],
    ids=["dueling", "c51", "memories apart", "gaussian", "squashed gaussian", "battleship"],
)
def test_agents_of_every_kind_are_exported_as_onnx(options, tmp_path):
    assert can_be_exported(untrained(**options), "onnx", tmp_path / "x") == "yes"


class Pictures(Environment):
    """Shows a picture."""

    def __init__(self, size):
        self.space = Box(0, 255, (size, size, 3), jnp.uint8)

    def reset(self, key, params):
        return jnp.zeros(self.space.shape, jnp.uint8), ()

    def step(self, key, state, action, params):
        observation, state = self.reset(key, params)
        return observation, state, jnp.float32(0), jnp.bool_(False), jnp.bool_(False), {}

    def observation_space(self, params):
        return self.space

    def action_space(self, params):
        return Discrete(3)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("encoder", "size"), [("minatar", 10), ("nature", 60), ("impala", 16), ("vit", 16)]
)
def test_every_encoder_of_pictures_is_exported_as_onnx(encoder, size, monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "make", lambda name, **_: (Pictures(size), None))
    step = untrained("mlp", encoder=encoder)
    assert can_be_exported(step, "onnx", tmp_path / "x") == "yes"


def recurrence(decay, inputs):
    """Multiply, divide, add and exponentiate complex numbers, in a scan of several steps, too."""

    @jax.custom_vjp
    def turn(state):
        return state * jnp.exp(jax.lax.complex(-decay, 2 * decay))

    turn.defvjp(lambda state: (turn(state), None), lambda _, slope: (slope,))

    def step(state, entering):
        state = turn(state) / (2 - 1j) + jnp.where(entering > 0, entering, state)
        return state, state

    jax.random.split(jax.random.key(0))
    start = jnp.conj(inputs[0] + 1j * decay)
    last, states = jax.lax.scan(step, start, inputs)
    once, _ = jax.lax.scan(step, last, inputs[:1])
    first, *_ = states
    joined = jnp.stack([once - last, first])
    return joined.real, joined.imag, jax.lax.cummax(jnp.int32(once.real)[None])


def test_a_program_of_complex_numbers_computes_the_same_in_real_ones():
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((5,), (3, 5))]
    program = jax.make_jaxpr(recurrence)(*arrays)
    assert "c64" in str(program)
    real = in_real_operators(program)
    assert not any(word in str(real) for word in ("c64", "cummax", "stack", "custom_vjp", "random"))
    results = jax.jit(jaxpr_as_fun(real))(*arrays)
    for result, right in zip(results, recurrence(*arrays), strict=True):
        assert result.dtype == right.dtype
        np.testing.assert_allclose(result, right, rtol=1e-5, atol=1e-6)


def test_a_complex_operation_without_a_real_form_is_refused_by_name():
    program = jax.make_jaxpr(lambda x: jnp.sqrt(x + 1j).real)(jnp.ones(2))
    with pytest.raises(ValueError, match="the complex operation sqrt cannot be written"):
        in_real_operators(program)


def test_a_complex_carry_is_refused():
    program = jax.make_jaxpr(jnp.conj)(jnp.ones(2, jnp.complex64))
    with pytest.raises(ValueError, match="keep real and imaginary parts as two arrays"):
        in_real_operators(program)


def changed(step, change):
    """Return an agent's step as a program that changes its arguments or results."""
    program = jax.jit(exporting._flat(step, None))
    return lambda *arrays: change(program, *arrays)


def outputs(step):
    return list(exporting._signature(step, None).outputs)


def test_a_program_that_does_not_see_where_episodes_begin_is_found():
    step = untrained("gru", show_episode_start=False)
    check_acts_alike(jax.jit(exporting._flat(step, None)), step, outputs(step))

    def unseen(program, *arrays):
        return program(*arrays[:-1], np.bool_(False))

    with pytest.raises(
        ValueError, match=r"at step 3 of a trial its next_memory/layer_0 is not the agent's"
    ):
        check_acts_alike(changed(step, unseen), step, outputs(step))


def test_another_action_passes_only_where_rounding_decides():
    step = untrained("mlp")

    def other(program, *arrays):
        action, carry = program(*arrays)
        return (action + 1) % 4, (carry + 1) % 4

    with pytest.raises(ValueError, match="at step 0 of a trial its action is not the agent's"):
        check_acts_alike(changed(step, other), step, outputs(step))
    indifferent = replace(step, state=jax.tree.map(jnp.zeros_like, step.state))
    check_acts_alike(changed(indifferent, other), indifferent, outputs(step))


def test_a_file_that_acts_otherwise_is_refused_in_one_line_and_not_left(monkeypatch, tmp_path):
    wrong = untrained("mlp")
    load = exporting._load_stablehlo

    def load_and_spoil(file, signature):
        program = load(file, signature)
        return lambda *arrays: tuple(array + 1 for array in program(*arrays))

    monkeypatch.setattr(exporting, "_load_stablehlo", load_and_spoil)
    with pytest.raises(ValueError, match=r"^torso mlp cannot be exported as stablehlo: at step 0"):
        export(wrong, "stablehlo", tmp_path / "x")
    assert not list(tmp_path.iterdir())


class Parts(Pictures):
    """Shows a dictionary of a picture, a category and numbers."""

    def __init__(self):
        super().__init__(10)
        self.space = {
            "image": self.space,
            "text": Discrete(5),
            "place": Box(np.array([-1.0, -np.inf]), np.array([1.0, np.inf]), (2,)),
        }

    def reset(self, key, params):
        return jax.tree.map(
            lambda part: jnp.zeros(part.shape, part.dtype), structure(self.space)
        ), ()


def test_an_onnx_program_of_a_free_batch_runs_with_any_and_says_what_it_takes(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(environments, "make", lambda name, **_: (Parts(), None))
    folder = export(untrained("gru", num_layers=2), "onnx", tmp_path / "x", batch_size="free")
    signature = json.loads((folder / "signature.json").read_text())
    inputs = {part.pop("name"): part for part in signature["inputs"]}
    assert inputs == {
        "observation/image": {
            "shape": ["batch", 10, 10, 3],
            "dtype": "uint8",
            "values": {"low": 0, "high": 255, "categories": False},
        },
        "observation/place": {
            "shape": ["batch", 2],
            "dtype": "float32",
            "values": {"low": [-1.0, None], "high": [1.0, None], "categories": False},
        },
        "observation/text": {
            "shape": ["batch"],
            "dtype": "int32",
            "values": {"low": 0, "high": 4, "categories": True},
        },
        "memory/layer_0": {"shape": ["batch", 8], "dtype": "float32"},
        "memory/layer_1": {"shape": ["batch", 8], "dtype": "float32"},
        "previous_action": {"shape": ["batch"], "dtype": "int32"},
        "done": {"shape": ["batch"], "dtype": "bool"},
    }
    assert [part["name"] for part in signature["outputs"]] == [
        *("action", "next_memory/layer_0", "next_memory/layer_1", "next_previous_action")
    ]
    carry = np.load(folder / "initial_carry.npz")
    assert carry["memory/layer_1"].shape == (1, 8)
    rng = np.random.default_rng(0)
    four = {
        name: rng.integers(0, 2, (4, *part["shape"][1:])).astype(part["dtype"])
        for name, part in inputs.items()
    }
    np.savez(tmp_path / "four.npz", **four)
    ran = subprocess.run(
        [sys.executable, "-c", RUN_WITHOUT_MEMORAX, str(folder / "policy.onnx"), "four.npz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    assert ran.stdout == "(4, 8) (1, 8) (1, 8) (1, 8) (1, 8)\n"


@pytest.mark.exhaustive
def test_a_torso_without_a_free_batch_is_refused_by_name_in_one_line(tmp_path):
    refused = r"^torso mamba3 cannot be exported as onnx with a free batch: [^\n]*'batch'[^\n]*$"
    with pytest.raises(ValueError, match=refused):
        export(untrained("mamba3"), "onnx", tmp_path / "x", batch_size="free")
    assert not list(tmp_path.iterdir())


def test_a_program_that_mixes_the_rows_of_a_batch_is_found(tmp_path, monkeypatch):
    def mixing(step, batch_size):
        whole = flat(step, batch_size)
        return lambda *arrays: whole(*(jnp.roll(array, 1, 0) for array in arrays))

    flat = exporting._flat
    monkeypatch.setattr(exporting, "_flat", mixing)
    with pytest.raises(ValueError, match="is not the agent's"):
        export(untrained(), "stablehlo", tmp_path / "x", batch_size=2)
    with pytest.raises(ValueError, match="batch_size must be"):
        export(untrained(), "stablehlo", tmp_path / "x", batch_size=0)
