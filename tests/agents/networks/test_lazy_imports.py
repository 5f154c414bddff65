"""PyTorch Geometric and Stable-Baselines3 are imported only where they are used."""

import os
import subprocess
import sys

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


def slow_modules_after(**steps):
    """Return the modules of SLOW that one new interpreter has imported after each step of code."""
    found = f"*[m for m in {SLOW} if m in sys.modules]"
    lines = ["import sys"]
    for name, code in steps.items():
        lines += [code, f"print('imported after', {name!r}, {found})"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    printed = [line.split() for line in done.stdout.splitlines() if line.startswith("imported ")]
    return {name: modules for _, _, name, *modules in printed}


def test_only_dimenet_imports_one_of_them_when_it_is_created():
    found = slow_modules_after(
        package="import crystal_agents",
        registry="import crystal_agents.networks.registry",
        fill=FILL,
        evaluate=EVALUATE,
        dimenet=DIMENET,
    )
    nothing = {name: [] for name in ("package", "registry", "fill", "evaluate")}
    assert found == nothing | {"dimenet": ["torch_geometric"]}
