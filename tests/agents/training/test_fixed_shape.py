"""Batches of fixed shapes, and the loop over them."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.training.fixed_shape import FixedShapeStore
from crystal_agents.training.fixed_shape_loop import FixedShapeConfig, FixedShapeTraining
from crystal_agents.training.recipes import get_recipe
from crystal_agents.training.transition_batches import TransitionStore
from crystal_gym.errors import CrystalGymError

SETTINGS = {"hidden": 12, "size_h": 7, "layers": 3}
ARRAYS = ("n_sites", "frac_coords", "lattice", "edges", "skeleton", "elements", "focus", "action")


@pytest.fixture(name="data")
def perovskites(perovskite_expert):
    return perovskite_expert


def recipe(network, epochs=3):
    return dataclasses.replace(
        get_recipe(network), settings=SETTINGS, skeletons=32, epochs=epochs, learning_rate=1e-2
    )


def store(data, **options):
    return FixedShapeStore({name: getattr(data, name) for name in ARRAYS}, 32, **options)


def new_policy(data, network, **settings):
    torch.manual_seed(0)
    sites = data.frac_coords.shape[1]
    return SkeletonPolicy(PolicyConfig(network, data.vocabulary, sites, SETTINGS | settings))


def new_training(data, network="gcn", *, compiled=False):
    config = FixedShapeConfig(recipe(network), seed=0, validate_every=2, compiled=compiled)
    return FixedShapeTraining(new_policy(data, network), store(data), store(data), config)


def losses(training):
    return [(row["loss"], row["train_accuracy"]) for row in training.history]


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("egnn-paper", {}),
        ("egnn-paper", {"dgl": True}),
        ("egnn-paper", {"periodic": True}),
        ("gcn", {}),
        ("gcn", {"linear": True}),
    ],
)
def test_logits_equal_those_of_batches_of_any_shape(network, settings, data):
    policy = new_policy(data, network, **settings)
    rows = torch.as_tensor(np.random.default_rng(0).permutation(len(data))[:32])
    ours = store(data, periodic=settings.get("periodic", False)).batch(rows)
    plain = TransitionStore(data).batch(rows[:, None])
    assert (ours.action == plain.action).all()
    torch.testing.assert_close(
        policy(ours.skeletons, ours.elements, ours.focus),
        policy(plain.skeletons, plain.elements, plain.focus),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(data, tmp_path):
    whole = new_training(data)
    whole.run()
    stopped = new_training(data)
    stopped.run(after_epoch=lambda run: run.save(tmp_path / "run") if run.epoch == 1 else None)
    resumed = new_training(data)
    resumed.load(tmp_path / "run")
    assert resumed.epoch == 1
    resumed.run()
    assert losses(resumed) == losses(whole)
    for ours, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_each_run_compiles_its_own_loss(data, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: calls.append("reset"))
    monkeypatch.setattr(torch, "compile", lambda loss, **_: calls.append("compile") or loss)
    new_training(data, compiled=True).run(after_epoch=lambda run: calls.append(run.epoch))
    assert calls == ["reset", "compile", 1, 2, 3]


def test_no_epoch_starts_after_the_deadline(data):
    training = new_training(data)
    training.run(deadline=time.monotonic() - 1)
    assert training.epoch == 0
    assert not training.finished


def test_files_of_two_epochs_are_refused(data, tmp_path):
    training = new_training(data)
    training.save(tmp_path / "run")
    old = (tmp_path / "run.safetensors").read_bytes()
    training.run()
    training.save(tmp_path / "run")
    (tmp_path / "run.safetensors").write_bytes(old)
    with pytest.raises(ValueError, match="two epochs"):
        new_training(data).load(tmp_path / "run")


def test_skeletons_of_different_sizes_are_refused(expert):
    with pytest.raises(CrystalGymError, match="one number of sites"):
        store(expert)


@pytest.mark.parametrize("periodic", [False, True])
def test_batches_do_not_replace_one_kind_of_edges_by_the_other(data, periodic):
    batch = store(data, periodic=periodic).batch(torch.arange(32)).skeletons
    with pytest.raises(ValueError, match="Expected"):
        batch.in_cell_messages() if periodic else batch.periodic_messages()


def test_an_order_with_too_many_edges_in_a_batch_is_refused(data):
    transitions = store(data)
    transitions.max_edges = int(transitions.edge_counts.sum()) // len(transitions)
    with pytest.raises(CrystalGymError, match="edges in a batch"):
        transitions.check_order(torch.arange(len(transitions)))
