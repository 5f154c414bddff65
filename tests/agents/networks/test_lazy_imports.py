"""PyTorch Geometric and Stable-Baselines3 are imported only where they are used."""

import os
import subprocess
import sys

import pytest

SLOW = ["torch_geometric", "stable_baselines3"]
# Goldschmidt is computed, so that the tests need no data file.
EVALUATE = """
from crystal_agents.cli.main import main
command = ["evaluate", "goldschmidt/egnn", "--split", "val", "--start-sites", "1", "--no-baselines"]
assert main(command) == 0
"""
FILL = """
import crystal_agents
from crystal_gym import load_collection
policy = crystal_agents.load_policy("goldschmidt/egnn")
policy.fill(load_collection("goldschmidt").structure(0))
"""
DIMENET = """
from crystal_agents.networks.registry import make_encoder
make_encoder("dimenet", 5, {})
"""


def slow_modules_after(code):
    """Return the modules of SLOW that a new interpreter has imported after running ``code``."""
    script = f"{code}\nimport sys\nprint('imported', *[m for m in {SLOW} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=os.environ
    )
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "code",
    ["import crystal_agents", "import crystal_agents.networks.registry", FILL, EVALUATE],
    ids=["package", "registry", "fill", "evaluate"],
)
def test_egnn_imports_neither_of_them(code):
    assert slow_modules_after(code) == []


def test_dimenet_imports_pytorch_geometric_when_it_is_created():
    assert slow_modules_after(DIMENET) == ["torch_geometric"]
