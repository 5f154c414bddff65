"""Reports of the evaluation: their rows, metrics and intervals."""

from functools import partial
from importlib.metadata import version

import numpy as np
import pytest
from scipy.special import softmax
from small_policies import small_policy

from crystal_agents.evaluation.evaluate import evaluate
from crystal_agents.evaluation.metrics import METRICS
from crystal_agents.policies.ensemble import EnsembleScorer
from crystal_agents.policies.policy import PolicyScorer
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym import load_collection
from crystal_gym.collections import symmetries
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable, start
from crystal_gym.errors import CrystalGymError, SymmetryError, SymmetryWarning


def test_accuracies_of_a_policy_agree_with_plain_counting(toy):
    policy = small_policy(toy)
    report = evaluate({"egnn": [policy]}, toy, "all", baselines=False)
    table = EpisodeTable(toy)
    accuracy, exact, top5 = [], [], []
    for batch in batch_by_size(table, np.arange(len(toy))):
        free = roll_out(table, batch, PolicyScorer(policy, table))
        forced = roll_out(table, batch, PolicyScorer(policy, table), teacher_forced=True)
        n = int(table.n_sites[batch.crystals[0]])
        for s, crystal in enumerate(batch.crystals):
            correct = [
                free.elements[k, s, :n] == table.true_elements[crystal, :n]
                for k in range(len(free.elements))
            ]
            accuracy.append(np.mean(correct))
            exact.append(np.mean([sites.all() for sites in correct]))
            top5.append(np.mean(forced.rank[:, s] < 5))
    metrics = report.rows["egnn"].metrics
    assert metrics["accuracy"].mean == pytest.approx(np.mean(accuracy))
    assert metrics["exact"].mean == pytest.approx(np.mean(exact))
    assert metrics["top5"].mean == pytest.approx(np.mean(top5))
    assert metrics["accuracy"].low <= metrics["accuracy"].mean <= metrics["accuracy"].high


def test_unique_novel_and_per_site_metrics_agree_with_plain_counting(toy):
    policy = small_policy(toy)
    table = EpisodeTable(toy)
    row = evaluate({"egnn": [policy]}, toy, "test", baselines=False).rows["egnn"]
    known = {
        tuple(sorted(number for number in numbers if number > 0))
        for numbers in toy.atomic_numbers[toy.in_split("train")].tolist()
    }
    novel, fillings, correct, forced_correct = [], [], {}, []
    for batch in batch_by_size(table, toy.in_split("test")):
        free = roll_out(table, batch, PolicyScorer(policy, table))
        forced = roll_out(table, batch, PolicyScorer(policy, table), teacher_forced=True)
        n = int(table.n_sites[batch.crystals[0]])
        for s, crystal in enumerate(batch.crystals):
            true = table.true_elements[crystal, :n]
            numbers = table.vocabulary.decode(free.elements[:, s, :n]).tolist()
            novel.append(np.mean([tuple(sorted(z)) not in known for z in numbers]))
            fillings.append(tuple(numbers[0]))
            forced_correct.append(np.mean(forced.elements[:, s, :n] == true))
            for site in range(n):
                site_correct = free.elements[:, s, site] == true[site]
                correct.setdefault(site, []).append(np.mean(site_correct))
    assert row.metrics["novel"].mean == pytest.approx(np.mean(novel))
    assert row.metrics["unique"].mean == pytest.approx(len(set(fillings)) / len(fillings))
    assert row.metrics["teacher_forced"].mean == pytest.approx(np.mean(forced_correct))
    assert row.per_site == pytest.approx([np.mean(correct[site]) for site in sorted(correct)])


def test_site_numbers_that_no_crystal_of_the_split_has_are_nan(toy):
    small = toy.take(np.flatnonzero(toy.n_sites < 4))
    row = evaluate({}, small, "train").rows["ground truth"]
    assert np.isnan(row.per_site[4:]).all()
    assert row.per_site[0] == 1


def test_report_has_rows_for_the_baselines_and_the_ground_truth(toy):
    report = evaluate({}, toy, "test")
    assert list(report.rows) == [
        "uniform",
        "most frequent element",
        "most frequent per site",
        "nearest skeleton",
        "ground truth",
    ]
    perfect = report.rows["ground truth"].metrics
    assert all(perfect[name].mean == 1 for name in ("accuracy", "exact", "symmetry", "swap"))
    for row in report.rows.values():
        assert row.metrics["accuracy"].mean <= row.metrics["symmetry"].mean <= 1
    assert all(set(row.metrics) <= set(METRICS) for row in report.rows.values())
    uniform = report.rows["uniform"]
    assert not {"teacher_forced", "top5", "ece"} & set(uniform.metrics)
    assert uniform.top5_per_site is uniform.ece_per_site is None


def test_report_defines_its_validity_rules_with_the_version_of_smact(toy):
    report = evaluate({}, toy, "test", progress=False)
    rules = {name.removeprefix("validity_") for name in METRICS if name.startswith("validity_")}
    assert set(report.validity_rules) == rules
    for rule, description in report.validity_rules.items():
        assert description.startswith(f"{rule} (SMACT {version('smact')}, ")


def test_masked_policies_have_rows_of_their_own(toy):
    def only_first(table, state):
        return np.eye(table.n_elements, dtype=bool)[np.zeros(len(state.crystal), int)]

    report = evaluate({"egnn": [small_policy(toy)]}, toy, mask=only_first, baselines=False)
    assert list(report.rows) == ["egnn", "egnn, masked"]
    first = np.mean([(codes[codes > 0] == 1).mean() for codes in _true_codes(toy)])
    assert report.rows["egnn, masked"].metrics["accuracy"].mean == pytest.approx(first)
    assert "ece" not in report.rows["egnn, masked"].metrics


def _true_codes(collection):
    return EpisodeTable(collection).true_elements[collection.in_split("test")]


def test_intervals_of_several_runs_are_over_runs(toy):
    runs = [small_policy(toy, seed) for seed in range(3)]
    single = [
        evaluate({"p": [run]}, toy, "all", baselines=False).rows["p"].metrics["accuracy"].mean
        for run in runs
    ]
    row = evaluate({"p": runs}, toy, "all", baselines=False).rows["p"]
    assert row.runs == 3
    accuracy = row.metrics["accuracy"]
    assert accuracy.mean == pytest.approx(np.mean(single))
    assert min(single) <= accuracy.low <= accuracy.high <= max(single)


def test_vocabulary_may_be_larger_but_not_smaller(toy):
    larger = Vocabulary.from_elements([*toy.vocabulary.symbols, "H"]).symbols
    assert evaluate({"p": [small_policy(toy, symbols=larger)]}, toy, "test", baselines=False)
    with pytest.raises(CrystalGymError, match="not in the vocabulary"):
        evaluate({"p": [small_policy(toy, symbols=("Na", "O"))]}, toy, "test", baselines=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_start_sites": 0}, "at least one start site"),
        ({"n_start_sites": -1}, "at least one start site"),
        ({"seed": -1}, "seed"),
    ],
)
def test_evaluate_rejects_numbers_out_of_range(toy, change, message):
    with pytest.raises(CrystalGymError, match=message):
        evaluate({"p": [small_policy(toy)]}, toy, "test", **change)


def test_evaluate_rejects_an_empty_split(toy):
    only_train = toy.take(toy.in_split("train"))
    with pytest.raises(CrystalGymError, match="Expected crystals in the split 'test'"):
        evaluate({}, only_train, "test")


def test_skeletons_without_a_space_group_are_counted_and_reported(toy, monkeypatch):
    site_permutations = symmetries.site_permutations

    def fail_for_large_cells(lattice, frac_coords):
        if len(frac_coords) > 4:
            raise SymmetryError("spglib finds no space group")
        return site_permutations(lattice, frac_coords)

    monkeypatch.setattr(symmetries, "site_permutations", fail_for_large_cells)
    with pytest.warns(SymmetryWarning, match="4 of 12 skeletons.*spglib finds no space group"):
        report = evaluate({}, toy, "all")
    assert report.n_symmetry_failures == 4
    assert report.rows["ground truth"].metrics["symmetry"].mean == 1
    monkeypatch.undo()
    assert evaluate({}, toy, "all").n_symmetry_failures == 0


def test_ensemble_averages_the_probabilities_of_its_members(toy):
    policies = [small_policy(toy, seed) for seed in (0, 1)]
    table = EpisodeTable(toy, policies[0].vocabulary)
    report = evaluate(
        {"runs": policies},
        toy,
        "all",
        rules={"ensemble": partial(EnsembleScorer, policies)},
        baselines=False,
        progress=False,
    )
    assert list(report.rows) == ["runs", "ensemble"]
    batch = next(batch_by_size(table, np.array([5]), 2))
    state = start(table, np.array([5, 5]), table.breadth_first(5, batch.start_sites.ravel()))
    mean = np.mean([softmax(PolicyScorer(p, table)(state), 1) for p in policies], 0)
    scores = EnsembleScorer(policies, table)(state)
    np.testing.assert_allclose(np.exp(scores), mean, rtol=1e-5)


@pytest.mark.parametrize("keep", [0.5, [1]])
def test_accuracies_with_kept_sites_count_the_filled_sites_only(toy, keep):
    toy = toy.take(np.flatnonzero(toy.n_sites > 1))
    policy, table = small_policy(toy), EpisodeTable(toy)
    row = evaluate(
        {"egnn": [policy]}, toy, "all", start="partial", keep=keep, baselines=False
    ).rows["egnn"]
    accuracy, forced_accuracy, by_site = [], [], {}
    for batch in batch_by_size(table, np.arange(len(toy)), start="partial", keep=keep):
        free = roll_out(table, batch, PolicyScorer(policy, table))
        forced = roll_out(table, batch, PolicyScorer(policy, table), teacher_forced=True)
        for s, crystal in enumerate(batch.crystals):
            correct = free.elements[:, s] == table.true_elements[crystal]
            forced_correct = forced.elements[:, s] == table.true_elements[crystal]
            places = [tuple(p) for p in np.argwhere(batch.filled[:, s])]
            accuracy.append(np.mean([correct[p] for p in places]))
            forced_accuracy.append(np.mean([forced_correct[p] for p in places]))
            for site in {site for _, site in places}:
                values = [correct[p] for p in places if p[1] == site]
                by_site.setdefault(site, []).append(np.mean(values))
    metrics = row.metrics
    assert metrics["accuracy"].mean == pytest.approx(np.mean(accuracy))
    assert metrics["teacher_forced"].mean == pytest.approx(np.mean(forced_accuracy))
    expected = [np.mean(by_site.get(site, np.nan)) for site in range(table.max_sites)]
    np.testing.assert_allclose(row.per_site, expected)
    for name in ("symmetry", "swap"):
        assert metrics["accuracy"].mean <= metrics[name].mean <= 1
    assert np.isfinite(metrics["ece"].mean)


def test_keeping_no_sites_gives_the_report_of_empty_starts(toy):
    policies = {"egnn": [small_policy(toy)]}
    empty = evaluate(policies, toy, "all")
    partial_start = evaluate(policies, toy, "all", start="partial", keep=0.0)
    for name, row in empty.rows.items():
        assert row.metrics == partial_start.rows[name].metrics


def test_every_filling_has_the_composition_of_the_crystal_under_its_mask(toy):
    report = evaluate({"egnn": [small_policy(toy)]}, toy, "all", mask="composition")
    assert list(report.rows)[:2] == ["egnn", "egnn, masked"]
    assert "nearest skeleton, masked" in report.rows
    truth = report.rows["ground truth"].metrics
    for name in ("egnn, masked", "uniform, masked"):
        metrics = report.rows[name].metrics
        assert metrics["accuracy"].mean <= metrics["swap"].mean <= 1
        assert metrics["validity_strict"].mean == pytest.approx(truth["validity_strict"].mean)
        assert (
            metrics["accuracy"].mean
            > report.rows[name.removesuffix(", masked")].metrics["accuracy"].mean
        )


def test_evaluate_rejects_sites_that_a_crystal_lacks(toy):
    with pytest.raises(CrystalGymError, match="crystals with the site 7"):
        evaluate({}, toy, "all", start="partial", keep=[7])


def test_means_over_sites_agree_with_plain_counting(toy):
    policy, table = small_policy(toy), EpisodeTable(toy)
    row = evaluate(
        {"egnn": [policy]}, toy, "all", n_start_sites=1, baselines=False, progress=False
    ).rows["egnn"]
    correct, composition = [], []
    for batch in batch_by_size(table, np.arange(len(toy)), 1):
        free = roll_out(table, batch, PolicyScorer(policy, table)).elements[0]
        true = table.true_elements[batch.crystals]
        correct += (free == true)[true > 0].tolist()
        composition += [sorted(a) == sorted(b) for a, b in zip(free, true, strict=True)]
    assert row.metrics["accuracy_sites"].mean == pytest.approx(np.mean(correct))
    assert row.metrics["composition"].mean == pytest.approx(np.mean(composition))


def test_crystals_of_equal_size_have_no_separate_means_over_sites():
    report = evaluate({}, load_collection("goldschmidt"), "test", progress=False)
    assert all("accuracy_sites" not in row.metrics for row in report.rows.values())


def test_a_sample_of_crystals_is_seeded(toy):
    def formulas(seed, n_crystals):
        report = evaluate({}, toy, "all", n_crystals=n_crystals, seed=seed, progress=False)
        return report.n_crystals, report.rows["uniform"].per_site

    assert formulas(0, 5) == formulas(0, 5)
    assert formulas(0, 5)[0] == 5
    assert formulas(0, 100)[0] == len(toy)
    with pytest.raises(CrystalGymError, match="at least one crystal, got 0"):
        formulas(0, 0)
