"""Shared fixtures: a small synthetic collection, real Perov-5 crystals, and an isolated cache."""

import os
from pathlib import Path

import filelock
import hypothesis
import numpy as np
import pytest
from csv_folders import write_csv_folder

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.utils import settings

# Threads do not speed up small tensors; set before PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, without a time limit for slow machines.
hypothesis.settings.register_profile("crystal-gym", derandomize=True, deadline=None)
hypothesis.settings.load_profile("crystal-gym")

# Folder of the original data files next to the repository.
DATA_FOLDER = Path(__file__).parents[2] / "shared"


def pytest_configure():
    """Use the data folder next to the repository unless the environment variable is set."""
    if settings.DATA_VARIABLE not in os.environ and DATA_FOLDER.is_dir():
        os.environ[settings.DATA_VARIABLE] = str(DATA_FOLDER)


def pytest_collection_modifyitems(config, items):
    """Deselect tests of original data without a local copy, except in continuous integration."""
    if settings.data_folders():
        return
    real = [item for item in items if item.get_closest_marker("real")]
    if real and os.environ.get("CI"):
        raise pytest.UsageError(
            f"Expected a folder with the Perov-5 files in {settings.DATA_VARIABLE}, got none."
        )
    config.hook.pytest_deselected(items=real)
    items[:] = [item for item in items if item not in real]


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory):
    """Set a temporary cache folder, so that no test uses the cache of the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(settings.CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return an empty cache folder for one test."""
    monkeypatch.setenv(settings.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def toy():
    """Return twelve crystals with 1 to 6 sites in triclinic cells, four in each split."""
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng(0)
    structures = []
    for row in range(12):
        n = 1 + row % 6
        lengths, angles = rng.uniform(4, 6, 3), rng.uniform(75, 105, 3)
        # Sites on a grid with small displacements do not overlap.
        grid = np.argwhere(np.ones((2, 2, 2)))[rng.permutation(8)[:n]] / 2
        coords = grid + rng.uniform(-0.05, 0.05, (n, 3))
        species = rng.choice(["Na", "Mg", "Ti", "O", "F"], n)
        lattice = Lattice.from_parameters(*lengths, *angles)
        structures.append(Structure(lattice, list(species), coords))
    splits = [SPLITS[row % 3] for row in range(12)]
    return collection_from_structures(
        structures, ids=[f"toy-{row}" for row in range(12)], splits=splits, name="toy"
    )


@pytest.fixture(scope="session")
def toy_folder(toy, tmp_path_factory):
    """Return a folder with the toy crystals in CSV files by split."""
    return write_csv_folder(tmp_path_factory.mktemp("origin") / "toy", toy)


@pytest.fixture(scope="session")
def perovskites(tmp_path_factory):
    """Return a folder with ten perovskites of each split, which all have five sites."""
    from crystal_gym.collections import load_collection

    folder = tmp_path_factory.mktemp("origin") / "perovskites"
    return write_csv_folder(folder, load_collection("goldschmidt"), per_split=10)


@pytest.fixture(scope="session")
def perov5():
    """Return the first 200 crystals of each split of Perov-5; mark the test with `real`."""
    from crystal_gym.collections.perov5 import STRUCTURES, abx3_order, read_structures
    from crystal_gym.collections.preparation import prepare
    from crystal_gym.utils.files import fetch

    raw = read_structures(fetch(STRUCTURES, "perov_5"))
    chosen = [c for split in SPLITS for c in [r for r in raw if r.split == split][:200]]
    return CrystalCollection(name="perov-5", **prepare(chosen, abx3_order))


@pytest.fixture(scope="session")
def whole_perov5(tmp_path_factory):
    """Return all of Perov-5, prepared by one of the processes; mark the test with `real`."""
    from crystal_gym.collections import load_collection

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with filelock.FileLock(folder / "perov-5.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv(settings.CACHE_VARIABLE, str(folder / "perov-5"))
        return load_collection("perov-5", progress=False)
