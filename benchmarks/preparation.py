"""Crystals per second of the preparation, as ratios to a plain loop over pymatgen in the same run.

The plain loop parses each crystal and finds the neighbors of each site with pymatgen's CrystalNN.

    python benchmarks/preparation.py
    python benchmarks/preparation.py --full

``--full`` prepares all of Perov-5 in an empty cache instead, and loads it again from the cache. The
sample is from Perov-5 if a local copy is found in ``CRYSTAL_GYM_DATA``, otherwise from
``goldschmidt``.
"""

import os
import resource
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import common
import numpy as np

from crystal_gym.collections import load_collection
from crystal_gym.collections.perov5 import STRUCTURES, abx3_order, read_structures
from crystal_gym.collections.preparation import RawCrystal, SiteOrder, file_order, prepare
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.utils.files import find_local
from crystal_gym.utils.settings import CACHE_VARIABLE


@dataclass
class Args(common.Args):
    """Speed of the preparation of crystals, compared with a plain loop over pymatgen."""

    crystals: int = 200
    """Crystals in the sample."""
    turns: int = 3
    """Measurements of each way."""
    full: bool = False
    """Prepare all of Perov-5 in an empty cache instead."""


def sample(crystals: int) -> tuple[str, list[RawCrystal], SiteOrder]:
    """Return the name of a collection, a sample of its crystals, and its site order."""
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
    """Return the edges ``(source, target, i, j, k)`` of each crystal, found by pymatgen."""
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
    """Prepare crystals without worker processes."""
    for crystal in raw:
        structure = crystal.structure()
        split_structure(structure, order(structure))


def measure_sample(args: Args) -> dict[str, Any]:
    """Measure the plain loop, and the preparation with and without worker processes."""
    name, raw, order = sample(args.crystals)
    ways: dict[str, Callable[[], object]] = {
        "plain loop": partial(plain_loop, raw),
        "one process": partial(one_process, raw, order or file_order),
        "worker processes": partial(prepare, raw, order, progress=False),
    }
    # Starts the worker processes, which import pymatgen.
    ways["worker processes"]()

    def rate(work: Callable[[], object]) -> float:
        return len(raw) / common.seconds(work)

    rates = common.in_turns({key: partial(rate, work) for key, work in ways.items()}, args.turns)
    return {
        "sample": {"collection": name, "crystals": len(raw)},
        **common.summarize(rates, "crystals per second", "plain loop"),
    }


def measure_full() -> dict[str, Any]:
    """Measure the first and later loads of Perov-5, and the peak memory of all processes."""
    from joblib.externals.loky import get_reusable_executor

    loaded = []

    def load(*, progress: bool = False) -> None:
        loaded.append(load_collection("perov-5", progress=progress))

    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = folder
        first = common.seconds(partial(load, progress=True))
        later = statistics.median(common.seconds(load) for _ in range(5))
    if not all(np.array_equal(collection.edges, loaded[0].edges) for collection in loaded):
        raise SystemExit("Expected the prepared edges in the cache, got other edges.")
    # The memory of worker processes is reported once they have ended.
    get_reusable_executor().shutdown()
    peak, worker_peak = (
        resource.getrusage(who).ru_maxrss / 1e6
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    workers = os.cpu_count() or 1
    return {
        "sample": {"collection": "perov-5", "crystals": len(loaded[0])},
        "seconds": {"first load": first, "cached load": later},
        "ratio to cached load": {"first load": first / later},
        "memory": {"peak, GB": peak + workers * worker_peak, "workers": workers},
    }


def measure(args: Args) -> dict[str, Any]:
    """Measure the sample, or all of Perov-5."""
    return measure_full() if args.full else measure_sample(args)


if __name__ == "__main__":
    common.run_script(Args, measure)
