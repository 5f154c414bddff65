"""Whether beam searches find the true filling."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_policies import expert_scorer, small_policy

from crystal_agents.evaluation.evaluate import RANDOM_ASSIGNMENT, evaluate
from crystal_agents.evaluation.most_probable import random_assignments, true_in_beam
from crystal_agents.evaluation.rows import ExtraMetrics
from crystal_agents.rollouts.rollout import batch_by_size
from crystal_gym.collections.symmetries import skeleton_symmetries
from crystal_gym.episode import EpisodeTable


@given(codes=st.lists(st.integers(1, 3), min_size=1, max_size=5), width=st.integers(1, 8))
def test_random_assignments_agree_with_enumeration(codes, width):
    assignments = sorted(set(itertools.permutations(codes)))
    found = random_assignments(np.array([codes]), width)
    correct = [np.mean(np.array(filling) == codes) for filling in assignments]
    assert found["accuracy"][0] == pytest.approx(np.mean(correct))
    assert found["exact"][0] == pytest.approx(1 / len(assignments))
    assert found["beam"][0] == pytest.approx(min(1, width / len(assignments)))


def test_a_perfect_scorer_finds_all_true_fillings(toy):
    table, rows = EpisodeTable(toy), np.arange(len(toy))
    permutations = skeleton_symmetries(toy, rows).permutations
    for batch in batch_by_size(table, rows, 1):
        exact, symmetry = true_in_beam(
            table,
            batch,
            expert_scorer(table),
            [permutations[row] for row in batch.crystals.tolist()],
            width=2,
        )
        assert exact.all()
        assert symmetry.all()


def test_a_beam_of_all_assignments_finds_every_crystal_of_known_composition(toy):
    small = toy.take(np.flatnonzero(toy.n_sites <= 4))
    policy = small_policy(toy)
    extra = ExtraMetrics(beam=24)
    report = evaluate(
        {"egnn": [policy]}, small, "all", mask="composition", extra=extra, progress=False
    )
    masked, unmasked = report.rows["egnn, masked"].metrics, report.rows["egnn"].metrics
    assert masked["beam"].mean == 1
    assert masked["composition"].mean == 1
    assert unmasked["beam"].mean <= unmasked["beam_symmetry"].mean
    floor = report.rows[RANDOM_ASSIGNMENT].metrics
    assert floor["beam"].mean == 1
    assert 0 < floor["exact"].mean < floor["accuracy"].mean <= 1
    assert "beam" not in report.rows["nearest skeleton"].metrics
