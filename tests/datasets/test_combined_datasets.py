"""Datasets that Minari combined from datasets of this package."""

import dataclasses
import shutil

import minari
import numpy as np
import pytest

from crystal_datasets import build_dataset, load_transitions
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.errors import CrystalGymError

pytestmark = pytest.mark.usefixtures("cache")


def combine(*names):
    combined = minari.combine_datasets([minari.load_dataset(name) for name in names], "both-v0")
    return combined.spec.dataset_id


def load(name):
    return load_transitions(name, progress=False)


@pytest.fixture
def parts(toy_folder, folder):
    """Two datasets of the crystals in a folder."""
    return [
        build_dataset(toy_folder, "train", behavior, progress=False)
        for behavior in ("expert", "random")
    ]


def test_combined_dataset_has_the_episodes_and_crystals_of_its_parts(toy, toy_folder, parts):
    data, expert, random = load(combine(*parts)), *map(load, parts)
    assert data.vocabulary == toy.vocabulary.symbols
    assert data.collections == expert.collections
    assert list(data.collections.values()) == [str(toy_folder)]
    for name in ("elements", "focus", "action", "reward", "done", "start_site", "step"):
        expected = np.concatenate([getattr(expert, name), getattr(random, name)])
        assert np.array_equal(getattr(data, name), expected), name
    for name in ("skeleton_ids", "n_sites", "lattice", "frac_coords", "edges"):
        assert np.array_equal(getattr(data, name), getattr(expert, name)), name
    assert np.array_equal(data.skeleton, np.concatenate([expert.skeleton, random.skeleton]))
    assert len(np.unique(data.trajectory)) == 2 * len(np.unique(expert.trajectory))


def test_combined_dataset_outlives_its_parts(toy, parts, folder):
    expert = load(parts[0])
    name = combine(*parts)
    shutil.rmtree(folder / "crystal-gym")
    data = load(name)
    assert data.vocabulary == toy.vocabulary.symbols
    assert data.collections == expert.collections
    assert len(data.skeleton_ids) == len(expert.skeleton_ids)
    assert np.array_equal(
        data.lattice[data.skeleton[: len(expert)]], expert.lattice[expert.skeleton]
    )


def test_parts_that_were_built_again_do_not_name_the_crystals(toy_folder, parts):
    name = combine(*parts)
    build_dataset(toy_folder, "train", seed=1, trajectories=2, overwrite=True, progress=False)
    data = load(name)
    assert all(len(crystal) == 16 for crystal in data.skeleton_ids)
    assert len(data.skeleton_ids) == 4


def test_skeletons_of_two_collections_with_the_same_ids_stay_distinct(toy, folder):
    moved = dataclasses.replace(toy, name="moved", frac_coords=(toy.frac_coords + 0.01) % 1)
    names = [build_dataset(c, "train", progress=False) for c in (toy, moved)]
    data = load(combine(*names))
    assert data.collections == {toy.fingerprint(): "toy", moved.fingerprint(): "moved"}
    assert len(data.skeleton_ids) == 2 * len(toy.in_split("train"))
    assert data.skeleton_ids[:4].tolist() == data.skeleton_ids[4:].tolist()
    assert np.array_equal(data.frac_coords[4:], load(names[1]).frac_coords)


def test_different_or_unknown_vocabularies_are_refused(toy, folder):
    reverse = Vocabulary(tuple(reversed(toy.vocabulary.symbols)))
    first = build_dataset(toy, "train", progress=False)
    other = dataclasses.replace(toy, name="other")
    second = build_dataset(other, "train", vocabulary=reverse, progress=False)
    name = combine(first, second)
    with pytest.raises(CrystalGymError, match=r"one vocabulary .*O F Na Mg Ti.*Ti Mg Na F O"):
        load(name)
    shutil.rmtree(folder / "crystal-gym")
    with pytest.raises(CrystalGymError, match="got none, because these datasets are missing"):
        load(name)
