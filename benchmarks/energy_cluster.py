"""Energies per second on a Dask cluster of this machine, as ratios to one process in the same run.

A vector environment computes the energies of all crystals that end at the same step together. Each
turn computes those of new random alloys in this process and on the workers. The energies are the
same.

    OMP_NUM_THREADS=1 python benchmarks/energy_cluster.py
    OMP_NUM_THREADS=1 python benchmarks/energy_cluster.py --calculator gpaw --crystals 8 \
        --repeat 1 \
        --settings '{"mode": {"name": "pw", "ecut": 200}, "kpts": [2, 2, 2], "txt": null}'
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common
import numpy as np

from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.rewards.energy.interface import FilledSkeleton
from crystal_gym.rewards.energy.models import resolve_energy_model
from crystal_gym.rewards.energy.parallel import compute_energies

# Metals of ASE's EMT.
METALS = (13, 28, 29, 46, 47, 78, 79)
# Lattice constants of the cells with two sites, in Å.
LOW, HIGH = 2.8, 3.3
ONE = "one process"


@dataclass
class Args(common.Args):
    """Energies per second on a Dask cluster of this machine."""

    calculator: str = "emt"
    """Name of the calculator, as in the reward formation-energy."""
    settings: str = "{}"
    """Keyword arguments of the calculator, as JSON."""
    crystals: int = 64
    """Crystals that end at the same step, the number of environments."""
    repeat: int = 4
    """Cells with two sites along each axis of a crystal."""
    workers: int = 2
    """Worker processes, one thread each."""
    timeout: float | None = None
    """Time limit of a computation in seconds."""
    turns: int = 3
    """Measurements of each way."""


def alloys(args: Args, rng: np.random.Generator) -> list[FilledSkeleton]:
    """Return crystals with random metals on the sites of the cesium chloride structure."""
    n = args.repeat
    corners = np.argwhere(np.ones((n, n, n))) / n
    frac_coords = np.concatenate([corners, corners + 0.5 / n])
    crystals = []
    for _ in range(args.crystals):
        length = n * rng.uniform(LOW, HIGH)
        parameters = np.array([length, length, length, 90.0, 90.0, 90.0])
        skeleton = Skeleton(parameters, frac_coords, np.zeros((0, 5), np.int16))
        crystals.append((skeleton, rng.choice(METALS, len(frac_coords))))
    return crystals


def measure(args: Args) -> dict[str, Any]:
    """Compute the energies of new alloys both ways in turns."""
    from dask.distributed import Client, LocalCluster

    model = resolve_energy_model(args.calculator, json.loads(args.settings))
    if args.timeout is not None:
        from crystal_gym.rewards.energy.time_limit import TimeLimitedEnergy

        model = TimeLimitedEnergy(model, args.timeout)
    rng = np.random.default_rng(0)
    with (
        LocalCluster(
            n_workers=args.workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        name = f"{args.workers} workers"
        batches: list[list[FilledSkeleton]] = []
        energies: list[np.ndarray] = []

        def alone() -> float:
            batches.append(alloys(args, rng))
            return rate(lambda: compute_energies(model, batches[-1]))

        def together() -> float:
            with client.as_current():
                return rate(lambda: compute_energies(model, batches[-1]))

        def rate(compute: Callable[[], np.ndarray]) -> float:
            return args.crystals / common.seconds(lambda: energies.append(compute()))

        ways = {ONE: alone, name: together}
        common.in_turns(ways, 1)  # imports and the connections
        rates = common.in_turns(ways, args.turns)
    pairs = zip(energies[::2], energies[1::2], strict=True)
    return {
        **common.summarize(rates, "crystals per second", ONE),
        "largest difference, eV/atom": max(float(np.nanmax(abs(a - b))) for a, b in pairs),
        "failed": int(sum(np.isnan(values).sum() for values in energies)),
    }


if __name__ == "__main__":
    common.run_script(Args, measure)
