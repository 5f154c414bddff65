"""Speed of `policy.fill` in a large cell, as a ratio to encoding the geometry at every step.

python benchmarks/fill.py
"""

from dataclasses import dataclass
from typing import Any

import common
import numpy as np
import tyro
from every_step import EveryStepScorer, require_same_fillings

from crystal_agents import load_policy
from crystal_agents.policies.policy import PolicyScorer
from crystal_agents.rollouts.complete_structure import complete_structures
from crystal_agents.rollouts.filling_options import FillingOptions
from crystal_gym.collections import load_collection


@dataclass
class Args(common.Args):
    """Speed of filling with the geometry encoded once and at every step."""

    policy: tyro.conf.Positional[str] = "perov-5/egnn"
    """Name of a pretrained policy, or the folder of a trained one."""
    repeats: int = 3
    """Repetitions of the goldschmidt cell along each axis; 3 gives 135 sites."""
    turns: int = 5
    """Measurements of each way."""


def measure(args: Args) -> dict[str, Any]:
    """Measure both ways and compare their fillings."""
    policy = load_policy(args.policy)
    structure = load_collection("goldschmidt").structure(0)
    structure.make_supercell([args.repeats] * 3)

    def fill(scorer: type[PolicyScorer]) -> np.ndarray:
        ((filling,),) = complete_structures(
            [structure], policy.vocabulary, lambda table: scorer(policy, table), FillingOptions()
        )
        return np.array(filling.structure.atomic_numbers)

    ways = {"every step": EveryStepScorer, "once": PolicyScorer}
    require_same_fillings(*map(fill, ways.values()))
    rates = common.in_turns(
        {
            name: lambda scorer=scorer: 1 / common.seconds(lambda: fill(scorer))
            for name, scorer in ways.items()
        },
        args.turns,
    )
    return {
        "seconds": {name: float(1 / np.median(values)) for name, values in rates.items()},
        **common.summarize(rates, "runs per second", "every step"),
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
