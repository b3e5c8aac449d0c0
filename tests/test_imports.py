import subprocess
import sys

import pytest

HEAVY = (
    "chex",
    "distrax",
    "flashbax",
    "gymnasium",
    "gymnax",
    "matplotlib",
    "optuna",
    "orbax",
    "rlax",
    "tensorflow_probability",
    "wandb",
)


@pytest.mark.parametrize("name", ["memorax.networks", "memorax.algorithms"])
def test_a_library_of_networks_or_algorithms_imports_no_heavy_package(name):
    code = f"import sys, {name}\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
