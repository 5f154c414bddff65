"""Fixtures of the discovery tests: a small grid with labels."""

import dataclasses
from itertools import product

import numpy as np
import pytest

from crystal_agents.experiments.discovery.task import TASKS, DiscoveryTask
from crystal_gym.collections import load_collection
from crystal_gym.episode import EpisodeTable

CATIONS = (11, 12, 13, 19, 20, 22, 26, 38)  # Na, Mg, Al, K, Ca, Ti, Fe, Sr
ANIONS = ((8, 8, 8), (7, 8, 8), (9, 8, 8))
LABELS = ("heat_all", "heat_all_corrected", "dir_gap", "ind_gap", "vb_dir", "cb_dir", "vb_ind",
          "cb_ind")  # fmt: skip
# Labels of water splitters and of other crystals.
SPLITTER = (0.1, 0.1, 2.0, 2.0, 6.0, 4.0, 6.0, 4.0)
OTHER = (1.0, 1.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def grid():
    """Return a collection of 192 perovskites, of which those with Ca, Ti and O are targets."""
    numbers = np.array([(a, b, *x) for a, b, x in product(CATIONS, CATIONS, ANIONS)])
    base = load_collection("goldschmidt", progress=False)
    collection = base.take(np.arange(len(numbers)))
    target = (numbers[:, 0] == 20) & np.isin(numbers[:, 1], (22, 26))
    labels = np.where(target[:, None], SPLITTER, OTHER)
    # Crystals that share a cation with a target are closer to it.
    labels[:, :2] += 0.3 * (numbers[:, :1] != 20)
    return dataclasses.replace(
        collection,
        name="grid",
        atomic_numbers=numbers.astype(collection.atomic_numbers.dtype),
        labels=dict(zip(LABELS, labels.T, strict=True)),
    )


@pytest.fixture(scope="module")
def table(grid):
    return EpisodeTable(grid)


@pytest.fixture(scope="module")
def water_splitting(table):
    return DiscoveryTask.of(table, TASKS[0])
