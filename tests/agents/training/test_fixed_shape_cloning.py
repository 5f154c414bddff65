"""Cloning with batches of fixed shapes: the losses, weights and files of the plain loop."""

import dataclasses
import re

import pytest
import torch
from training_runs import (
    InterruptedTraining,
    interrupt_step,
    limit_epochs,
    read_history,
    run_cloning,
    same_weights,
)

from crystal_agents.training import fixed_shape_loop, loop
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.fixed_shape_cloning import fixed_shapes_problem, train_fixed_shapes
from crystal_agents.training.recipes import get_recipe
from crystal_gym.errors import CrystalGymError, TimeLimitError

RECIPE = dataclasses.replace(
    get_recipe("gcn"),
    settings={"hidden": 12, "size_h": 7, "layers": 3},
    skeletons=32,
    epochs=3,
    learning_rate=1e-2,
)


def run_plain(folder, data, recipe=RECIPE, **changes):
    return run_cloning(folder, data, recipe, data, validate_every=2, **changes)


def run_fixed(folder, data, recipe=RECIPE, **changes):
    config = TrainingConfig(folder, recipe, validate_every=2, **changes)
    return train_fixed_shapes(config, data, data, progress=False)


# The module with the loop of each function.
LOOPS = {run_plain: loop, run_fixed: fixed_shape_loop}


def history(folder):
    """Return the numbers in the history of a run, NaN where a value is missing."""
    rows = read_history(folder)
    return [[float(value or "nan") for value in row.values()] for row in rows]


@pytest.fixture(scope="module")
def whole(perovskite_expert, tmp_path_factory):
    """Return the policy and the folder of an uninterrupted run with each function."""
    folders = {run: tmp_path_factory.mktemp("whole") for run in LOOPS}
    return {run: (run(folder, perovskite_expert), folder) for run, folder in folders.items()}


def assert_close(policy, other):
    for name, weight in policy.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], rtol=1e-3, atol=1e-4)


def assert_same_history(folder, other):
    for row, expected in zip(history(folder), history(other), strict=True):
        assert row == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_losses_weights_and_files_equal_those_of_the_plain_loop(whole):
    (policy, folder), (other, expected) = whole[run_fixed], whole[run_plain]
    assert_close(policy, other)
    assert_same_history(folder, expected)
    assert read_history(folder)[0].keys() == read_history(expected)[0].keys()
    assert {path.name for path in folder.iterdir()} == {path.name for path in expected.iterdir()}
    records = [dict(trained.config.training) for trained in (policy, other)]
    for record in records:
        del record["seconds"]
        record["train_accuracy"] = pytest.approx(record["train_accuracy"])
    assert records[0] == records[1]


def test_losses_of_the_other_network_equal_those_of_the_plain_loop(perovskite_expert, tmp_path):
    recipe = dataclasses.replace(RECIPE, network="egnn-paper", epochs=2)
    fixed, plain = tmp_path / "fixed", tmp_path / "plain"
    policy = run_fixed(fixed, perovskite_expert, recipe)
    assert_close(policy, run_plain(plain, perovskite_expert, recipe))
    assert_same_history(fixed, plain)


@pytest.mark.parametrize(
    "loops", [(run_fixed, run_fixed), (run_fixed, run_plain), (run_plain, run_fixed)]
)
def test_a_run_that_the_time_limit_ends_is_resumed_with_either_loop(
    whole, perovskite_expert, tmp_path, monkeypatch, loops
):
    first, second = loops
    with monkeypatch.context() as patch:
        limit_epochs(patch, LOOPS[first], 2)
        with pytest.raises(TimeLimitError, match="after 2 of 3 epochs"):
            first(tmp_path, perovskite_expert, deadline=0.0)
    assert len(read_history(tmp_path)) == 2
    assert not (tmp_path / "policy.json").exists()
    policy = second(tmp_path, perovskite_expert)
    expected, folder = whole[second]
    assert_close(policy, expected)
    assert_same_history(tmp_path, folder)
    if first is second:
        assert same_weights(policy, expected)
        assert read_history(tmp_path) == read_history(folder)


def test_a_killed_run_has_the_weights_and_history_of_an_uninterrupted_one(
    whole, perovskite_expert, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt_step(patch, torch.optim.Adam, 20)
        with pytest.raises(InterruptedTraining):
            run_fixed(tmp_path, perovskite_expert, checkpoint_seconds=0)
    policy, folder = whole[run_fixed]
    assert same_weights(policy, run_fixed(tmp_path, perovskite_expert))
    assert read_history(tmp_path) == read_history(folder)


def test_a_checkpoint_within_an_epoch_is_refused(perovskite_expert, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_step(patch, torch.optim.Adam, 12)
        with pytest.raises(InterruptedTraining):
            run_plain(tmp_path, perovskite_expert, checkpoint_seconds=0)
    with pytest.raises(CrystalGymError, match=r"within epoch 2. Resume without fixed shapes"):
        run_fixed(tmp_path, perovskite_expert)


@pytest.mark.parametrize(
    ("changes", "recipe_changes", "problem"),
    [
        ({}, {}, None),
        ({"precision": "tf32"}, {}, None),
        ({"precision": "16-mixed"}, {}, "precision .* got '16-mixed'"),
        ({"patience": 2}, {}, "patience 0, got 2"),
        ({}, {"network": "egnn"}, "network 'egnn-paper' or 'gcn', got 'egnn'"),
        ({}, {"optimizer": "muon"}, "optimizer 'adam', got 'muon'"),
        ({}, {"states": 5}, "states 1, got 5"),
    ],
)
def test_settings_that_exclude_fixed_shapes_are_named(
    perovskite_expert, tmp_path, changes, recipe_changes, problem
):
    config = TrainingConfig(tmp_path, dataclasses.replace(RECIPE, **recipe_changes), **changes)
    found = fixed_shapes_problem(config, perovskite_expert)
    assert (found is None) == (problem is None)
    if problem is not None:
        assert re.search(problem, found)


def test_skeletons_of_different_sizes_are_refused(expert, tmp_path):
    with pytest.raises(CrystalGymError, match=r"one number of sites, got 1 to 6.*without fixed"):
        run_fixed(tmp_path, expert)
    assert not list(tmp_path.iterdir())
