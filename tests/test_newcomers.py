"""What CONTRIBUTING says is enough to add a cell, a head, an algorithm and a suite."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", CONTRIBUTING, re.M | re.S)


def written_in_contributing(name):
    """Return the code of CONTRIBUTING that defines a class, without its use below."""
    (block,) = (block for block in PYTHON_BLOCKS if f"class {name}(" in block)
    head, rest = re.split(rf"(?=^class {name}\()", block, flags=re.M)
    head = head.replace("from memorax.networks import RNN, FeatureExtractor, Network, heads\n", "")
    return head + re.split(r"\n\n\n", rest)[0] + "\n"


HEAD = '''
"""The value of a state, which is never negative."""
import flax.linen as nn


class CostNetwork(nn.Module):
    """softplus of a linear map."""

    @nn.compact
    def __call__(self, features):
        return nn.softplus(nn.Dense(1)(features))[..., 0]

    @nn.nowrap
    def loss(self, output, target):
        return (output - target) ** 2
'''
CONFIGURATION = '''
"""Configuration of Q-learning from whole returns."""
from dataclasses import dataclass

from memorax.configurations.pqn import PQNConfig


@dataclass(frozen=True)
class MonteCarloConfig(PQNConfig):
    """PQN without bootstrapping inside a rollout."""

    q_lambda: float = 1.0
    """Share of the whole return in a target."""
'''
ALGORITHM = '''
"""Q-learning from whole returns."""
from memorax.algorithms.configurations import hyperparameters
from memorax.algorithms.pqn import PQN
from memorax.configurations.monte_carlo import MonteCarloConfig

hyperparameters(MonteCarloConfig)


class MonteCarlo(PQN):
    """See ``MonteCarloConfig``."""
'''
ENTRY = """
from memorax.configurations.monte_carlo import MonteCarloConfig

ALGORITHMS["monte_carlo"] = AlgorithmEntry(
    config=MonteCarloConfig,
    implementation="memorax.algorithms.monte_carlo:MonteCarlo",
    kind="fresh rollouts",
    actions=("discrete",),
    paper="Watkins 1989",
    value_heads=Q_NETWORKS,
)
"""
SUITE = """

def names():
    return ["Recall"]


def make(name, /):
    return Recall(), None
"""

# Of each kind: the most files it may take, its own files, and the lines it adds to others.
ADDITIONS = {
    "cell": (
        2,
        {"networks/cells/leaky.py": written_in_contributing("LeakyCell")},
        {
            "networks/cells/__init__.py": (
                "\nfrom memorax.networks.cells.leaky import LeakyCell\n__all__ += ['LeakyCell']\n"
            )
        },
    ),
    "head": (
        2,
        {"networks/heads/cost.py": HEAD},
        {
            "networks/heads/__init__.py": (
                "\nfrom memorax.networks.heads.cost import CostNetwork\n"
                "__all__ += ['CostNetwork']\n"
            )
        },
    ),
    "algorithm": (
        3,
        {
            "configurations/monte_carlo.py": CONFIGURATION,
            "algorithms/monte_carlo.py": ALGORITHM,
        },
        {"catalog/algorithms.py": ENTRY},
    ),
    "suite": (
        3,
        {"environments/suites/recall_suite.py": written_in_contributing("Recall") + SUITE},
        {
            "catalog/suites.py": (
                "\nSUITES['recall'] = Suite('memorax.environments.suites.recall_suite')\n"
            )
        },
    ),
}

USE = """
import flax.linen as nn
import jax
import optax
from memorax import environments
from memorax.algorithms.monte_carlo import MonteCarlo, MonteCarloConfig
from memorax.networks import RNN, FeatureExtractor, LeakyCell, Network, heads

env, params = environments.make("recall::Recall")
def network(head):
    return Network(FeatureExtractor(nn.Dense(4)), RNN(LeakyCell(features=4)), head)
q = network(heads.DiscreteQNetwork(action_dim=2))
config = MonteCarloConfig(num_envs=2, num_steps=4, num_minibatches=1)
agent = MonteCarlo(config, env, params, q, optax.adam(1e-3))
state = jax.eval_shape(agent.init, jax.random.key(0))
jax.eval_shape(lambda state: agent.train(jax.random.key(1), state, 8), state)
observation = jax.ShapeDtypeStruct((2, 3, 1), float)
critic = network(heads.CostNetwork())
(_, cost), _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), observation)
assert cost.shape == (2, 3), cost
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the package with all four added."""
    copy = tmp_path_factory.mktemp("newcomer") / "memorax"
    shutil.copytree(ROOT / "memorax", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for _, files, lines in ADDITIONS.values():
        for path, code in files.items():
            (copy / path).write_text(code)
        for edited, added in lines.items():
            with open(copy / edited, "a") as file:
                file.write(added)
    return copy


def run(extended, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=extended.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_all_four_work_together(extended):
    ran = run(extended, "-c", USE)
    assert ran.returncode == 0, ran.stderr


TINY = (
    *("--environment", "recall::Recall", "--torso", "mlp", "--total-steps", "16"),
    *("--num-envs", "2", "--num-steps", "4", "--num-minibatches", "1", "--features", "4"),
    *("--num-seeds", "1", "--evaluation-episodes", "2", "--evaluation-steps", "8"),
)


def test_the_algorithm_and_the_suite_are_trained_by_name(extended):
    listed = run(extended, "-m", "memorax", "list", "algorithms")
    assert re.search("monte_carlo +fresh rollouts", listed.stdout)
    helped = run(extended, "-m", "memorax", "compare", "--help-all")
    assert "--monte-carlo.q-lambda X\n      Share of the whole return" in helped.stdout
    command = "-m", "memorax", "train", "--algorithm", "monte_carlo", *TINY
    trained = run(extended, *command, "--run-folder", "run")
    assert trained.returncode == 0, trained.stderr
    assert (extended.parent / "run" / "evaluation.json").is_file()
    refused = run(extended, *command, "--shared-memory", "--run-folder", "other")
    assert refused.stderr.endswith("memory; monte_carlo cannot, got True\n")


def test_few_files_are_touched(extended):
    ours = ROOT / "memorax"
    touched = {
        str(path.relative_to(extended))
        for path in extended.rglob("*.py")
        if not (known := ours / path.relative_to(extended)).exists()
        or path.read_bytes() != known.read_bytes()
    }
    assert touched == {path for _, new, lines in ADDITIONS.values() for path in (*new, *lines)}
    for kind, (most, new, lines) in ADDITIONS.items():
        assert len(new) + len(lines) <= most, kind
