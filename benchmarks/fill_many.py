"""Speed of `policy.fill_all` for many crystals, as a ratio to filling them one by one.

python benchmarks/fill_many.py
"""

from dataclasses import dataclass
from typing import Any

import common
import numpy as np
import torch

from crystal_agents import load_policy
from crystal_gym.collections import load_collection


@dataclass
class Args(common.Args):
    """Speed of filling many crystals together and one by one."""

    policy: str = "mp-20/mpnn"
    """Name of a pretrained policy, or the folder of a trained one."""
    collection: str = "mp-20"
    """Collection of the crystals."""
    crystals: int = 1000
    """Number of crystals of val."""
    one_by_one: int = 100
    """Number of these crystals that are also filled one by one."""
    turns: int = 3
    """Measurements of each way."""
    threads: int = 2
    """Threads of PyTorch."""


def measure(args: Args) -> dict[str, Any]:
    """Measure both ways."""
    torch.set_num_threads(args.threads)
    policy = load_policy(args.policy)
    collection = load_collection(args.collection)
    rows = np.random.default_rng(0).permutation(collection.in_split("val"))[: args.crystals]
    structures = [collection.structure(row) for row in rows.tolist()]
    some = structures[: args.one_by_one]
    together = policy.fill_all(some)
    alone = [policy.fill(structure) for structure in some]
    if [found[0].formula for found in together] != [found[0].formula for found in alone]:
        raise SystemExit("Expected the same fillings, got different ones.")
    seconds: dict[str, list[float]] = {"one by one": [], "together": []}

    def rate(name: str) -> float:
        crystals = some if name == "one by one" else structures
        if name == "one by one":
            taken = common.seconds(lambda: [policy.fill(crystal) for crystal in crystals])
        else:
            taken = common.seconds(lambda: policy.fill_all(crystals))
        seconds[name].append(taken)
        return len(crystals) / taken

    rates = common.in_turns({name: lambda name=name: rate(name) for name in seconds}, args.turns)
    return {
        "seconds for all crystals together": float(np.median(seconds["together"])),
        **common.summarize(rates, "crystals per second", "one by one"),
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
