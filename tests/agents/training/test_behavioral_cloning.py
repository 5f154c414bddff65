"""Training: it learns, and it goes on exactly where it was stopped."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from crystal_agents.networks.egnn import EGNN
from crystal_agents.policies.policy import load_policy
from crystal_agents.training import behavioral_cloning
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.loop import teacher_forced_accuracy
from crystal_agents.training.recipes import RECIPES, Recipe, get_recipe
from crystal_agents.training.transition_batches import TransitionStore
from crystal_datasets import build_dataset, load_transitions
from crystal_gym.errors import CrystalGymError, DamagedFileError, UnknownNameError

SMALL = Recipe(
    "egnn",
    {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1},
    epochs=4,
    skeletons=12,
    states=3,
)


@pytest.fixture(scope="module")
def minari_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("minari")


@pytest.fixture(scope="module")
def data(toy, minari_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(minari_folder))
        return load_transitions(build_dataset(toy, "all", progress=False), progress=False)


def run(folder, data, recipe=SMALL, validation=None, **changes):
    args = TrainingConfig(folder, recipe, **changes)
    return train(args, data.vocabulary, data, validation, progress=False)


def same_weights(first, second):
    return all(
        torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items()
    )


@pytest.mark.parametrize("traversals", ["expert", "random"])
def test_the_expert_of_a_few_crystals_is_learned_by_heart(data, tmp_path, traversals):
    recipe = dataclasses.replace(
        SMALL, epochs=60, skeletons=20, learning_rate=1e-2, traversals=traversals, weight_decay=0
    )
    policy = run(tmp_path, data, recipe)
    assert teacher_forced_accuracy(policy, TransitionStore(data)) > 0.9


@pytest.mark.parametrize("name", ["egnn-paper", "gcn"])
def test_the_paper_recipes_learn(data, tmp_path, name):
    recipe = dataclasses.replace(RECIPES[name], settings={"hidden": 32}, epochs=40, skeletons=64)
    run(tmp_path, data, recipe)
    with (tmp_path / "metrics.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 40
    assert losses[-1] < 0.6 * losses[0]


def test_the_recipes_of_the_paper_have_its_settings():
    for name in ("egnn-paper", "gcn"):
        recipe = get_recipe(name)
        assert (recipe.epochs, recipe.skeletons * recipe.states) == (1000, 2048)
        assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-3, 1e-5)
        assert (recipe.schedule, recipe.traversals) == ("constant", "expert")
        assert (recipe.average, recipe.clip) == (0, 0)
    with pytest.raises(UnknownNameError, match="egnn-paper"):
        get_recipe("egnn_paper")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data, tmp_path):
    first, second = run(tmp_path / "a", data, seed=1), run(tmp_path / "b", data, seed=1)
    assert same_weights(first, second)
    assert not same_weights(first, run(tmp_path / "c", data, seed=2))


def test_a_policy_remembers_how_it_was_trained(data, tmp_path):
    run(tmp_path, data, validation=data, provenance={"data": data.dataset_id})
    record = load_policy(tmp_path).config.training
    assert record["data"] == data.dataset_id
    assert record["epochs"] == 4
    assert record["transitions"] == len(data)
    assert 0 <= record["val_accuracy"] <= 1


class Stopped(Exception):  # noqa: N818 - a signal, no error
    pass


@pytest.mark.parametrize("steps", [1, 6, 7, 18])
def test_a_stopped_run_ends_with_the_weights_and_losses_of_an_uninterrupted_one(
    data, tmp_path, monkeypatch, steps
):
    whole = run(tmp_path / "whole", data, validation=data, validate_every=1)
    adamw_step = torch.optim.AdamW.step
    taken = []

    def step(self, *args, **kwargs):
        taken.append(1)
        if len(taken) == steps:
            raise Stopped
        return adamw_step(self, *args, **kwargs)

    options = {"validation": data, "validate_every": 1, "checkpoint_seconds": 0}
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(Stopped):
            run(tmp_path / "parts", data, **options)
    parts = run(tmp_path / "parts", data, **options)
    assert same_weights(whole, parts)

    def history(folder):
        with (tmp_path / folder / "metrics.csv").open() as file:
            return [
                {k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)
            ]

    assert history("parts") == history("whole")


SCRIPT = """
import sys, dataclasses
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_behavioral_cloning import SMALL, run
from crystal_datasets import load_transitions
data = load_transitions("crystal-gym/toy/expert-all-v0", progress=False)
recipe = dataclasses.replace(SMALL, epochs=60)
run(Path({folder!r}), data, recipe, checkpoint_seconds=0)
"""


def test_a_killed_run_goes_on_from_its_checkpoint(data, minari_folder, tmp_path):
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder))
    env = os.environ | {"MINARI_DATASETS_PATH": str(minari_folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    process = subprocess.Popen(command, env=env)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "policy.json").exists()
    progress = torch.load(folder / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["step"] > 0
    recipe = dataclasses.replace(SMALL, epochs=60)
    resumed = run(folder, data, recipe, checkpoint_seconds=0)
    assert same_weights(resumed, run(tmp_path / "whole", data, recipe))


SHARED = dataclasses.replace(
    SMALL,
    settings=SMALL.settings | {"dropout": 0.0},
    epochs=30,
    skeletons=61,
    learning_rate=0.03,
    schedule="constant",
)
TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_behavioral_cloning import train_together
from crystal_datasets import load_transitions
if __name__ == "__main__":
    data = load_transitions("crystal-gym/toy/expert-all-v0", progress=False)
    train_together(Path({folder!r}), data, devices=2)
"""


def train_together(folder, data, **changes):
    """Plain gradient descent: Adam divides the tiniest gradients by their own, noisy size."""

    def optimizers(policy, recipe):
        return [torch.optim.SGD(policy.parameters(), lr=recipe.learning_rate)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behavioral_cloning, "make_optimizers", optimizers)
        return run(folder, data, SHARED, data, checkpoint_seconds=0, **changes)


def test_two_processes_learn_what_one_learns_even_when_killed(data, minari_folder, tmp_path):
    groups = TransitionStore(data).groups(SHARED.states, torch.Generator())
    assert len(groups) % SHARED.skeletons == 1, "the second process has no share of the last batch"
    folder = tmp_path / "two"
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parent), folder=str(folder)))
    env = os.environ | {"MINARI_DATASETS_PATH": str(minari_folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script)]
    killed = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "policy.json").exists()
    subprocess.run(command, env=env, check=True, timeout=120, capture_output=True)
    one = train_together(tmp_path / "one", data)
    for key, value in load_policy(folder).state_dict().items():
        torch.testing.assert_close(value, one.state_dict()[key], rtol=0, atol=1e-5)

    def metrics(name):
        with (tmp_path / name / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        columns = ("step", "loss", "train_accuracy", "val_accuracy")
        return [[float(row[column] or "nan") for column in columns] for row in rows]

    np.testing.assert_allclose(metrics("two"), metrics("one"), rtol=0, atol=1e-5)
    assert metrics("one")[-1][1] < metrics("one")[0][1]


def test_a_stopped_run_of_the_paper_with_patience_goes_on_too(data, tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPES["egnn-paper"], settings={"hidden": 16}, epochs=6)
    recipe = dataclasses.replace(recipe, skeletons=64)
    options = {"validation": data, "validate_every": 1, "patience": 3, "checkpoint_seconds": 0}
    whole = run(tmp_path / "whole", data, recipe, **options)
    adam_step, taken = torch.optim.Adam.step, []

    def step(self, *args, **kwargs):
        taken.append(1)
        if len(taken) == 8:
            raise Stopped
        return adam_step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with pytest.raises(Stopped):
            run(tmp_path / "parts", data, recipe, **options)
    assert same_weights(whole, run(tmp_path / "parts", data, recipe, **options))


def test_a_finished_run_is_not_trained_again(data, tmp_path):
    first = run(tmp_path, data)
    before = (tmp_path / "metrics.csv").read_text()
    assert same_weights(first, run(tmp_path, data))
    assert (tmp_path / "metrics.csv").read_text() == before


@pytest.mark.parametrize("change", [{"seed": 5}, {"recipe": dataclasses.replace(SMALL, epochs=5)}])
def test_a_checkpoint_of_other_settings_is_refused_and_kept(data, tmp_path, change):
    run(tmp_path, data)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CrystalGymError, match="other settings"):
        run(tmp_path, data, **change)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_another_vocabulary_is_refused(data, tmp_path):
    run(tmp_path, data)
    other = dataclasses.replace(data, vocabulary=tuple(reversed(data.vocabulary)))
    with pytest.raises(CrystalGymError, match="another vocabulary"):
        run(tmp_path, other)


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_truncated_checkpoint_is_told(data, tmp_path, keep):
    run(tmp_path, data)
    content = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DamagedFileError, match="Delete it to begin anew"):
        run(tmp_path, data)


def test_a_full_disk_leaves_the_old_checkpoint(data, tmp_path, monkeypatch):
    run(tmp_path, data, dataclasses.replace(SMALL, epochs=4))
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CrystalGymError, match="No space left"):
        run(tmp_path, data)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_patience_stops_and_keeps_the_best_weights(data, tmp_path):
    recipe = dataclasses.replace(SMALL, epochs=50, learning_rate=0.0)
    policy = run(tmp_path, data, recipe, data, validate_every=1, patience=3)
    record = policy.config.training
    assert record["epochs"] == 4
    accuracy = teacher_forced_accuracy(policy, TransitionStore(data))
    assert np.isclose(accuracy, record["val_accuracy"])


@pytest.mark.parametrize(
    "change",
    [
        {"validate_every": 0},
        {"devices": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"accelerator": "abacus"},
        {"patience": -1},
        {"recipe": dataclasses.replace(SMALL, epochs=0)},
        {"recipe": dataclasses.replace(SMALL, learning_rate=-1.0)},
        {"recipe": dataclasses.replace(SMALL, learning_rate=np.inf)},
    ],
)
def test_settings_that_cannot_be_are_told(data, tmp_path, change):
    with pytest.raises(CrystalGymError, match=r"must be at least|Cannot train|seed is a whole"):
        run(tmp_path, data, **({"recipe": SMALL} | change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["egnn", "egnn-paper", "gcn"])
def test_mixed_precision_trains(data, tmp_path, name):
    settings = SMALL.settings if name == "egnn" else {"hidden": 16}
    recipe = dataclasses.replace(RECIPES[name], settings=settings, epochs=2, skeletons=32)
    run(tmp_path, data, recipe, data, precision="bf16-mixed")
    with (tmp_path / "metrics.csv").open() as file:
        assert all(np.isfinite(float(row["loss"])) for row in csv.DictReader(file))


def test_mixed_precision_leaves_the_geometry_as_it_is(data, tmp_path, monkeypatch):
    exact = set(TransitionStore(data).skeletons.batch().frac_coords.flatten().tolist())
    seen = []
    forward = EGNN.forward

    def spy(self, batch, elements):
        seen.append((batch.frac_coords.dtype, torch.is_autocast_enabled("cpu")))
        assert set(batch.frac_coords.flatten().tolist()) <= exact
        return forward(self, batch, elements)

    monkeypatch.setattr(EGNN, "forward", spy)
    run(tmp_path, data, SMALL, precision="bf16-mixed")
    assert set(seen) == {(torch.float32, True)}


def test_with_patience_the_accuracy_told_is_that_of_the_weights_kept(data, tmp_path):
    # So high a rate makes the accuracy go up and down.
    recipe = dataclasses.replace(
        SMALL, epochs=12, learning_rate=0.1, clip=0.0, average=0.0, schedule="constant"
    )
    policy = run(tmp_path, data, recipe, data, validate_every=1, patience=12, seed=0)
    with (tmp_path / "metrics.csv").open() as file:
        accuracies = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
    assert accuracies[-1] < max(accuracies)
    assert policy.config.training["val_accuracy"] == max(accuracies)
    assert np.isclose(teacher_forced_accuracy(policy, TransitionStore(data)), max(accuracies))


def test_patience_needs_a_validation_set(data, tmp_path):
    with pytest.raises(CrystalGymError, match="validation"):
        run(tmp_path, data, patience=3)


def test_tensorboard_events_are_written_when_asked_for(data, tmp_path):
    run(tmp_path, data, tensorboard=True)
    assert list((tmp_path / "tensorboard").glob("events.*"))
