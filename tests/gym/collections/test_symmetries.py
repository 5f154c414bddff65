"""Symmetries of a collection: equal to those of single skeletons, cached, verified, resumable."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.collections import chunked_cache, symmetries
from crystal_gym.collections.collection import SPLITS
from crystal_gym.collections.preparation import load_arrays, save_arrays
from crystal_gym.collections.symmetries import skeleton_symmetries
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.crystals.symmetry import site_permutations
from crystal_gym.errors import DamagedFileError, StorageError, SymmetryError

ALL = np.arange(12)


@pytest.fixture
def small_chunks(monkeypatch):
    """Cache everything, in chunks of five crystals."""
    monkeypatch.setattr(chunked_cache, "CHUNK", 5)
    monkeypatch.setattr(symmetries, "UNCACHED_LIMIT", 0)


@pytest.fixture
def computed(monkeypatch):
    """Return a list of the numbers of skeletons that are computed."""
    counts = []
    compute = symmetries._compute
    monkeypatch.setattr(
        symmetries, "_compute", lambda *args: counts.append(len(args[1])) or compute(*args)
    )
    return counts


def assert_right(collection, rows, found):
    assert list(found.permutations) == list(rows)
    for row in rows:
        sites = collection.frac_coords[row, : collection.n_sites[row]]
        expected = site_permutations(lattice_matrix(collection.parameters[row]), sites)
        assert found.permutations[row].dtype == np.int64
        assert np.array_equal(found.permutations[row], expected)


@given(rows=st.lists(st.integers(0, 11), unique=True))
def test_permutations_equal_those_of_each_skeleton(toy, rows):
    found = skeleton_symmetries(toy, rows)
    assert_right(toy, rows, found)
    assert found.failures == {}


def test_cached_permutations_equal_computed_ones(toy, cache, small_chunks, computed):
    for _ in range(2):
        assert_right(toy, [7, 2, 11], skeleton_symmetries(toy, [7, 2, 11]))
        assert_right(toy, ALL, skeleton_symmetries(toy, ALL))
    assert sum(computed) == len(toy)
    assert len(list(cache.rglob("*.npz"))) == 3


def test_few_skeletons_are_not_cached(toy, cache):
    skeleton_symmetries(toy, ALL)
    assert not cache.exists()


def test_worker_processes_compute_the_same(toy, cache, small_chunks, monkeypatch):
    monkeypatch.setattr(chunked_cache, "SERIAL_LIMIT", 0)
    assert_right(toy, ALL, skeleton_symmetries(toy, ALL, progress=False))


def test_a_split_computes_only_chunks_with_its_crystals(toy, cache, monkeypatch, computed):
    monkeypatch.setattr(chunked_cache, "CHUNK", 4)
    monkeypatch.setattr(symmetries, "UNCACHED_LIMIT", 0)
    for split in SPLITS:
        skeleton_symmetries(toy, toy.in_split(split))
    assert computed == [4, 4, 4]


def test_an_interrupted_computation_resumes(toy, cache, small_chunks, computed, monkeypatch):
    compute = symmetries._compute

    def stop_in_second_chunk(*args):
        if computed:
            raise KeyboardInterrupt
        return compute(*args)

    with monkeypatch.context() as patch:
        patch.setattr(symmetries, "_compute", stop_in_second_chunk)
        with pytest.raises(KeyboardInterrupt):
            skeleton_symmetries(toy, ALL)
    assert computed == [5]
    assert_right(toy, ALL, skeleton_symmetries(toy, ALL))
    assert computed == [5, 5, 2]


def test_other_crystals_have_another_cache(toy, cache, small_chunks):
    moved = toy.frac_coords.copy()
    moved[:, 0, 0] += 0.01
    for collection in (toy, dataclasses.replace(toy, frac_coords=moved)):
        assert_right(collection, ALL, skeleton_symmetries(collection, ALL))


def test_skeletons_without_a_space_group_have_the_identity_and_a_reason(
    toy, cache, small_chunks, monkeypatch
):
    def fail_for_large_cells(lattice, frac_coords):
        if len(frac_coords) > 4:
            raise SymmetryError("spglib finds no space group")
        return site_permutations(lattice, frac_coords)

    monkeypatch.setattr(symmetries, "site_permutations", fail_for_large_cells)
    for _ in range(2):
        found = skeleton_symmetries(toy, ALL)
        expected = np.flatnonzero(toy.n_sites > 4).tolist()
        assert found.failures == dict.fromkeys(expected, "spglib finds no space group")
        for row in expected:
            assert found.permutations[row].tolist() == [list(range(toy.n_sites[row]))]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def exchange_crystals(path):
    arrays = load_arrays(path)
    save_arrays(path, arrays | {"rows": arrays["rows"][::-1]})


def exchange_collections(path):
    save_arrays(path, load_arrays(path) | {"fingerprint": np.array("0" * 64)})


def drop_a_permutation(path):
    arrays = load_arrays(path)
    save_arrays(path, arrays | {"permutations": arrays["permutations"][:-1]})


def drop_an_array(path):
    arrays = load_arrays(path)
    del arrays["failures"]
    save_arrays(path, arrays)


@pytest.mark.parametrize(
    "damage",
    [truncate, exchange_crystals, exchange_collections, drop_a_permutation, drop_an_array],
)
def test_damaged_files_are_rejected_until_they_are_deleted(toy, cache, small_chunks, damage):
    skeleton_symmetries(toy, ALL)
    path = min(cache.rglob("*.npz"))
    damage(path)
    with pytest.raises(DamagedFileError, match="Delete it; the next use"):
        skeleton_symmetries(toy, ALL)
    path.unlink()
    assert_right(toy, ALL, skeleton_symmetries(toy, ALL))


def test_a_cache_folder_that_is_a_file_is_reported(toy, cache, small_chunks):
    cache.write_text("")
    with pytest.raises(StorageError, match="CRYSTAL_GYM_CACHE sets the cache folder"):
        skeleton_symmetries(toy, ALL)
