"""Filling of structures some of whose sites keep their elements."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_gym import Skeleton, Vocabulary, collection_from_structures
from crystal_gym.collections.preparation import file_order
from crystal_gym.errors import CrystalGymError

SYMBOLS = ("O", "Na", "Cl", "Ti", "Sr")
SITES = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    return SkeletonPolicy(PolicyConfig("egnn", SYMBOLS, 5, SMALL)).eval()


@pytest.fixture
def perovskite():
    return Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], SITES)


def _symbols(filled):
    return [site.specie.symbol for site in filled.structure]


@pytest.mark.parametrize("keep", [[0], [3, 1], [0, 2, 3, 4]])
def test_the_greedy_filling_equals_that_of_the_environment(policy, perovskite, keep):
    collection = collection_from_structures([perovskite], order=file_order, progress=False)
    env = gym.make(
        "crystal_gym:CrystalSkeleton-v0", collection=collection, vocabulary=Vocabulary(SYMBOLS)
    )
    first = next(site for site in range(5) if site not in keep)
    observation, _ = env.reset(options={"keep": keep, "start_site": first})
    expected, order, terminated = np.ones(5), [], False
    while not terminated:
        order.append(int(observation["focus"]))
        probabilities = policy.probabilities(observation)
        expected[order[-1]] = probabilities.max()
        observation, _, terminated, _, _ = env.step(probabilities.argmax())
    (filled,) = policy.fill(perovskite, keep=keep, traversal=first)
    assert [SYMBOLS.index(symbol) + 1 for symbol in _symbols(filled)] == observation[
        "element"
    ].tolist()
    assert filled.order == tuple(order)
    assert filled.probabilities == pytest.approx(expected, rel=1e-4)
    assert filled.log_probability == pytest.approx(np.log(expected).sum(), rel=1e-4)


def test_the_probabilities_of_all_fillings_given_the_kept_sites_sum_to_one(policy, perovskite):
    filled = policy.fill(perovskite, keep=[1], keep_elements="O", samples=500, temperature=5.0)
    assert sorted(_symbols(filling)[0] for filling in filled) == sorted(SYMBOLS)
    assert sum(math.exp(filling.log_probability) for filling in filled) == pytest.approx(1)
    for filling in filled:
        assert _symbols(filling)[1:] == ["Ti", "O", "O", "O"]
        assert filling.order == (0,)


def test_keeping_nothing_changes_nothing(policy, perovskite):
    assert policy.fill(perovskite, keep=[], keep_elements=[], samples=20) == policy.fill(
        perovskite, samples=20
    )


def test_the_mask_considers_the_kept_elements(policy, perovskite):
    filled = policy.fill(perovskite, keep_elements=["O"], mask="charge-neutral", samples=50)
    assert all(filling.valid for filling in filled)
    filled = policy.fill(perovskite, keep_elements=["O"], samples=50)
    assert not all(filling.valid for filling in filled)


def test_kept_elements_may_be_outside_the_allowed_elements(policy, perovskite):
    filled = policy.fill(
        perovskite, keep_elements=["O"], elements=["Sr", "Ti"], mask="charge-neutral", samples=50
    )
    assert {filling.formula for filling in filled} <= {"SrTiO3", "Ti2O3", "Sr2O3"}
    for filling in filled:
        assert filling.valid
        assert _symbols(filling)[2:] == ["O"] * 3
        assert set(_symbols(filling)[:2]) <= {"Sr", "Ti"}


def test_networks_that_receive_site_numbers_keep_the_sites_of_the_input(perovskite):
    torch.manual_seed(0)
    policy = SkeletonPolicy(PolicyConfig("egnn-indexed", SYMBOLS, 5, SMALL)).eval()
    (filled,) = policy.fill(perovskite, keep=[0, 4])
    assert (_symbols(filled)[0], _symbols(filled)[4]) == ("Sr", "O")
    assert sorted(filled.order) == [1, 2, 3]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"keep": [5]}, r"sites from 0 to 4, got \[5\]"),
        ({"keep": [0.5]}, "list of sites"),
        ({"keep": range(5)}, "at least one site to fill, got 5 kept sites of 5"),
        ({"keep_elements": ["Cl"]}, "elements of the structure, got Cl"),
        ({"keep_elements": ["Xx"]}, "element symbol"),
    ],
)
def test_invalid_kept_sites_raise(policy, perovskite, keywords, message):
    with pytest.raises(CrystalGymError, match=message):
        policy.fill(perovskite, **keywords)


def test_kept_sites_need_elements_of_the_vocabulary(policy, perovskite):
    skeleton = Skeleton.from_structure(perovskite, np.arange(5))
    with pytest.raises(CrystalGymError, match="got a skeleton, whose elements are unknown"):
        policy.fill(skeleton, keep=[0])
    for symbol in ("X", "Pb"):
        other = Structure(perovskite.lattice, [symbol, "Ti", "O", "O", "O"], SITES)
        with pytest.raises(CrystalGymError, match=f"got {symbol}.* on site 0"):
            policy.fill(other, keep=[0])
        assert _symbols(policy.fill(other, keep=[1])[0])[1] == "Ti"
