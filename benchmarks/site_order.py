"""Accuracy of `policy.fill` on crystals of Perov-5 whose sites are given in different orders.

A network that receives site numbers numbers the sites by their positions. Crystals whose positions
do not determine the numbers are refused and counted.

    python benchmarks/site_order.py
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common
import numpy as np
import tyro
from pymatgen.core import Structure

from crystal_agents import load_policy
from crystal_gym.collections import load_collection
from crystal_gym.errors import BadCrystalError


@dataclass
class Args(common.Args):
    """Accuracy of fillings by the order of the sites."""

    policy: tyro.conf.Positional[str] = "perov-5/egnn-indexed"
    """Name of a pretrained policy, or the folder of a trained one."""
    crystals: int = 316
    """Crystals of the test split, from the first on."""
    seed: int = 0
    """Seed of the shuffled orders."""


def measure(args: Args) -> dict[str, Any]:
    """Return the accuracy and the number of refused crystals for each order."""
    policy = load_policy(args.policy)
    collection = load_collection("perov-5")
    rng = np.random.default_rng(args.seed)
    orders: dict[str, Callable[[Structure], np.ndarray]] = {
        "as in the file": lambda structure: np.arange(len(structure)),
        "by electronegativity": lambda structure: np.argsort(
            [site.specie.X for site in structure], kind="stable"
        ),
        "shuffled": lambda structure: rng.permutation(len(structure)),
    }
    rows = collection.in_split("test")[: args.crystals].tolist()
    correct = {name: np.full(len(rows), np.nan) for name in orders}
    for i, row in enumerate(rows):
        structure = collection.structure(row)
        for name, rule in orders.items():
            given = Structure.from_sites([structure[int(site)] for site in rule(structure)])
            try:
                filled = policy.fill(given)[0].structure
            except BadCrystalError:
                continue
            same = np.equal(filled.atomic_numbers, given.atomic_numbers)
            correct[name][i] = same.mean()
    accepted = ~np.any([np.isnan(values) for values in correct.values()], axis=0)
    return {
        "refused": {name: int(np.isnan(values).sum()) for name, values in correct.items()},
        "crystals that no order refuses": {"number": int(accepted.sum())},
        "accuracy of the crystals that no order refuses, %": {
            name: 100 * float(values[accepted].mean()) for name, values in correct.items()
        },
        "accuracy of the accepted crystals, %": {
            name: 100 * float(np.nanmean(values)) for name, values in correct.items()
        },
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
