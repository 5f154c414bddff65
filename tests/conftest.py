"""Shared fixtures: a small collection made by hand, real Perov-5, and an isolated cache."""

import csv
import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.utils import settings

# Tiny tensors gain nothing from threads; set before PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run; a slow machine fails no test.
hypothesis.settings.register_profile("crystal-gym", derandomize=True, deadline=None)
hypothesis.settings.load_profile("crystal-gym")

BESIDE = Path(__file__).parents[2] / "shared" / "perov_5"


def pytest_configure():
    """Find the real data beside the checkout unless the setting names another place."""
    if settings.DATA_VARIABLE not in os.environ and BESIDE.is_dir():
        os.environ[settings.DATA_VARIABLE] = str(BESIDE)


def pytest_collection_modifyitems(config, items):
    """Real-data tests are left out where there is no copy, but never in continuous integration."""
    if settings.data_folders():
        return
    real = [item for item in items if item.get_closest_marker("real")]
    if real and os.environ.get("CI"):
        raise pytest.UsageError(f"{settings.DATA_VARIABLE} must name a copy of the Perov-5 files.")
    config.hook.pytest_deselected(items=real)
    items[:] = [item for item in items if item not in real]


@pytest.fixture(autouse=True, scope="session")
def session_cache(tmp_path_factory):
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(settings.CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A fresh cache folder for one test."""
    monkeypatch.setenv(settings.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def toy():
    """Twelve crystals with 1 to 6 sites, triclinic cells, four in each split."""
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng(0)
    structures = []
    for row in range(12):
        n = 1 + row % 6
        lengths, angles = rng.uniform(4, 6, 3), rng.uniform(75, 105, 3)
        # Sites on a jittered grid never overlap.
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
    """The toy crystals as files of a format that has splits."""
    folder = tmp_path_factory.mktemp("source") / "toy"
    folder.mkdir()
    for split in SPLITS:
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["material_id", "cif"])
            for row in toy.in_split(split):
                writer.writerow([toy.ids[row], toy.structure(int(row)).to(fmt="cif")])
    return folder


@pytest.fixture(scope="session")
def perov5():
    """Real Perov-5: the first 200 crystals of each split (mark the test with `real`)."""
    from crystal_gym.collections.perov5 import STRUCTURES, abx3_order, read_structures
    from crystal_gym.collections.preparation import prepare
    from crystal_gym.utils.files import fetch

    raw = read_structures(fetch(STRUCTURES, "perov_5"))
    chosen = [c for split in SPLITS for c in [r for r in raw if r.split == split][:200]]
    return CrystalCollection(name="perov-5", **prepare(chosen, abx3_order))
