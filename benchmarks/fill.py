"""Speed of `policy.fill` and of roll-outs, as ratios to encoding the geometry at every step.

python benchmarks/fill.py                    # one cell of 135 sites
python benchmarks/fill.py --start-sites 1    # roll-outs of 512 crystals of Perov-5
python benchmarks/fill.py --start-sites 5
"""

from dataclasses import dataclass
from typing import Any

import common
import numpy as np
import tyro

from crystal_agents import load_policy
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.complete_structure import complete_structure
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym.collections import load_collection
from crystal_gym.episode import EpisodeState, EpisodeTable


class EveryStepScorer(PolicyScorer):
    """A scorer that encodes the geometry of the skeletons at every step."""

    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Return the logits of a batch of episodes."""
        self._batch, self._version = None, -1
        return super().__call__(state)


@dataclass
class Args(common.Args):
    """Speed of filling with the geometry encoded once and at every step."""

    policy: tyro.conf.Positional[str] = "perov-5/egnn"
    """Name of a pretrained policy, or the folder of a trained one."""
    start_sites: int = 0
    """Start sites of each crystal of a roll-out; 0 fills one large cell instead."""
    crystals: int = 512
    """Crystals in a roll-out, from the val split of Perov-5."""
    repeats: int = 3
    """Repetitions of the goldschmidt cell along each axis; 3 gives 135 sites."""
    turns: int = 5
    """Measurements of each way."""


def measure(args: Args) -> dict[str, Any]:
    """Measure both ways and compare their fillings."""
    policy = load_policy(args.policy)
    fill = _roll_out(args, policy) if args.start_sites else _fill(args, policy)
    ways = {"every step": EveryStepScorer, "once": PolicyScorer}
    fillings = {name: fill(scorer) for name, scorer in ways.items()}
    if not np.array_equal(*fillings.values()):
        raise SystemExit("Expected the same fillings from both ways, got different ones.")
    durations = common.in_turns(
        {
            name: lambda scorer=scorer: common.seconds(lambda: fill(scorer))
            for name, scorer in ways.items()
        },
        args.turns,
    )
    rates = {name: [1 / seconds for seconds in values] for name, values in durations.items()}
    return {
        "seconds": {name: float(np.median(values)) for name, values in durations.items()},
        **common.summarize(rates, "runs per second", "every step"),
    }


def _fill(args: Args, policy: SkeletonPolicy) -> Any:
    structure = load_collection("goldschmidt").structure(0)
    structure.make_supercell([args.repeats] * 3)

    def fill(scorer: type[PolicyScorer]) -> np.ndarray:
        (filling,) = complete_structure(
            structure, policy.vocabulary, lambda table: scorer(policy, table)
        )
        return np.array(filling.structure.atomic_numbers)

    return fill


def _roll_out(args: Args, policy: SkeletonPolicy) -> Any:
    collection = load_collection("perov-5")
    crystals = collection.in_split("val")[: args.crystals]
    table = EpisodeTable(collection, policy.vocabulary)
    batches = list(batch_by_size(table, crystals, args.start_sites))

    def fill(scorer: type[PolicyScorer]) -> np.ndarray:
        score = scorer(policy, table)
        return np.concatenate([roll_out(table, batch, score).elements for batch in batches], 1)

    return fill


if __name__ == "__main__":
    common.run_script(Args, measure)
