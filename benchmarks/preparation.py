"""Crystals per second of the preparation, as a ratio to a plain loop over pymatgen in the same run.

The plain loop parses each crystal and asks pymatgen's CrystalNN for the neighbors of each site.
All ways are measured in turns, one after the other, so that a busy machine slows them alike. Run

    python benchmarks/preparation.py
    python benchmarks/preparation.py --full

``--full`` prepares all of Perov-5 in a fresh cache instead and loads it again from there. The
sample is of Perov-5 where a local copy is named by ``CRYSTAL_GYM_DATA``, else of ``goldschmidt``.
"""

import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from crystal_gym.collections import load_collection
from crystal_gym.collections.perov5 import STRUCTURES, abx3_order, read_structures
from crystal_gym.collections.preparation import SiteOrder, file_order, prepare
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.utils.files import find_local
from crystal_gym.utils.settings import CACHE_VARIABLE


@dataclass
class Args:
    """Speed of turning crystals into skeletons."""

    crystals: int = 200
    """Crystals in the sample."""
    turns: int = 3
    """How often each way is measured."""
    full: bool = False
    """Prepare all of Perov-5 in a fresh cache instead."""
    json: Path | None = None
    """Also write the result to this file."""


def sample(crystals: int) -> tuple[str, list[RawCrystal], SiteOrder]:
    """The name of a collection, so many raw crystals of it, and its site order."""
    path = find_local(STRUCTURES, "perov_5")
    if path is not None:
        raw = read_structures(path)
        return "perov-5", raw[:: max(1, len(raw) // crystals)][:crystals], abx3_order
    collection = load_collection("goldschmidt")
    raw = [
        RawCrystal(str(collection.ids[row]), "train", collection.structure(row), "structure", "")
        for row in range(min(crystals, len(collection)))
    ]
    return "goldschmidt", raw, file_order


def plain_loop(raw: Sequence[RawCrystal]) -> list[list[tuple[int, ...]]]:
    """Neighbors by pymatgen: ``(source, target, i, j, k)`` for each crystal."""
    from pymatgen.analysis.local_env import CrystalNN

    crystal_nn = CrystalNN(distance_cutoffs=None, x_diff_weight=-1, porous_adjustment=False)
    edges = []
    for crystal in raw:
        structure = crystal.structure()
        edges.append(
            [
                (source, neighbor["site_index"], *neighbor["image"])
                for source in range(len(structure))
                for neighbor in crystal_nn.get_nn_info(structure, source)
            ]
        )
    return edges


def one_process(raw: Sequence[RawCrystal], order: Callable) -> None:
    """Ours without worker processes."""
    for crystal in raw:
        structure = crystal.structure()
        split_structure(structure, order(structure))


def measure_sample(args: Args) -> dict[str, float | str]:
    """Crystals per second of three ways, medians over the turns."""
    name, raw, order = sample(args.crystals)
    ways = {
        "plain": lambda: plain_loop(raw),
        "one_process": lambda: one_process(raw, order or file_order),
        "prepare": lambda: prepare(raw, order, progress=False),
    }
    ways["prepare"]()  # starts the worker processes, which import pymatgen
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(args.turns):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - start)
    rates = {way: len(raw) / statistics.median(times) for way, times in seconds.items()}
    return {
        "collection": name,
        "crystals": len(raw),
        **{f"{way}_per_second": rate for way, rate in rates.items()},
        "ratio_one_process": rates["one_process"] / rates["plain"],
        "ratio_prepare": rates["prepare"] / rates["plain"],
    }


def measure_full() -> dict[str, float | str]:
    """All of Perov-5: seconds of the first and of later loads, peak memory in GB in all."""
    from joblib.externals.loky import get_reusable_executor

    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        start = time.perf_counter()
        collection = load_collection("perov-5")
        first = time.perf_counter() - start
        later = []
        for _ in range(5):
            start = time.perf_counter()
            again = load_collection("perov-5", progress=False)
            later.append(time.perf_counter() - start)
        if not np.array_equal(again.edges, collection.edges):
            raise SystemExit("The cache does not hold what was prepared.")
    # Worker processes are counted once they have ended.
    get_reusable_executor().shutdown()
    peak = [
        resource.getrusage(who).ru_maxrss / 1e6
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    workers = os.cpu_count() or 1
    return {
        "collection": "perov-5",
        "crystals": len(collection),
        "first_seconds": first,
        "cached_seconds": statistics.median(later),
        "peak_memory_gb": peak[0] + workers * peak[1],
        "workers": workers,
    }


def main(args: Args) -> None:
    """Measure, print a table, and write JSON where asked."""
    result = measure_full() if args.full else measure_sample(args)
    table = Table(title="Preparation of skeletons", show_header=False)
    for key, value in result.items():
        table.add_row(
            key.replace("_", " "), f"{value:,.2f}" if isinstance(value, float) else str(value)
        )
    Console().print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
