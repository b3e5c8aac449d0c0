"""Acting: one step of one environment and of 1,024 at once, and ``Policy`` in a Gymnasium loop.

Ours by name is the network of ``memorax train`` with random parameters, through a jitted function
whose carry is donated. Beside it take turns: the same encoder and head around Flax's GRUCell,
jitted likewise, and around PyTorch's LSTMCell. ``Policy`` is what a loop in Python calls; it is
compared with the jitted call inside it. The exported ONNX step runs in onnxruntime.
"""

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from timing import machine, minima

from memorax.algorithms.acting import Timestep, apply_step
from memorax.algorithms.policy import Policy, PolicyStep
from memorax.experiments.run.agents import make_agent
from memorax.experiments.run.config import TrainConfig
from memorax.experiments.run.export import export

FEATURES, OBSERVATION, ACTIONS = 64, 4, 2
CALLS = 200
EXTRAS = {"torch": "benchmarks", "onnxruntime": "onnx", "jax2onnx": "onnx"}
FLAX, TORCH = "Flax GRUCell", "PyTorch LSTMCell"

Rival = Literal["torch", "onnx"]


@dataclass
class Options:
    """Measure acting."""

    torsos: tuple[str, ...] = ("gru", "lstm", "lru", "min_gru", "mamba2", "mlstm", "attention")
    """Torsos by name."""
    environments: tuple[int, ...] = (1, 1024)
    """Environments that act at once."""
    rivals: tuple[Rival, ...] = ("torch", "onnx")
    """What else to measure, beside Flax: torch needs the extra benchmarks, onnx the extra onnx."""
    repeats: int = 15
    """Turns of each, of 200 steps; the least counts."""


class FlaxPolicy(nn.Module):
    """What JAX users write."""

    @nn.compact
    def __call__(self, carry, observation):
        """Return the new carry and the actions."""
        features = nn.relu(nn.Dense(FEATURES)(observation))
        carry, memory = nn.GRUCell(FEATURES)(carry, features)
        hidden = nn.relu(nn.Dense(FEATURES)(memory))
        return carry, nn.Dense(ACTIONS)(hidden).argmax(-1)


def steps_through(step: Callable, carry: Any) -> Callable[[], Any]:
    """Return what calls ``step(carry) -> (carry, action)`` ``CALLS`` times in a row."""
    kept = [carry]

    def go_on():
        carry = kept[0]
        for _ in range(CALLS):
            carry, action = step(carry)
        kept[0] = carry
        return action

    return go_on


def of_flax(num_envs: int) -> Callable[[], Any]:
    policy = FlaxPolicy()
    observation, carry = jnp.zeros((num_envs, OBSERVATION)), jnp.zeros((num_envs, FEATURES))
    params = policy.init(jax.random.key(0), carry, observation)
    step = jax.jit(policy.apply, donate_argnums=1)
    return steps_through(lambda carry: step(params, carry, observation), carry)


def of_torch(num_envs: int) -> Callable[[], Any]:
    import torch  # noqa: PLC0415

    encoder, cell = torch.nn.Linear(OBSERVATION, FEATURES), torch.nn.LSTMCell(FEATURES, FEATURES)
    hidden, head = torch.nn.Linear(FEATURES, FEATURES), torch.nn.Linear(FEATURES, ACTIONS)
    observation = torch.zeros(num_envs, OBSERVATION)

    @torch.inference_mode()
    def step(carry):
        carry = cell(torch.relu(encoder(observation)), carry)
        return carry, head(torch.relu(hidden(carry[0]))).argmax(-1)

    zeros = torch.zeros(num_envs, FEATURES)
    go_on = steps_through(step, (zeros, zeros))
    return lambda: go_on().numpy()


def make_step(torso: str) -> PolicyStep:
    config = TrainConfig("gymnax::CartPole-v1", torso=torso, features=FEATURES)
    agent = make_agent(config, torso)
    return PolicyStep(agent, jax.jit(agent.init)(jax.random.key(0)), reads_reward=False)


def ours(step: PolicyStep, num_envs: int) -> Callable[[], Any]:
    network, params, choose = step._policy
    timestep = Timestep(
        jnp.zeros((num_envs, OBSERVATION)),
        jnp.zeros(num_envs, bool),
        jnp.zeros(num_envs, jnp.int32),
        jnp.zeros(num_envs),
    )

    def act(params, carry, timestep):
        carry, output = apply_step(network, params, timestep, carry)
        return carry, choose(jax.random.key(0), output)

    jitted = jax.jit(act, donate_argnums=1)
    # A donated array must be no other's.
    carry = jax.tree.map(jnp.array, network.initialize_carry(num_envs))
    return steps_through(lambda carry: jitted(params, carry, timestep), carry)


def in_python(step: PolicyStep) -> dict[str, Callable[[], Any]]:
    """Return ``Policy`` in a loop, and the jitted call inside it."""
    policy, observation = Policy(step), np.zeros(OBSERVATION, np.float32)

    def with_policy():
        for _ in range(CALLS):
            action = policy(observation)
        return action

    jitted, done = policy._step, np.bool_(False)

    def call(carry):
        action, carry = jitted(observation, carry, done, None)
        return carry, np.asarray(action)

    return {"Policy": with_policy, "jitted": steps_through(call, policy._carry)}


def of_onnx(step: PolicyStep) -> Callable[[], Any]:
    import onnxruntime  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        file = export(step, "onnx", Path(folder) / "exported") / "policy.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    names = [argument.name for argument in session.get_inputs()]
    observation, done = np.zeros(OBSERVATION, np.float32), np.zeros((), bool)

    def call(carry):
        action, *carry = session.run(
            None, dict(zip(names, (observation, *carry, done), strict=True))
        )
        return carry, action

    return steps_through(call, [np.asarray(leaf) for leaf in step.initial_carry])


def check_rivals(rivals: tuple[Rival, ...]) -> None:
    """Exit with code 2 if something is not installed."""
    needed = {"torch": ("torch",), "onnx": ("onnxruntime", "jax2onnx")}
    for rival in rivals:
        for package in needed[rival]:
            if importlib.util.find_spec(package) is None:
                extra = EXTRAS[package]
                message = f"{package} is not installed: pip install 'memorax-rl[{extra}]'"
                print(message, file=sys.stderr)
                raise SystemExit(2)


def main() -> None:
    options = tyro.cli(Options)
    check_rivals(options.rivals)
    print(f"{machine()}\n")
    for num_envs in options.environments:
        print(f"{num_envs:,} environment(s)\n")
        torch_too = "torch" in options.rivals
        print(f"| policy | of {FLAX}'s time |{f' of {TORCH} |' if torch_too else ''} us a step |")
        print("|---|---|---|" + "---|" * torch_too)
        for torso in options.torsos:
            calls = {FLAX: of_flax(num_envs), torso: ours(make_step(torso), num_envs)}
            if torch_too:
                calls[TORCH] = of_torch(num_envs)
            times = minima(calls, options.repeats)
            ratios = [times[torso] / times[name] for name in calls if name != torso]
            cells = [torso, *(f"{ratio:.2f}" for ratio in ratios)]
            print(f"| {' | '.join(cells)} | {1e6 * times[torso] / CALLS:.0f} |", flush=True)
        print()
    onnx_too = "onnx" in options.rivals
    print(f"| torso | Policy / jitted call |{' ONNX / jitted call |' * onnx_too} jitted call, us |")
    print("|---|---|---|" + "---|" * onnx_too)
    for torso in options.torsos:
        step = make_step(torso)
        calls = in_python(step)
        if onnx_too:
            calls["onnx"] = of_onnx(step)
        times = minima(calls, options.repeats)
        cells = [torso, f"{times['Policy'] / times['jitted']:.2f}"]
        cells += [f"{times['onnx'] / times['jitted']:.2f}"] * onnx_too
        print(f"| {' | '.join(cells)} | {1e6 * times['jitted'] / CALLS:.0f} |", flush=True)


if __name__ == "__main__":
    main()
