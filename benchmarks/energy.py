"""Crystals per CPU second of the reward ``formation-energy``, as ratios to plain CHGNet.

Plain CHGNet calls ``predict_structure`` for one crystal after the other, energies only. In each
turn, both compute the energies of random fillings; the fillings are new to the reward, but their
skeletons are not, as in training. Cached energies are measured separately. CPU time depends little
on other processes of the machine.

    OMP_NUM_THREADS=1 python benchmarks/energy.py --collection perov-5 --json energy.json
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common
import numpy as np

from crystal_gym import load_collection
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.rewards.energy.chgnet import load_chgnet
from crystal_gym.rewards.energy.formation_energy import FormationEnergyReward

PLAIN, NEW, CACHED = "plain CHGNet", "reward, new", "reward, cached"


@dataclass
class Args(common.Args):
    """Speed of the reward formation-energy, compared with plain CHGNet."""

    collection: str = "goldschmidt"
    """Name or path of the collection."""
    skeletons: int = 64
    """Skeletons to fill."""
    crystals: int = 256
    """Fillings in a batch, as many as the environments of a vector environment."""
    plain: int = 32
    """Fillings of the batch whose energies plain CHGNet computes."""
    turns: int = 5
    """Measurements of each way."""


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time of a call in seconds, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def random_fillings(
    table: EpisodeTable, args: Args, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return random rows of the table (B,) and codes of random elements (B, N)."""
    crystal = rng.integers(args.skeletons, size=args.crystals)
    shape = (args.crystals, table.max_sites)
    elements = rng.integers(1, table.n_elements + 1, size=shape, dtype=np.int32)
    elements[table.blank[crystal] < 0] = -1
    return crystal, elements


def measure(args: Args) -> dict[str, Any]:
    """Measure both ways in turns and compare their energies."""
    rng = np.random.default_rng(0)
    table = EpisodeTable(load_collection(args.collection).take(np.arange(args.skeletons)))
    reward = FormationEnergyReward()
    model = load_chgnet()
    rates: common.Rates = {PLAIN: [], NEW: [], CACHED: []}
    largest = 0.0
    for turn in range(args.turns + 1):
        crystal, elements = random_fillings(table, args, rng)
        numbers = table.vocabulary.decode(elements[: args.plain])
        structures = [
            table.collection.skeleton(int(row)).fill(sites[: table.n_sites[row]])
            for row, sites in zip(crystal[: args.plain], numbers, strict=True)
        ]
        duration, plain = cpu_seconds(
            lambda structures=structures: [
                float(model.predict_structure(structure, task="e")["e"]) for structure in structures
            ]
        )
        measured = {PLAIN: len(structures) / duration}
        formation = {}
        for name in (NEW, CACHED):
            duration, (_, components) = cpu_seconds(
                lambda crystal=crystal, elements=elements: reward.on_finish(
                    table, finished(table, crystal, elements)
                )
            )
            measured[name] = args.crystals / duration
            formation[name] = components["formation_energy"]
        references = reward.references.mean_over_atoms(numbers)
        difference = formation[NEW][: args.plain] + references - plain
        largest = max(largest, float(np.abs(difference).max()))
        # The first turn is a warm-up: it loads the network and builds the skeletons' graphs.
        if turn:
            for name, rate in measured.items():
                rates[name].append(rate)
    return {
        **common.summarize(rates, "crystals per CPU second", PLAIN),
        "largest difference, eV/atom": largest,
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
