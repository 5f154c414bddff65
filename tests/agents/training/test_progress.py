"""Metrics of an epoch, early stopping and the history file."""

import csv

import pytest
import torch
from torch import nn

from crystal_agents.training.history import write_history
from crystal_agents.training.progress import Progress


def test_metrics_are_means_over_states_and_predictions():
    progress = Progress()
    progress.add({"loss": 6.0, "correct": 3, "actions": 4, "loss_cql": 2.0}, states=2)
    progress.add({"loss": 2.0, "correct": 1, "actions": 4, "loss_cql": 2.0}, states=2)
    progress.seconds = 0.5
    assert progress.end_epoch() == {
        "loss": 2.0,
        "loss_cql": 1.0,
        "train_accuracy": 0.5,
        "transitions_per_second": 8.0,
        "seconds": 0.5,
    }
    assert (progress.states, progress.seconds, progress.sums) == (0, 0.0, {})


def test_metrics_before_the_first_batch_are_zero():
    assert set(Progress().metrics().values()) == {0.0}


def test_patience_counts_validations_without_improvement():
    progress, policy = Progress(), nn.Linear(1, 1, bias=False)
    nn.init.constant_(policy.weight, 1.0)
    progress.keep_if_best(policy, 0.5, patience=2)
    nn.init.constant_(policy.weight, 2.0)
    progress.keep_if_best(policy, 0.5, patience=2)
    assert not progress.stopped
    progress.keep_if_best(policy, 0.4, patience=2)
    assert progress.stopped
    assert progress.best_accuracy == 0.5
    assert torch.equal(progress.best["weight"], torch.ones(1, 1))


def test_an_improvement_resets_patience():
    progress, policy = Progress(), nn.Linear(1, 1)
    for accuracy in (0.1, 0.0, 0.2, 0.1):
        progress.keep_if_best(policy, accuracy, patience=2)
    assert not progress.stopped
    assert progress.since_best == 1


def test_a_history_has_the_columns_of_all_rows(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    write_history(path, [{"epoch": 1}, {"epoch": 2, "val_accuracy": 0.25}])
    with path.open() as file:
        assert list(csv.DictReader(file)) == [
            {"epoch": "1", "val_accuracy": ""},
            {"epoch": "2", "val_accuracy": "0.25"},
        ]
    assert [file.name for file in path.parent.iterdir()] == ["metrics.csv"]


class Unwritable(float):
    def __repr__(self):
        raise RuntimeError

    __str__ = __repr__


def test_a_failed_write_keeps_the_previous_history(tmp_path):
    path = tmp_path / "metrics.csv"
    write_history(path, [{"epoch": 1}])
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        write_history(path, [{"epoch": 1}, {"epoch": Unwritable(2)}])
    assert path.read_bytes() == before
