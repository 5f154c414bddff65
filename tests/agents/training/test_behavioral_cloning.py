"""Behavioral cloning: learning, reproducibility and the record of the training."""

import dataclasses

import numpy as np
import pytest
import torch
from training_runs import SHARED, SMALL, read_history, run_cloning, same_weights

from crystal_agents.networks.egnn import EGNN
from crystal_agents.policies.policy import load_policy
from crystal_agents.training.recipes import RECIPES
from crystal_agents.training.transition_batches import TransitionStore
from crystal_agents.training.validation import teacher_forced_accuracy
from crystal_gym.errors import CrystalGymError


@pytest.mark.parametrize("traversals", ["expert", "random"])
def test_a_policy_overfits_a_few_crystals(expert, tmp_path, traversals):
    recipe = dataclasses.replace(
        SHARED,
        epochs=60,
        schedule="cosine",
        skeletons=20,
        learning_rate=1e-2,
        traversals=traversals,
        weight_decay=0,
    )
    policy = run_cloning(tmp_path, expert, recipe)
    assert teacher_forced_accuracy(policy, TransitionStore(expert)) > 0.9


@pytest.mark.parametrize("name", ["egnn-paper", "gcn"])
def test_paper_recipes_reduce_the_loss(expert, tmp_path, name):
    recipe = dataclasses.replace(RECIPES[name], settings={"hidden": 32}, epochs=40, skeletons=64)
    run_cloning(tmp_path, expert, recipe)
    losses = [float(row["loss"]) for row in read_history(tmp_path)]
    assert len(losses) == 40
    assert losses[-1] < 0.6 * losses[0]


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(expert, tmp_path):
    first = run_cloning(tmp_path / "a", expert, seed=1)
    second = run_cloning(tmp_path / "b", expert, seed=1)
    assert same_weights(first, second)
    assert not same_weights(first, run_cloning(tmp_path / "c", expert, seed=2))


def test_a_policy_records_its_training(expert, tmp_path):
    run_cloning(tmp_path, expert, validation=expert, provenance={"data": expert.dataset_id})
    record = load_policy(tmp_path).config.training
    assert record["data"] == expert.dataset_id
    assert record["epochs"] == 4
    assert record["transitions"] == len(expert)
    assert 0 <= record["val_accuracy"] <= 1


def test_the_policy_has_the_vocabulary_of_the_data(expert, tmp_path):
    recipe = dataclasses.replace(SMALL, epochs=1)
    assert run_cloning(tmp_path, expert, recipe).config.symbols == expert.vocabulary


def test_random_traversals_reject_data_with_several_fillings(random, tmp_path):
    with pytest.raises(
        CrystalGymError, match="Expected transitions with one filling for each crystal"
    ):
        run_cloning(tmp_path, random, dataclasses.replace(SMALL, epochs=1))


@pytest.mark.parametrize("name", ["egnn", "egnn-paper", "gcn"])
def test_mixed_precision_trains(expert, tmp_path, name):
    settings = SMALL.settings if name == "egnn" else {"hidden": 16}
    recipe = dataclasses.replace(RECIPES[name], settings=settings, epochs=2, skeletons=32)
    run_cloning(tmp_path, expert, recipe, expert, precision="bf16-mixed")
    assert all(np.isfinite(float(row["loss"])) for row in read_history(tmp_path))


def test_mixed_precision_does_not_round_the_geometry(expert, tmp_path, monkeypatch):
    exact = set(TransitionStore(expert).skeletons.batch().frac_coords.flatten().tolist())
    modes = []
    forward = EGNN.forward

    def spy(self, batch, elements, geometry):
        modes.append((batch.frac_coords.dtype, torch.is_autocast_enabled("cpu")))
        assert set(batch.frac_coords.flatten().tolist()) <= exact
        return forward(self, batch, elements, geometry)

    monkeypatch.setattr(EGNN, "forward", spy)
    run_cloning(tmp_path, expert, precision="bf16-mixed")
    assert set(modes) == {(torch.float32, True)}
