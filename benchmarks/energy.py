"""Crystals judged per CPU second by the reward ``formation-energy``, as ratios to plain CHGNet.

Plain is ``predict_structure`` of CHGNet on one crystal after the other, energies alone. Random
fillings of a vector environment's size are judged both ways in turns, one after the other; the time
is the processor's, which a busy machine changes little, and the table shows medians over the turns.
Run

    OMP_NUM_THREADS=1 python benchmarks/energy.py --collection perov-5 --json energy.json

Fillings of a turn are new to the reward, their skeletons are as in training: few, often seen. What
it remembers is measured apart.
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from crystal_gym import load_collection
from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards.energy.chgnet import load_chgnet
from crystal_gym.rewards.energy.formation_energy import FormationEnergyReward


@dataclass
class Args:
    """Speed of the reward formation-energy against plain CHGNet."""

    collection: str = "goldschmidt"
    """Name or path of the crystals to fill."""
    skeletons: int = 64
    """How many of them are filled."""
    crystals: int = 256
    """Fillings judged at once, as a vector environment asks for them."""
    plain: int = 32
    """Fillings of them that plain CHGNet judges."""
    turns: int = 5
    """How often both are measured."""
    json: Path | None = None
    """Also write the result to this file."""


def main(args: Args) -> None:
    """Measure, print a table and JSON."""
    rng = np.random.default_rng(0)
    table = EpisodeTable(load_collection(args.collection).take(np.arange(args.skeletons)))
    reward = FormationEnergyReward()
    model = load_chgnet()
    rates: dict[str, list[float]] = {"plain": [], "reward, new": [], "reward, remembered": []}
    largest = 0.0
    for turn in range(args.turns + 1):
        crystal = rng.integers(args.skeletons, size=args.crystals)
        shape = (args.crystals, table.max_sites)
        elements = rng.integers(1, table.n_elements + 1, size=shape, dtype=np.int32)
        elements[table.blank[crystal] < 0] = -1

        few = slice(args.plain)
        numbers = table.vocabulary.decode(elements[few])
        structures = [
            table.collection.skeleton(int(row)).fill(sites[: table.n_sites[row]])
            for row, sites in zip(crystal[few], numbers, strict=True)
        ]
        took, answers = {}, {}
        start = time.process_time()
        plain = [float(model.predict_structure(one, task="e")["e"]) for one in structures]
        took["plain"] = (time.process_time() - start) / len(plain)
        for name in ("reward, new", "reward, remembered"):
            start = time.process_time()
            _, components = reward.on_finish(table, crystal, elements)
            took[name] = (time.process_time() - start) / args.crystals
            answers[name] = components["formation_energy"]
        ours = answers["reward, new"][few] + reward.references.mean_over_atoms(numbers)
        largest = max(largest, float(np.abs(ours - plain).max()))
        # The first turn warms up: it loads the network and makes the skeletons' graphs.
        if turn:
            for name, seconds in took.items():
                rates[name].append(1 / seconds)
    ratios = {
        name: statistics.median(a / b for a, b in zip(rates[name], rates["plain"], strict=True))
        for name in rates
    }
    result = {
        "collection": args.collection,
        "skeletons": args.skeletons,
        "crystals": args.crystals,
        "crystals_per_cpu_second": {
            name: statistics.median(turns) for name, turns in rates.items()
        },
        "ratios": ratios,
        "largest_difference_ev_per_atom": largest,
    }
    shown = Table(
        "", "crystals / CPU second", "ratio", title=f"{args.collection}, {args.crystals} at once"
    )
    for name, rate in result["crystals_per_cpu_second"].items():
        shown.add_row(name, f"{rate:,.1f}", f"{ratios[name]:,.1f}")
    Console(stderr=True).print(shown)
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
