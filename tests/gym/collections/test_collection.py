"""Test collections: rows, splits, codes, and splits by composition."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_gym.collections import collection as module
from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import (
    ARRAYS,
    SPLITS,
    CrystalCollection,
    formula,
    hash_splits,
)
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.errors import CrystalGymError, UnknownNameError


def test_collection_restores_its_structures(toy):
    for row in range(len(toy)):
        structure = toy.structure(row)
        skeleton, numbers = split_structure(structure)
        assert skeleton == toy.skeleton(row)
        assert numbers.tolist() == toy.atomic_numbers[row, : toy.n_sites[row]].tolist()


def test_padding_is_exactly_where_there_are_no_sites(toy):
    padding = np.arange(toy.max_sites) >= toy.n_sites[:, None]
    assert (toy.atomic_numbers[padding] == 0).all()
    assert (toy.codes()[padding] == -1).all()
    assert (toy.codes()[~padding] > 0).all()
    assert ((toy.edges == -1).all(axis=2) == (toy.edges[..., 0] < 0)).all()
    decoded = toy.vocabulary.decode(toy.codes())
    assert np.array_equal(decoded, toy.atomic_numbers)


def test_index_finds_crystals_by_id_and_row(toy):
    for row, crystal in enumerate(toy.ids):
        assert toy.index(str(crystal)) == toy.index(row) == row
    for unknown in ("toy-12", "", 12, -1):
        with pytest.raises(CrystalGymError, match=r"No crystal .* rows run from 0 to 11"):
            toy.index(unknown)


def test_splits_partition_the_collection(toy):
    rows = np.concatenate([toy.in_split(split) for split in SPLITS])
    assert sorted(rows.tolist()) == toy.in_split("all").tolist() == list(range(12))
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        toy.in_split("trian")
    assert "train 4, val 4, test 4" in repr(toy)


def test_take_selects_rows_of_every_array_and_label(toy):
    rows = [7, 2]
    labeled = CrystalCollection(
        "labeled", **{name: getattr(toy, name) for name in ARRAYS}, labels={"row": np.arange(12.0)}
    )
    taken = labeled.take(rows)
    assert taken.ids.tolist() == ["toy-7", "toy-2"]
    assert taken.labels["row"].tolist() == [7.0, 2.0]
    assert taken.skeleton(0) == toy.skeleton(7)
    assert taken.max_edges == toy.max_edges


def test_fingerprints_of_published_results_are_those_of_padded_arrays(toy, monkeypatch):
    """The SHA-256 of padded arrays and of the orders from all sites, crystal by crystal."""
    monkeypatch.setattr(module, "_HASHED_TOGETHER", 5)
    for crystals in (toy, toy.take([4, 9, 2])):
        n = crystals.max_sites
        orders = np.full((len(crystals), n, n), -1, np.int16)
        for row, size in enumerate(crystals.n_sites.tolist()):
            for start_site in range(size):
                order = crystals.skeleton(row).traversal(start_site)
                orders[row, start_site, :size] = order
        arrays = [crystals.ids, crystals.splits, crystals.n_sites, crystals.atomic_numbers]
        arrays += [crystals.parameters, crystals.frac_coords, crystals.edges, orders]
        digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays))
        assert crystals.take(np.arange(len(crystals))).fingerprint() == digest.hexdigest()
    published = "b0a463fe8706eb9cbca3e792ca3d3ab43b27dc1495506c1a1228d020dd321a79"
    assert load_collection("goldschmidt").fingerprint() == published


def test_fingerprint_of_large_cells_depends_on_every_array(toy, monkeypatch):
    monkeypatch.setattr(module, "SMALL_CELL", 5)
    changes = {name: getattr(toy, name).copy() for name in ("parameters", "flat_edges", "splits")}
    for values in changes.values():
        values[0] = values[-1]
    prints = [replace(toy, **{name: values}).fingerprint() for name, values in changes.items()]
    assert len({replace(toy).fingerprint(), *prints}) == 4


def test_codes_rejects_a_vocabulary_without_an_element_of_the_crystals(toy):
    with pytest.raises(CrystalGymError, match="not in the vocabulary"):
        toy.codes(Vocabulary(("O", "F")))


def collection_of_compositions(compositions, splits):
    """Return a collection of rows of atomic numbers without a real geometry."""
    numbers = np.array(compositions, np.int16)
    c, n = numbers.shape
    return CrystalCollection(
        name="made",
        ids=np.array([str(row) for row in range(c)]),
        splits=np.array(splits),
        n_sites=np.full(c, n, np.int32),
        atomic_numbers=numbers,
        parameters=np.zeros((c, 6)),
        frac_coords=np.zeros((c, n, 3)),
        n_edges=np.zeros(c, np.int32),
        flat_edges=np.zeros((0, 5), np.int16),
    )


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(3, 120))
def test_split_by_composition_keeps_compositions_together_and_the_sizes_of_splits(seed, c):
    rng = np.random.default_rng(seed)
    collection = collection_of_compositions(rng.integers(1, 5, (c, 2)), rng.choice(SPLITS, c))
    split_again = collection.split_by_composition()
    keys = [tuple(sorted(row)) for row in collection.atomic_numbers.tolist()]
    split_of = {}
    for key, split in zip(keys, split_again.splits.tolist(), strict=True):
        assert split_of.setdefault(key, split) == split
    largest = max(keys.count(key) for key in keys)
    for split in SPLITS:
        change = len(split_again.in_split(split)) - len(collection.in_split(split))
        assert abs(change) <= largest
    # Another order of the rows gives the same split.
    shuffle = rng.permutation(c)
    shuffled = collection.take(shuffle).split_by_composition()
    assert shuffled.splits.tolist() == split_again.splits[shuffle].tolist()


@pytest.mark.real
def test_split_by_composition_of_perov5_keeps_exchanged_cations_together(perov5):
    before, after = perov5, perov5.split_by_composition()
    keys = np.array([str(sorted(row)) for row in before.atomic_numbers.tolist()])
    train = set(keys[after.in_split("train")])
    assert not train & set(keys[after.in_split("test")])
    assert not train & set(keys[after.in_split("val")])
    assert set(keys[before.in_split("train")]) & set(keys[before.in_split("test")])


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(2, 120))
def test_random_splits_are_a_partition_of_the_same_sizes_determined_by_the_seed(draw, seed, c):
    rng = np.random.default_rng(draw)
    splits = np.append(rng.choice(SPLITS, c - 2), ["train", "test"])
    collection = collection_of_compositions(rng.integers(1, 5, (c, 2)), splits)
    split_again = collection.split_at_random(seed)
    rows = np.concatenate([split_again.in_split(split) for split in SPLITS])
    assert sorted(rows.tolist()) == list(range(c))
    for split in SPLITS:
        assert len(split_again.in_split(split)) == len(collection.in_split(split))
    # The splits depend on the ids and the sizes, not on the order of the rows or the old splits.
    shuffle = rng.permutation(c)
    for again in (
        collection.split_at_random(seed),
        collection.split_at_random(seed + 1).split_at_random(seed),
        load_collection(collection, split_by=f"random:{seed}"),
    ):
        assert again.fingerprint() == split_again.fingerprint()
    shuffled = collection.take(shuffle).split_at_random(seed)
    assert shuffled.splits.tolist() == split_again.splits[shuffle].tolist()


def test_random_splits_of_two_seeds_differ_and_overlap_by_chance():
    collection = load_collection("goldschmidt")
    first, second = (collection.split_at_random(seed) for seed in (0, 1))
    assert first.name == "goldschmidt-by-random-0"
    assert "Random splits with seed 0" in first.description
    # Independent splits agree on the sum of the squared shares of the crystals.
    shares = np.array([len(collection.in_split(split)) for split in SPLITS]) / len(collection)
    assert np.mean(first.splits == second.splits) == pytest.approx((shares**2).sum(), abs=0.06)


def test_random_splits_need_two_splits_and_a_seed_of_at_least_zero(toy):
    with pytest.raises(CrystalGymError, match=r"crystals in two or more splits of 'toy'"):
        toy.take(toy.in_split("val")).split_at_random(0)
    with pytest.raises(CrystalGymError, match="seed of at least 0, got -1"):
        toy.split_at_random(-1)


@given(st.lists(st.text(), unique=True, max_size=200))
def test_hash_splits_have_the_shares_and_depend_only_on_the_ids(ids):
    splits = hash_splits(ids)
    assert abs(splits.count("train") - 0.8 * len(ids)) <= 0.5
    assert abs(splits.count("val") - 0.1 * len(ids)) <= 1
    assert hash_splits(ids[::-1]) == splits[::-1]


def test_formula_lists_elements_in_site_order():
    assert formula(np.array([38, 22, 8, 8, 8, 0, 0])) == "SrTiO3"
    assert formula(np.array([8, 38, 8])) == "O2Sr"


def test_list_of_structures_is_a_collection(toy):
    structures = [toy.structure(row) for row in range(3)]
    collection = load_collection(structures)
    assert collection.ids.tolist() == ["0", "1", "2"]
    assert set(collection.splits) == {"train"}
    assert load_collection(collection) is collection
    assert [collection.skeleton(row) for row in range(3)] == [toy.skeleton(r) for r in range(3)]
    with pytest.raises(CrystalGymError, match="got 'a' more than once"):
        collection_from_structures(structures, ids=["a", "b", "a"])
    with pytest.raises(CrystalGymError, match="each of the 3 structures, got 2 ids"):
        collection_from_structures(structures, ids=["a", "b"])
    with pytest.raises(UnknownNameError, match="Unknown split 'dev'"):
        collection_from_structures(structures, splits=["train", "dev", "test"])
    with pytest.raises(CrystalGymError, match="no crystals"):
        load_collection([])


def test_load_collection_rejects_unknown_names_and_splits():
    with pytest.raises(UnknownNameError, match="Did you mean 'perov-5'"):
        load_collection("perov5")
    with pytest.raises(UnknownNameError, match="split_by"):
        load_collection("goldschmidt", split_by="formula")
