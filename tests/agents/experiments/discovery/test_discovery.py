"""The discovery task: the oracle, random search, the methods, resuming and errors."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.cli.main import main
from crystal_agents.experiments.discovery import runner
from crystal_agents.experiments.discovery.methods import METHODS, RULE
from crystal_agents.experiments.discovery.report import build_tables
from crystal_agents.experiments.discovery.results import results_file
from crystal_agents.experiments.discovery.runner import DiscoveryConfig, run_discovery
from crystal_agents.experiments.discovery.search_space import SearchSpace
from crystal_agents.experiments.discovery.task import (
    TASKS,
    DiscoveryTask,
    Oracle,
    random_expectation,
)
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, DamagedFileError, UnknownNameError


@pytest.fixture
def of_grid(grid, monkeypatch):
    """Let the runner load the small grid."""
    monkeypatch.setattr(runner, "load_collection", lambda _: grid)


def test_search_space_has_one_row_for_each_combination(table):
    space = SearchSpace.of(table)
    assert space.sizes == (8, 8, 3)
    assert sorted(space.rows.ravel()) == list(range(192))
    assert (space.rows[tuple(space.choices.T)] == np.arange(192)).all()
    assert np.isfinite(space.descriptors).all()
    assert space.allowed.all()
    ruled = SearchSpace.of(table, RULE)
    numbers = table.vocabulary.decode(table.true_elements)
    by_elements = {tuple(row): ok for row, ok in zip(numbers.tolist(), ruled.allowed, strict=True)}
    assert by_elements[20, 22, 8, 8, 8]  # CaTiO3
    assert by_elements[38, 20, 8, 8, 8] == 0  # SrCaO3
    with pytest.raises(CrystalGymError, match="different elements"):
        SearchSpace.of(EpisodeTable(table.collection.take([0, 0, 1])))


@given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=8))
def test_oracle_counts_distinct_crystals_only(batches):
    targets = np.arange(10) >= 8
    oracle = Oracle(targets, targets.astype(float), 10)
    order = []
    for batch in batches:
        assert oracle.evaluate(np.array(batch, int)).tolist() == [float(c >= 8) for c in batch]
        order = list(dict.fromkeys(order + batch))
        assert oracle.order.tolist() == order
        assert oracle.n_evaluations == len(order) == 10 - oracle.remaining
    assert oracle.found_at == [i + 1 for i, c in enumerate(order) if c >= 8]
    assert oracle.finished == (len(oracle.found_at) == 2 or len(order) == 10)


def test_oracle_refuses_more_than_the_budget():
    oracle = Oracle(np.array([True, False, False]), np.zeros(3), 2)
    oracle.evaluate(np.array([1]))
    with pytest.raises(CrystalGymError, match="at most 1 new crystals within the budget of 2"):
        oracle.evaluate(np.array([0, 1, 2]))
    assert oracle.n_evaluations == 1
    oracle.evaluate(np.array([2, 1, 2]))
    assert oracle.finished
    with pytest.raises(CrystalGymError, match="rows from 0 to 2"):
        oracle.evaluate(np.array([3]))


def test_oracle_reveals_labels_of_evaluated_crystals_only():
    oracle = Oracle(np.array([True, False, False]), np.zeros(3), 3, np.arange(6.0).reshape(3, 2))
    oracle.evaluate(np.array([2]))
    assert oracle.labels(np.array([2])).tolist() == [[4, 5]]
    with pytest.raises(CrystalGymError, match="got 1 whose labels are not revealed"):
        oracle.labels(np.array([2, 0]))


@pytest.mark.parametrize("budget", [0, -1, 4, 1.5, True])
def test_invalid_budgets_are_rejected(budget):
    with pytest.raises(CrystalGymError, match="Expected a budget from 1 to 3"):
        Oracle(np.array([True, False, False]), np.zeros(3), budget)


def test_a_task_needs_targets_and_a_known_name(table, grid):
    with pytest.raises(CrystalGymError, match="at least one target"):
        DiscoveryTask.of(table, TASKS[1]).oracle()
    with pytest.raises(UnknownNameError, match="discovery task"):
        DiscoveryTask.of(table, "match")


def test_random_search_needs_the_expected_number_of_evaluations(table, water_splitting):
    space = SearchSpace.of(table)
    found = []
    for seed in range(300):
        search = water_splitting.search(space, seed)
        METHODS["random"].run(search)
        found.append(search.oracle.found_at)
    expected = [random_expectation(192, 6, k) for k in range(1, 7)]
    # The standard error of the mean is at most 2.2 evaluations.
    np.testing.assert_allclose(np.mean(found, 0), expected, atol=7)
    # The published grid: 18,928 crystals with 20 targets.
    assert round(random_expectation(18_928, 20, 20)) == 18_028


def small(name):
    """Return a method with small networks."""
    method = METHODS[name]
    if "EnsembleSettings" not in method.settings and "DQN" not in method.settings:
        return method
    fast = (("members", 2), ("width", 8), ("first_steps", 10), ("steps", 3))
    return dataclasses.replace(method, options=method.options + fast)


# Methods that end with all targets; PPO can stop earlier.
COMPLETE = [name for name in METHODS if "ppo" not in name]


@pytest.mark.parametrize("name", COMPLETE)
def test_methods_find_all_allowed_targets_within_the_budget(table, water_splitting, name):
    if METHODS[name].needs:
        pytest.importorskip(METHODS[name].needs)
    task, space = water_splitting, SearchSpace.of(table, METHODS[name].mask)
    search = task.search(space, 0)
    small(name).run(search)
    assert len(search.oracle.found_at) == (task.is_target & space.allowed).sum()
    assert space.allowed[search.oracle.order].all()
    # The same seed gives the same search, and a smaller budget its beginning.
    short = task.search(space, 0, 40)
    small(name).run(short)
    assert short.oracle.n_evaluations <= 40
    if name.startswith("random"):
        assert short.oracle.n_evaluations == min(40, len(search.oracle.order))


def test_finished_searches_are_not_repeated(of_grid, tmp_path, monkeypatch):
    config = DiscoveryConfig(tasks=TASKS[:1], methods=("random", "self-imitation"), seeds=(0, 1))
    searches = run_discovery(config, tmp_path)
    first = [next(searches), next(searches)]
    searches.close()  # as after a kill
    rest = list(run_discovery(config, tmp_path))
    assert [(r.method, r.seed) for r in first + rest] == list(
        product(("random", "self-imitation"), (0,))
    ) + list(product(("random", "self-imitation"), (1,)))
    stored = results_file(tmp_path).load()
    assert stored == first + rest
    assert list(run_discovery(config, tmp_path)) == []
    (report,) = build_tables(config.select(stored))
    assert [row[0] for row in report.rows] == [METHODS[m].title for m in config.methods]
    assert report.headings[1:4] == ("1 found", "3 found", "6 found")
    with pytest.raises(CrystalGymError, match="budget of 50 evaluations"):
        next(run_discovery(dataclasses.replace(config, budget=50), tmp_path))


def test_a_budget_that_ends_early_is_reported(of_grid, tmp_path):
    config = DiscoveryConfig(tasks=TASKS[:1], methods=("random",), seeds=(0,), budget=1)
    (record,) = run_discovery(config, tmp_path)
    assert record.evaluations == 1
    (report,) = build_tables([record])
    assert report.rows[0][3] == "≥ 1 (0 of 1)"
    assert report.rows[0][4] == ""
    assert any("lower bound" in note for note in report.notes)
    # Searches that found all targets count with these, others with all their evaluations.
    complete = dataclasses.replace(record, seed=1, found_at=tuple(range(2, 8)), evaluations=7)
    (report,) = build_tables([record, complete])
    assert report.rows[0][3] == "≥ 4 (1 of 2)"


def test_results_of_other_crystals_or_damaged_results_are_rejected(of_grid, grid, tmp_path):
    config = DiscoveryConfig(tasks=TASKS[:1], methods=("random",), seeds=(0,))
    list(run_discovery(config, tmp_path))
    grid.labels["heat_all"][0] += 1
    try:
        with pytest.raises(CrystalGymError, match="other labels"):
            list(run_discovery(config, tmp_path))
    finally:
        grid.labels["heat_all"][0] -= 1
    results_file(tmp_path).path.write_text("[{")
    with pytest.raises(DamagedFileError, match="repeats all searches"):
        list(run_discovery(config, tmp_path))


def test_invalid_selections_are_rejected(capsys, tmp_path):
    folder = ["--folder", str(tmp_path)]
    cases = {
        "Did you mean 'genetic'": ["discovery", "--methods", "genetics"],
        "discovery task 'match'": ["discovery", "--rewards", "match"],
        "at least 1 evaluation, got 0": ["discovery", "--budget", "0"],
        "at least 1 evaluation, got -3": ["discovery", "--budget", "-3"],
        "found none": ["discovery", "--report-only"],
        "Expected --budget with the config discovery": ["smoke", "--budget", "5"],
    }
    for message, arguments in cases.items():
        assert main(["benchmark", *arguments, *folder]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.real
def test_the_published_targets_can_be_found(whole_perov5):
    table = EpisodeTable(whole_perov5)
    space = SearchSpace.of(table)
    assert space.sizes == (52, 52, 7)
    assert (space.rows >= 0).all()
    assert [DiscoveryTask.of(table, name).is_target.sum() for name in TASKS] == [20, 8]
