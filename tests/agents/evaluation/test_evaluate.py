"""Figures of the evaluation, against plain counting."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from crystal_agents.evaluation import baselines
from crystal_agents.evaluation.evaluate import _Evaluation, _symmetries, evaluate
from crystal_agents.evaluation.metrics import METRICS, swap_accuracy, symmetry_equivalent_accuracy
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.policies.ensemble import EnsembleScorer
from crystal_agents.policies.policy import PolicyConfig, PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import resolve_reward


def small_policy(collection, seed=0, symbols=None):
    torch.manual_seed(seed)
    settings = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}
    vocabulary = symbols or collection.vocabulary.symbols
    return SkeletonPolicy(PolicyConfig("egnn", vocabulary, collection.max_sites, settings)).eval()


def expert(table):
    """Scores of a policy that knows the crystals."""

    def score(state):
        true = table.true_elements[state.crystal, state.focus] - 1
        return np.eye(len(table.vocabulary))[true]

    return score


def test_groups_hold_every_crystal_with_its_sources_once(toy):
    table = EpisodeTable(toy)
    groups = list(batch_by_size(table, np.arange(len(toy)), n_start_sites=4))
    assert sorted(np.concatenate([g.crystals for g in groups])) == list(range(len(toy)))
    for group in groups:
        n = table.n_sites[group.crystals[0]]
        assert (table.n_sites[group.crystals] == n).all()
        assert group.start_sites.shape == (min(4, n), len(group.crystals))
        for start_sites in group.start_sites.T:
            assert len(set(start_sites)) == len(start_sites)
            assert start_sites.max() < n


@pytest.mark.parametrize("teacher_forced", [False, True])
def test_an_expert_makes_no_mistake(toy, teacher_forced):
    table = EpisodeTable(toy)
    for group in batch_by_size(table, np.arange(len(toy))):
        filled = roll_out(table, group, expert(table), teacher_forced=teacher_forced)
        assert (filled.elements == table.true_elements[group.crystals]).all()
        assert (filled.rank == 0).all()


def test_a_free_roll_out_is_what_the_policy_does_in_the_environment(toy):
    import gymnasium as gym

    import crystal_gym  # noqa: F401 - registers the environment
    from crystal_agents.policies.policy import PolicyScorer

    policy = small_policy(toy)
    table = EpisodeTable(toy)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    for group in batch_by_size(table, np.arange(len(toy))):
        filled = roll_out(table, group, PolicyScorer(policy, table))
        for k, s in np.ndindex(*group.start_sites.shape):
            options = {
                "crystal": int(group.crystals[s]),
                "start_site": int(group.start_sites[k, s]),
            }
            observation, _ = env.reset(options=options)
            terminated = False
            while not terminated:
                observation, _, terminated, _, _ = env.step(policy.act(observation))
            assert (observation["element"] == filled.elements[k, s]).all()


def test_figures_of_a_policy_agree_with_plain_counting(toy):
    from crystal_agents.policies.policy import PolicyScorer

    policy = small_policy(toy)
    report = evaluate({"egnn": [policy]}, toy, "all", floors=False)
    table = EpisodeTable(toy)
    accuracy, exact, top5 = [], [], []
    for group in batch_by_size(table, np.arange(len(toy))):
        free = roll_out(table, group, PolicyScorer(policy, table))
        forced = roll_out(table, group, PolicyScorer(policy, table), teacher_forced=True)
        n = int(table.n_sites[group.crystals[0]])
        for s, crystal in enumerate(group.crystals):
            right = [
                free.elements[k, s, :n] == table.true_elements[crystal, :n]
                for k in range(len(free.elements))
            ]
            accuracy.append(np.mean(right))
            exact.append(np.mean([r.all() for r in right]))
            top5.append(np.mean(forced.rank[:, s] < 5))
    metrics = report.rows["egnn"].metrics
    assert metrics["accuracy"].mean == pytest.approx(np.mean(accuracy))
    assert metrics["exact"].mean == pytest.approx(np.mean(exact))
    assert metrics["top5"].mean == pytest.approx(np.mean(top5))
    assert metrics["accuracy"].low <= metrics["accuracy"].mean <= metrics["accuracy"].high


def test_unique_novel_and_per_site_figures_agree_with_plain_counting(toy):
    from crystal_agents.policies.policy import PolicyScorer

    policy = small_policy(toy)
    table = EpisodeTable(toy)
    row = evaluate({"egnn": [policy]}, toy, "test", floors=False).rows["egnn"]
    known = {
        tuple(sorted(number for number in numbers if number > 0))
        for numbers in toy.atomic_numbers[toy.in_split("train")].tolist()
    }
    novel, fillings, right, forced = [], [], {}, []
    for group in batch_by_size(table, toy.in_split("test")):
        filled = roll_out(table, group, PolicyScorer(policy, table))
        led = roll_out(table, group, PolicyScorer(policy, table), teacher_forced=True)
        n = int(table.n_sites[group.crystals[0]])
        for s, crystal in enumerate(group.crystals):
            numbers = table.vocabulary.decode(filled.elements[:, s, :n]).tolist()
            novel.append(np.mean([tuple(sorted(z)) not in known for z in numbers]))
            fillings.append(tuple(numbers[0]))
            forced.append(np.mean(led.elements[:, s, :n] == table.true_elements[crystal, :n]))
            for site in range(n):
                hits = filled.elements[:, s, site] == table.true_elements[crystal, site]
                right.setdefault(site, []).append(np.mean(hits))
    assert row.metrics["novel"].mean == pytest.approx(np.mean(novel))
    assert row.metrics["unique"].mean == pytest.approx(len(set(fillings)) / len(fillings))
    assert row.metrics["teacher_forced"].mean == pytest.approx(np.mean(forced))
    assert row.per_site == pytest.approx([np.mean(right[site]) for site in sorted(right)])


def test_site_numbers_that_no_crystal_of_the_split_has_are_left_open(toy):
    small = toy.take(np.flatnonzero(toy.n_sites < 4))
    row = evaluate({}, small, "train").rows["true crystals"]
    assert np.isnan(row.per_site[4:]).all()
    assert row.per_site[0] == 1


def calibration_error(right, confidence, weight):
    """Expected calibration error of 15 bins as it is defined, choice by choice."""
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            share, weights = weight[inside].sum() / weight.sum(), weight[inside]
            error += share * abs(np.average((right - confidence)[inside], weights=weights))
    return error


def test_calibration_and_top_five_by_site_agree_with_plain_counting(toy):
    vocabulary = Vocabulary.from_elements([*toy.vocabulary.symbols, "H", "Li", "K", "Rb"])
    table, rows = EpisodeTable(toy, vocabulary), np.arange(len(toy))
    shape = (len(toy), toy.max_sites, toy.max_sites, len(vocabulary))
    logits = 2 * np.random.default_rng(0).normal(size=shape)

    def score(state):
        return logits[state.crystal, state.focus, (state.elements > 0).sum(1)]

    groups = list(batch_by_size(table, rows))
    evaluation = _Evaluation(table, rows, _symmetries(toy, rows, progress=False))
    row = evaluation.row([score], groups, lambda _: None)
    choices = []  # site, right, among the five most probable, confidence, sources, sites
    for group in groups:
        forced = roll_out(table, group, score, teacher_forced=True)
        k, _, n = forced.rank.shape
        choices += [
            (site, rank == 0, rank < 5, sure, k, n)
            for site in range(n)
            for rank, sure in zip(
                forced.rank[..., site].ravel(), forced.confidence[..., site].ravel(), strict=True
            )
        ]
    site, right, top5, confidence, k, n = np.array(choices, float).T
    assert np.ptp(np.ceil(confidence * 15)) > 5
    # Every crystal counts once, whatever its sites and sources.
    expected = calibration_error(right, confidence, 1 / (k * n))
    assert row.metrics["ece"] == MeanWithCI(*[pytest.approx(expected)] * 3)
    for number in range(toy.max_sites):
        here = site == number
        by_crystal = 1 / k[here]
        assert row.top5_per_site[number] == pytest.approx(
            np.average(top5[here], weights=by_crystal)
        )
        assert row.ece_per_site[number] == pytest.approx(
            calibration_error(right[here], confidence[here], by_crystal)
        )


def test_confidence_is_the_probability_that_the_policy_tells(toy):
    import gymnasium as gym

    import crystal_gym  # noqa: F401 - registers the environment
    from crystal_agents.policies.policy import PolicyScorer

    policy = small_policy(toy)
    table = EpisodeTable(toy)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    for group in batch_by_size(table, np.arange(len(toy)), 1):
        filled = roll_out(table, group, PolicyScorer(policy, table))
        for s, (crystal, start_site) in enumerate(
            zip(group.crystals, group.start_sites[0], strict=True)
        ):
            options = {"crystal": int(crystal), "start_site": int(start_site)}
            observation, _ = env.reset(options=options)
            expected = policy.probabilities(observation).max()
            assert filled.confidence[0, s, start_site] == pytest.approx(expected, rel=1e-5)


def test_a_policy_that_is_sure_and_right_is_calibrated_and_one_that_is_no_number_is_not(toy):
    table = EpisodeTable(toy)
    rows = np.arange(len(toy))
    evaluation = _Evaluation(table, rows, _symmetries(toy, rows, progress=False))
    groups = list(batch_by_size(table, rows))

    def sure(state):
        return 1000 * expert(table)(state)

    def undecided(state):
        return 0 * expert(table)(state)

    def no_number(state):
        return np.nan * expert(table)(state)

    def ece(score):
        return evaluation.row([score], groups, lambda _: None).metrics["ece"].mean

    assert ece(sure) == 0
    v, first = len(table.vocabulary), np.mean([(t[t > 0] == 1).mean() for t in table.true_elements])
    assert ece(undecided) == pytest.approx(abs(1 / v - first))
    assert ece(no_number) == 1


def test_scores_that_are_no_numbers_or_all_alike_are_no_success(toy):
    table = EpisodeTable(toy)

    def constant(value):
        def score(state):
            return np.full((len(state.crystal), len(table.vocabulary)), value)

        return score

    for value in (0.0, np.nan):
        for group in batch_by_size(table, np.arange(len(toy))):
            filled = roll_out(table, group, constant(value), teacher_forced=True)
            n = int(table.n_sites[group.crystals[0]])
            right = filled.elements[..., :n] == table.true_elements[group.crystals][:, :n]
            # Among equals the first is chosen; what is no number never counts as right.
            assert ((filled.rank == 0) == (right & (value == 0))).all()


def test_true_crystals_are_the_ceiling_and_floors_stand_beside(toy):
    report = evaluate({}, toy, "test")
    assert list(report.rows) == [
        "uniform",
        "most frequent element",
        "most frequent per site",
        "nearest skeleton",
        "true crystals",
    ]
    ceiling = report.rows["true crystals"].metrics
    assert all(ceiling[name].mean == 1 for name in ("accuracy", "exact", "symmetry", "swap"))
    for row in report.rows.values():
        assert row.metrics["accuracy"].mean <= row.metrics["symmetry"].mean <= 1
    assert all(set(row.metrics) <= set(METRICS) for row in report.rows.values())
    uniform = report.rows["uniform"]
    assert not {"teacher_forced", "top5", "ece"} & set(uniform.metrics)
    assert uniform.top5_per_site is uniform.ece_per_site is None


def test_the_nearest_skeleton_of_a_training_crystal_is_itself(toy):
    table = EpisodeTable(toy)
    train = toy.in_split("train")
    score = baselines.nearest_skeleton(table, train)
    for group in batch_by_size(table, train, 1):
        assert (roll_out(table, group, score).elements == table.true_elements[group.crystals]).all()


def test_frequency_floors_choose_what_they_count(toy):
    table = EpisodeTable(toy)
    train = np.arange(len(toy))
    codes = table.true_elements[table.true_elements > 0]
    most = np.bincount(codes).argmax()
    for group in batch_by_size(table, train, 1):
        n = int(table.n_sites[group.crystals[0]])
        always = roll_out(table, group, baselines.most_frequent(table, train))
        assert (always.elements[..., :n] == most).all()
        alike = table.true_elements[table.n_sites == n]
        by_site = roll_out(table, group, baselines.most_frequent_per_site(table, train))
        for site in range(n):
            expected = np.bincount(alike[:, site]).argmax()
            assert (by_site.elements[..., site] == expected).all()


def test_the_best_constant_filling_is_that_with_the_highest_mean_return(toy):
    table = EpisodeTable(toy)
    rows = np.arange(len(toy))
    score = baselines.best_constant(table, rows, table.true_elements, resolve_reward("match"))
    for group in batch_by_size(table, rows, 1):
        n = int(table.n_sites[group.crystals[0]])
        true = table.true_elements[table.n_sites == n, :n]
        by_hand = max((true == filling).mean() for filling in true)
        filled = roll_out(table, group, score).elements[0, :, :n]
        assert len(np.unique(filled, axis=0)) == 1
        assert (true == filled[0]).mean() == by_hand


def test_where_no_constant_filling_was_tried_there_is_no_preference(toy):
    table = EpisodeTable(toy)
    one = table.true_elements[:1]
    score = baselines.best_constant(table, np.arange(1), one, resolve_reward("match"))
    other = np.flatnonzero(table.n_sites != table.n_sites[0])
    for group in batch_by_size(table, other, 1):
        assert (roll_out(table, group, score).elements <= 1).all()


@pytest.mark.real
def test_floors_on_perovskites_are_the_known_ones(perov5):
    rows = evaluate({}, perov5, "test").rows
    assert rows["uniform"].metrics["accuracy"].mean == pytest.approx(1 / 56, abs=0.015)
    # Oxygen stands on 31.3 % of the sites of the whole split.
    assert rows["most frequent element"].metrics["accuracy"].mean == pytest.approx(0.313, abs=0.04)
    assert rows["most frequent element"].metrics["validity_strict"].mean == 0
    assert rows["true crystals"].metrics["validity_smact14"].mean > 0.96


@given(st.lists(st.integers(1, 3), min_size=3, max_size=3), st.permutations([1, 2, 3]))
def test_swap_aware_accuracy_is_the_best_of_all_exchanges(elements, true):
    best = sum(a == b for a, b in zip(elements, true, strict=True))
    for i, j in itertools.combinations(range(3), 2):
        changed = list(elements)
        changed[i], changed[j] = changed[j], changed[i]
        best = max(best, sum(a == b for a, b in zip(changed, true, strict=True)))
    ours = swap_accuracy(np.array(elements)[None, None], np.array(true)[None])
    assert ours[0, 0] == pytest.approx(best / 3)


@given(
    st.lists(st.lists(st.integers(1, 3), min_size=4, max_size=4), min_size=3, max_size=3),
    st.lists(st.lists(st.integers(1, 3), min_size=4, max_size=4), min_size=3, max_size=3),
)
def test_accuracy_up_to_symmetry_is_the_best_of_the_permutations_of_each_crystal(elements, true):
    all_of_them = np.array(list(itertools.permutations(range(4))))
    allowed = [all_of_them[:1], all_of_them, np.array([[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1]])]
    for crystal, permutations in enumerate(allowed):
        best = max(
            np.mean([elements[crystal][i] == true[crystal][j] for i, j in enumerate(permutation)])
            for permutation in permutations
        )
        ours = symmetry_equivalent_accuracy(np.array(elements)[None], np.array(true), allowed)
        assert ours[0, crystal] == pytest.approx(best)
        fillings = np.array(elements)[:, None]
        alone = symmetry_equivalent_accuracy(
            fillings, np.array(true)[crystal][None], [permutations]
        )
        assert alone[crystal, 0] == pytest.approx(best)


def test_anions_that_a_cubic_skeleton_makes_equal_may_change_places():
    from pymatgen.core import Lattice, Structure

    from crystal_gym.collections.structures import collection_from_structures

    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    # The skeletons are the same cube; its anions are filled differently, once with the cations
    # exchanged too.
    fillings = ["Sr Ti O O F", "Sr Ti F O O", "Ti Sr O F O"]
    collection = collection_from_structures(
        [Structure(Lattice.cubic(3.9), filling.split(), sites) for filling in fillings],
        ids=["train", "anions", "cations"],
        splits=["train", "val", "test"],
    )
    for split, plain, symmetry in (("val", 3 / 5, 1), ("test", 1 / 5, 3 / 5)):
        rows = evaluate({}, collection, split, progress=False).rows
        metrics = rows["nearest skeleton"].metrics
        assert metrics["accuracy"].mean == pytest.approx(plain)
        assert metrics["symmetry"].mean == pytest.approx(symmetry)


def test_intervals_cover_the_mean_of_a_known_distribution():
    rng = np.random.default_rng(0)
    inside = sum(
        e.low <= 0.5 <= e.high for e in (MeanWithCI.of(rng.random(60)) for _ in range(100))
    )
    assert 86 <= inside <= 100
    assert MeanWithCI.of(np.array([0.3, np.nan])) == MeanWithCI(0.3, 0.3, 0.3)


def test_intervals_of_several_runs_are_over_runs(toy):
    runs = [small_policy(toy, seed) for seed in range(3)]
    alone = [
        evaluate({"p": [run]}, toy, "all", floors=False).rows["p"].metrics["accuracy"].mean
        for run in runs
    ]
    row = evaluate({"p": runs}, toy, "all", floors=False).rows["p"]
    assert row.runs == 3
    assert row.metrics["accuracy"].mean == pytest.approx(np.mean(alone))
    assert min(alone) <= row.metrics["accuracy"].low <= row.metrics["accuracy"].high <= max(alone)


def test_a_larger_vocabulary_is_fine_and_a_smaller_one_is_told(toy):
    larger = Vocabulary.from_elements([*toy.vocabulary.symbols, "H"]).symbols
    assert evaluate({"p": [small_policy(toy, symbols=larger)]}, toy, "test", floors=False)
    with pytest.raises(CrystalGymError, match="not in the vocabulary"):
        evaluate({"p": [small_policy(toy, symbols=("Na", "O"))]}, toy, "test", floors=False)


@pytest.mark.parametrize("change", [{"n_start_sites": 0}, {"n_start_sites": -1}, {"seed": -1}])
def test_numbers_out_of_range_are_told(toy, change):
    with pytest.raises(CrystalGymError, match=r"At least one source|0 or more"):
        evaluate({"p": [small_policy(toy)]}, toy, "test", **change)


def test_sources_are_those_of_the_expert_data_sets(toy):
    from crystal_datasets import choose_start_sites

    table = EpisodeTable(toy)
    chosen = choose_start_sites(toy.n_sites, 3, seed=4)
    for group in batch_by_size(table, toy.in_split("test"), 3, seed=4):
        for s, crystal in enumerate(group.crystals):
            expected = chosen[crystal][chosen[crystal] >= 0]
            assert group.start_sites[:, s].tolist() == expected.tolist()


def test_policies_are_averaged_only_over_seeds(toy, tmp_path):
    import dataclasses

    from crystal_agents.cli.evaluate import runs_by_name

    def trained(folder, **training):
        policy = small_policy(toy)
        config = dataclasses.replace(policy.config, training=training)
        return tmp_path / folder, SkeletonPolicy(config)

    runs = dict(
        [
            trained("a", seed=0, epochs=3, val_accuracy=0.4),
            trained("b", seed=1, epochs=3, val_accuracy=0.5),
        ]
    )
    assert {name: len(group) for name, group in runs_by_name(runs).items()} == {"egnn": 2}
    runs |= dict([trained("c", seed=1, epochs=4)])
    named = {name: len(group) for name, group in runs_by_name(runs).items()}
    assert named == {"egnn, a": 2, "egnn, c": 1}

    # Of fine-tuned ones the seed stands with the fine-tuning, and so does what each began from.
    def tuned(folder, policy, seed, steps):
        stage = {"policy": policy, "seed": seed, "steps": steps}
        return trained(folder, seed=seed, finetuning=[stage])

    runs = dict([tuned("d", "a", 0, 9), tuned("e", "b", 1, 9), tuned("f", "b", 1, 8)])
    named = {name: len(group) for name, group in runs_by_name(runs).items()}
    assert named == {"egnn, d": 2, "egnn, f": 1}


def test_an_empty_split_is_told(toy):
    only_train = toy.take(toy.in_split("train"))
    with pytest.raises(CrystalGymError, match="has no crystals"):
        evaluate({}, only_train, "test")


def test_an_ensemble_is_the_mean_of_its_members_probabilities(toy):
    policies = [small_policy(toy, seed) for seed in (0, 1)]
    table = EpisodeTable(toy, policies[0].vocabulary)
    report = evaluate(
        {"runs": policies},
        toy,
        "all",
        rules={"ensemble": partial(EnsembleScorer, policies)},
        floors=False,
        progress=False,
    )
    assert list(report.rows) == ["runs", "ensemble"]
    group = next(batch_by_size(table, np.array([5]), 2))
    state = start(table, np.array([5, 5]), table.traversals[5, group.start_sites.ravel()])
    mean = np.mean([softmax(PolicyScorer(p, table)(table, state, 2), 1) for p in policies], 0)
    found = EnsembleScorer(policies, table)(table, state, 2)
    np.testing.assert_allclose(np.exp(found), mean, rtol=1e-5)
