"""Selection of the episodes with the highest returns."""

import numpy as np
import pytest

from crystal_datasets import best_episodes, build_dataset, load_transitions
from crystal_gym.errors import CrystalGymError


@pytest.fixture(scope="module")
def random(toy, tmp_path_factory):
    """Episodes of random actions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        name = build_dataset(toy, "all", "random", progress=False)
        return load_transitions(name, progress=False)


@pytest.mark.parametrize("fraction", [0.01, 0.25, 0.5, 1.0])
def test_best_episodes_are_whole_and_have_the_highest_returns(random, fraction):
    returns = random.returns
    best = best_episodes(random, fraction, seed=0)
    n = int(np.ceil(fraction * len(returns)))
    assert len(best.returns) == n
    assert np.allclose(np.sort(best.returns), np.sort(returns)[-n:])
    assert best.done.sum() == n
    assert (best.step[best.first] == 0).all()


def test_ties_are_broken_at_random(random):
    returns = np.sort(random.returns)[::-1]
    tied = np.isclose(returns[:-1], returns[1:])
    n = 1 + int(np.argmax(tied))
    assert tied[n - 1], "the last kept return must equal the first dropped one"
    fraction = (n - 0.5) / len(returns)
    chosen = {tuple(best_episodes(random, fraction, seed).trajectory) for seed in range(5)}
    assert len(chosen) > 1


@pytest.mark.parametrize("fraction", [0, -1, 1.5, np.nan])
def test_invalid_fractions_are_rejected(random, fraction):
    with pytest.raises(CrystalGymError, match="above 0 and at most 1"):
        best_episodes(random, fraction)


def test_negative_seeds_are_rejected(random):
    with pytest.raises(CrystalGymError, match="Expected a seed of 0 or more, got -1"):
        best_episodes(random, 0.5, seed=-1)
