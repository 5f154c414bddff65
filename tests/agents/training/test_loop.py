"""The epoch loop: resuming, several processes, validation, patience and TensorBoard."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import training_runs
from training_runs import (
    SHARED,
    SMALL,
    InterruptedTraining,
    interrupt_step,
    limit_epochs,
    read_history,
    run_cloning,
    run_cql,
    run_shared,
    same_weights,
)

from crystal_agents.policies.policy import load_policy
from crystal_agents.training import loop
from crystal_agents.training.recipes import RECIPES
from crystal_agents.training.transition_batches import TransitionStore
from crystal_agents.training.validation import teacher_forced_accuracy
from crystal_gym.errors import TimeLimitError

HELPERS = Path(training_runs.__file__).parent
LOAD = """
import dataclasses, sys
from pathlib import Path
sys.path.insert(0, {helpers!r})
from training_runs import SMALL, run_cloning, run_shared
from crystal_datasets import load_transitions
if __name__ == "__main__":
    data = load_transitions("crystal-gym/toy/expert-all-v0", progress=False)
"""
ONE_PROCESS = """
    recipe = dataclasses.replace(SMALL, epochs=60)
    run_cloning(Path({folder!r}), data, recipe, checkpoint_seconds=0)
"""
TWO_PROCESSES = """
    run_shared(Path({folder!r}), data, devices=2)
"""


def start_and_kill(command, env, folder):
    """Kill a training process after its first epoch."""
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "policy.json").exists()


@pytest.fixture
def environment(expert, minari_folder):
    """Environment variables of a process that trains on the expert's transitions."""
    return os.environ | {"MINARI_DATASETS_PATH": str(minari_folder), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("step", [1, 6, 7, 18])
def test_a_resumed_run_has_the_weights_and_history_of_an_uninterrupted_one(
    expert, tmp_path, monkeypatch, step
):
    whole = run_cloning(tmp_path / "whole", expert, validation=expert, validate_every=1)
    options = {"validation": expert, "validate_every": 1, "checkpoint_seconds": 0}
    with monkeypatch.context() as patch:
        interrupt_step(patch, torch.optim.AdamW, step)
        with pytest.raises(InterruptedTraining):
            run_cloning(tmp_path / "parts", expert, **options)
    parts = run_cloning(tmp_path / "parts", expert, **options)
    assert same_weights(whole, parts)
    assert read_history(tmp_path / "parts") == read_history(tmp_path / "whole")


def test_a_resumed_run_of_the_paper_with_patience_has_the_same_weights(
    expert, tmp_path, monkeypatch
):
    recipe = dataclasses.replace(RECIPES["egnn-paper"], settings={"hidden": 16}, epochs=6)
    recipe = dataclasses.replace(recipe, skeletons=64)
    options = {"validation": expert, "validate_every": 1, "patience": 3, "checkpoint_seconds": 0}
    whole = run_cloning(tmp_path / "whole", expert, recipe, **options)
    with monkeypatch.context() as patch:
        interrupt_step(patch, torch.optim.Adam, 8)
        with pytest.raises(InterruptedTraining):
            run_cloning(tmp_path / "parts", expert, recipe, **options)
    assert same_weights(whole, run_cloning(tmp_path / "parts", expert, recipe, **options))


@pytest.mark.filterwarnings("ignore::UserWarning")  # torchrl warns when it is imported
@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_resumed_cql_run_has_the_weights_and_history_of_an_uninterrupted_one(
    random, tmp_path, monkeypatch, step
):
    whole = run_cql(tmp_path / "whole", random)
    with monkeypatch.context() as patch:
        interrupt_step(patch, torch.optim.AdamW, step)
        with pytest.raises(InterruptedTraining):
            run_cql(tmp_path / "parts", random, checkpoint_seconds=0)
    assert same_weights(whole, run_cql(tmp_path / "parts", random, checkpoint_seconds=0))
    history = read_history(tmp_path / "whole")
    assert read_history(tmp_path / "parts") == history
    assert {"loss_qvalue", "loss_cql", "target_value"} <= set(history[0])


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_checkpoint(expert, environment, tmp_path):
    folder = tmp_path / "killed"
    script = (LOAD + ONE_PROCESS).format(helpers=str(HELPERS), folder=str(folder))
    start_and_kill([sys.executable, "-c", script], environment, folder)
    progress = torch.load(folder / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["step"] > 0
    recipe = dataclasses.replace(SMALL, epochs=60)
    resumed = run_cloning(folder, expert, recipe)
    assert same_weights(resumed, run_cloning(tmp_path / "whole", expert, recipe))


@pytest.mark.slow
def test_two_killed_and_resumed_processes_give_the_weights_of_one_process(
    expert, environment, tmp_path
):
    groups = TransitionStore(expert).groups(SHARED.states, torch.Generator())
    assert len(groups) % SHARED.skeletons == 1, "the second process has no share of the last batch"
    folder = tmp_path / "two"
    script = tmp_path / "script.py"
    script.write_text((LOAD + TWO_PROCESSES).format(helpers=str(HELPERS), folder=str(folder)))
    command = [sys.executable, str(script)]
    start_and_kill(command, environment, folder)
    subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)
    single = run_shared(tmp_path / "single", expert)
    for key, value in load_policy(folder).state_dict().items():
        torch.testing.assert_close(value, single.state_dict()[key], rtol=0, atol=1e-5)

    def metrics(name):
        columns = ("step", "loss", "train_accuracy", "val_accuracy")
        rows = read_history(tmp_path / name)
        return [[float(row[column] or "nan") for column in columns] for row in rows]

    np.testing.assert_allclose(metrics("two"), metrics("single"), rtol=0, atol=1e-5)
    assert metrics("single")[-1][1] < metrics("single")[0][1]


def test_the_time_limit_ends_a_run_after_an_epoch(expert, tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPES["gcn"], settings={"hidden": 16}, epochs=2)
    whole = run_cloning(tmp_path / "whole", expert, recipe)
    with monkeypatch.context() as patch:
        limit_epochs(patch, loop, 1)
        with pytest.raises(TimeLimitError, match="the run parts after 1 of 2 epochs"):
            run_cloning(tmp_path / "parts", expert, recipe, deadline=0.0)
    assert not (tmp_path / "parts" / "policy.json").exists()
    assert read_history(tmp_path / "parts") == read_history(tmp_path / "whole")[:1]
    assert same_weights(whole, run_cloning(tmp_path / "parts", expert, recipe))
    assert read_history(tmp_path / "parts") == read_history(tmp_path / "whole")


def test_a_finished_run_is_not_trained_again(expert, tmp_path):
    first = run_cloning(tmp_path, expert)
    before = (tmp_path / "metrics.csv").read_text()
    assert same_weights(first, run_cloning(tmp_path, expert))
    assert (tmp_path / "metrics.csv").read_text() == before


def test_patience_stops_the_run_and_keeps_the_best_weights(expert, tmp_path):
    recipe = dataclasses.replace(SMALL, epochs=50, learning_rate=0.0)
    policy = run_cloning(tmp_path, expert, recipe, expert, validate_every=1, patience=3)
    record = policy.config.training
    assert record["epochs"] == 4
    accuracy = teacher_forced_accuracy(policy, TransitionStore(expert))
    assert np.isclose(accuracy, record["val_accuracy"])


def test_with_patience_the_recorded_accuracy_is_that_of_the_best_weights(expert, tmp_path):
    # With this high learning rate, the accuracy increases and decreases.
    recipe = dataclasses.replace(
        SMALL, epochs=12, learning_rate=0.1, clip=0.0, average=0.0, schedule="constant"
    )
    for seed in range(8):  # whether the last epoch is the best depends on rounding
        run = tmp_path / str(seed)
        policy = run_cloning(run, expert, recipe, expert, validate_every=1, patience=12, seed=seed)
        accuracies = [float(row["val_accuracy"]) for row in read_history(run)]
        if accuracies[-1] < max(accuracies):
            break
    assert accuracies[-1] < max(accuracies)
    assert policy.config.training["val_accuracy"] == max(accuracies)
    found = teacher_forced_accuracy(policy, TransitionStore(expert))
    assert np.isclose(found, max(accuracies))


def test_the_last_epoch_is_validated(expert, tmp_path):
    run_cloning(tmp_path, expert, validation=expert, validate_every=3)
    validated = [bool(row["val_accuracy"]) for row in read_history(tmp_path)]
    assert validated == [False, False, True, True]


def test_tensorboard_events_are_written_on_request(expert, tmp_path):
    run_cloning(tmp_path / "cloning", expert, loggers=("tensorboard",))
    assert list((tmp_path / "cloning" / "tensorboard").glob("events.*"))
