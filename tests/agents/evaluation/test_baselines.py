"""Baselines against plain counting."""

import numpy as np
import pytest

from crystal_agents.evaluation import baselines
from crystal_agents.evaluation.evaluate import evaluate
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards import resolve_reward


def test_nearest_skeleton_of_a_training_crystal_is_its_own(toy):
    table = EpisodeTable(toy)
    train = toy.in_split("train")
    score = baselines.nearest_skeleton(table, train)
    for batch in batch_by_size(table, train, 1):
        elements = roll_out(table, batch, score).elements
        assert (elements == table.true_elements[batch.crystals]).all()


def test_frequency_baselines_choose_the_most_frequent_element(toy):
    table = EpisodeTable(toy)
    train = np.arange(len(toy))
    codes = table.true_elements[table.true_elements > 0]
    most_frequent = np.bincount(codes).argmax()
    for batch in batch_by_size(table, train, 1):
        n = int(table.n_sites[batch.crystals[0]])
        result = roll_out(table, batch, baselines.most_frequent(table, train))
        assert (result.elements[..., :n] == most_frequent).all()
        same_size = table.true_elements[table.n_sites == n]
        by_site = roll_out(table, batch, baselines.most_frequent_per_site(table, train))
        for site in range(n):
            expected = np.bincount(same_size[:, site]).argmax()
            assert (by_site.elements[..., site] == expected).all()


def test_best_constant_filling_has_the_highest_mean_return(toy):
    table = EpisodeTable(toy)
    rows = np.arange(len(toy))
    score = baselines.best_constant(table, rows, table.true_elements, resolve_reward("match"))
    for batch in batch_by_size(table, rows, 1):
        n = int(table.n_sites[batch.crystals[0]])
        true = table.true_elements[table.n_sites == n, :n]
        expected = max((true == filling).mean() for filling in true)
        fillings = roll_out(table, batch, score).elements[0, :, :n]
        assert len(np.unique(fillings, axis=0)) == 1
        assert (true == fillings[0]).mean() == expected


def test_best_constant_has_no_preference_for_sizes_without_candidates(toy):
    table = EpisodeTable(toy)
    candidate = table.true_elements[:1]
    score = baselines.best_constant(table, np.arange(1), candidate, resolve_reward("match"))
    other_sizes = np.flatnonzero(table.n_sites != table.n_sites[0])
    for batch in batch_by_size(table, other_sizes, 1):
        assert (roll_out(table, batch, score).elements <= 1).all()


def test_skeleton_symmetry_makes_the_anions_of_a_cube_equivalent():
    from pymatgen.core import Lattice, Structure

    from crystal_gym.collections.structures import collection_from_structures

    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    # All skeletons are the same cube. The anions are permuted, and once the cations too.
    fillings = ["Sr Ti O O F", "Sr Ti F O O", "Ti Sr O F O"]
    collection = collection_from_structures(
        [Structure(Lattice.cubic(3.9), filling.split(), sites) for filling in fillings],
        ids=["train", "anions", "cations"],
        splits=["train", "val", "test"],
    )
    for split, accuracy, symmetry in (("val", 3 / 5, 1), ("test", 1 / 5, 3 / 5)):
        rows = evaluate({}, collection, split, progress=False).rows
        metrics = rows["nearest skeleton"].metrics
        assert metrics["accuracy"].mean == pytest.approx(accuracy)
        assert metrics["symmetry"].mean == pytest.approx(symmetry)


@pytest.mark.real
def test_baselines_on_perov5_have_their_known_accuracies(perov5):
    rows = evaluate({}, perov5, "test").rows
    assert rows["uniform"].metrics["accuracy"].mean == pytest.approx(1 / 56, abs=0.015)
    # 31.3 % of the sites of the whole split are oxygen.
    assert rows["most frequent element"].metrics["accuracy"].mean == pytest.approx(0.313, abs=0.04)
    assert rows["most frequent element"].metrics["validity_strict"].mean == 0
    assert rows["ground truth"].metrics["validity_smact14"].mean > 0.96
