"""Prototypes of a collection, and the split by prototype."""

import dataclasses

import numpy as np
import pytest

from crystal_gym.collections import chunked_cache, load_collection
from crystal_gym.collections.prototypes import prototypes, split_by_prototype
from crystal_gym.crystals.prototype import prototype
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.errors import DamagedFileError


def test_prototypes_equal_those_of_single_crystals(toy, cache, monkeypatch):
    monkeypatch.setattr(chunked_cache, "CHUNK", 5)
    for _ in range(2):  # computed, then loaded
        found = prototypes(toy)
        for row, name in enumerate(found):
            n = toy.n_sites[row]
            lattice = lattice_matrix(toy.parameters[row])
            sites, numbers = toy.frac_coords[row, :n], toy.atomic_numbers[row, :n]
            assert name == prototype(lattice, sites, numbers)
    assert len(list(cache.rglob("*.npz"))) == 3


def test_each_prototype_is_in_one_split(cache):
    crystals = load_collection("goldschmidt", progress=False)
    crystals = crystals.take(np.arange(60))
    # Cells stretched along one or two axes have other space groups.
    parameters = crystals.parameters.copy()
    parameters[20:40, 0] *= 1.1
    parameters[40:, :2] *= [1.1, 1.2]
    crystals = dataclasses.replace(crystals, parameters=parameters)
    split = split_by_prototype(crystals)
    assert split.name == "goldschmidt-by-prototype"
    names = prototypes(crystals)
    assert len(set(names)) == 3
    for name in set(names):
        assert len(set(split.splits[names == name])) == 1
    assert split.fingerprint() != crystals.fingerprint()
    again = load_collection(crystals, split_by="prototype")
    assert again.fingerprint() == split.fingerprint()


def test_a_damaged_cache_is_rejected(toy, cache):
    prototypes(toy)
    path = min(cache.rglob("*.npz"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match="Delete it"):
        prototypes(toy)
