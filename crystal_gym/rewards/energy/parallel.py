"""Energies of many crystals, on the workers of a Dask cluster if there is one."""

import functools
import pickle
from collections.abc import Sequence

import numpy as np

from crystal_gym.rewards.energy.interface import EnergyModel, FilledSkeleton, split_by_sites
from crystal_gym.utils.parallel import map_in_order, on_cluster


def compute_energies(model: EnergyModel, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
    """Compute energies in eV/atom, float64 (k,); NaN where the computation failed.

    Each batch of the model is one task of the current Dask cluster. Without a cluster, this process
    computes all of them: most calculators use several cores themselves.

    Args:
        model: The energy model, which can be pickled if there is a cluster.
        crystals: k skeletons with the atomic numbers on their sites.

    Raises:
        ClusterError: See ``crystal_gym.utils.parallel.map_in_order``.
    """
    if not on_cluster():
        return model.energies(crystals)
    import cloudpickle  # also pickles calculators that are defined in a script

    content = cloudpickle.dumps(model)
    batches = split_by_sites(crystals, model.sites_per_batch)
    inputs = ((content, [crystals[index] for index in batch]) for batch in batches)
    return np.concatenate([np.empty(0), *map_in_order(_compute, inputs)])


def _compute(content: bytes, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
    return _load(content).energies(crystals)


@functools.lru_cache(maxsize=4)
def _load(content: bytes) -> EnergyModel:
    """Return the model, which is made once in each worker."""
    return pickle.loads(content)  # noqa: S301 - `compute_energies` has pickled it
