"""Conditional behavioral cloning: labels of transitions, dropped targets, and what is learned."""

import dataclasses

import numpy as np
import pytest
import torch
from training_runs import SMALL

from crystal_agents.policies.policy import PolicyScorer
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.objectives import make_objective
from crystal_agents.training.recipes import RECIPES
from crystal_agents.training.seeding import make_generator
from crystal_agents.training.targets import SkeletonTargets, standardized_labels
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable, start
from crystal_gym.errors import CrystalGymError, UnknownNameError


@pytest.fixture
def labeled(toy) -> CrystalCollection:
    """Return the toy crystals with a label, which is unknown for crystal 3."""
    label = np.arange(len(toy), dtype=np.float64)
    label[3] = np.nan
    return dataclasses.replace(toy, labels={"heat": label})


@pytest.fixture
def targets(expert, labeled):
    return SkeletonTargets.from_labels(expert, labeled, ["heat"], 0.25)


def test_each_skeleton_has_the_label_of_its_crystal(expert, labeled, targets):
    rows = [labeled.index(name) for name in expert.skeleton_ids]
    known = targets.targets
    expected = (labeled.labels["heat"][rows] - known.mean[0]) / known.deviation[0]
    np.testing.assert_allclose(targets.values[:, 0], expected, rtol=1e-5)
    held_out = standardized_labels(expert, labeled, known)
    np.testing.assert_array_equal(held_out, targets.values)


def test_targets_are_dropped_with_the_given_probability(targets):
    target = torch.zeros(4000, 1)
    dropped = targets.drop(target, torch.rand(4000, generator=make_generator(0)))
    assert torch.isnan(dropped).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_errors_name_unknown_labels_and_invalid_rates(expert, labeled):
    with pytest.raises(UnknownNameError, match="gap"):
        SkeletonTargets.from_labels(expert, labeled, ["gap"])
    with pytest.raises(CrystalGymError, match=r"Expected target_dropout from 0 to 1, got 1\.5"):
        SkeletonTargets.from_labels(expert, labeled, ["heat"], 1.5)


@pytest.mark.parametrize("traversals", ["expert", "random"])
def test_every_state_of_a_batch_has_the_label_of_its_skeleton(expert, targets, traversals):
    recipe = dataclasses.replace(SMALL, traversals=traversals)
    objective = make_objective(recipe, expert, None, "cpu", targets)
    seen = []

    class Recorder(torch.nn.Module):
        def forward(self, skeletons, elements, focus=None, geometry=None, *, target):
            seen.append((skeletons, target))
            shape = focus.shape if focus is not None else elements.shape
            return torch.zeros(*shape, len(expert.vocabulary))

    generator = make_generator(0)
    (rows, *_) = objective.batches(generator)
    objective.batch_loss(Recorder(), rows, generator, slice(None))
    assert len(seen) == 1  # a conditional policy is not trained on its own predictions
    skeletons, target = seen[0]
    place = np.isfinite(target[:, 0].numpy())
    by_lattice = {
        tuple(lattice.tolist()): value
        for lattice, value in zip(expert.lattice, targets.values[:, 0], strict=True)
    }
    expected = [by_lattice[tuple(row)] for row in skeletons.parameters.tolist()]
    np.testing.assert_array_equal(target[place, 0], np.array(expected)[place])


def test_a_policy_learns_to_fill_what_is_requested(expert, labeled, tmp_path):
    # All crystals look the same: only the label distinguishes them.
    blind = dataclasses.replace(
        expert,
        lattice=np.tile(expert.lattice[:1], (len(expert.lattice), 1)),
        frac_coords=np.zeros_like(expert.frac_coords)
        + np.linspace(0, 0.9, expert.frac_coords.shape[1], dtype=np.float32)[:, None],
    )
    targets = SkeletonTargets.from_labels(blind, labeled, ["heat"])
    recipe = dataclasses.replace(SMALL, epochs=30, skeletons=20, learning_rate=1e-2)
    config = TrainingConfig(tmp_path, recipe)
    policy = train(config, blind, targets=targets, progress=False)
    assert policy.targets == targets.targets
    assert policy.config.training["target_dropout"] == 0.1
    table = EpisodeTable(labeled)
    crystal = np.array([4])
    state = start(table, crystal, table.breadth_first(crystal, np.array([0])))
    requests = [PolicyScorer(policy, table, {"heat": heat})(state) for heat in (1.0, 10.0)]
    assert np.abs(requests[0] - requests[1]).max() > 0.5


def test_only_some_recipes_can_be_conditional(expert, targets, tmp_path):
    for name, message in (("egnn-paper", "supports targets"), ("egnn-augmented", "synthetic")):
        config = TrainingConfig(tmp_path, RECIPES[name])
        with pytest.raises(CrystalGymError, match=message):
            train(config, expert, targets=targets, progress=False)
