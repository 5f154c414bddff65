"""Site numbers from positions: recovery, origins, refusals, and policies that use them."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from crystal_agents.policies.policy import (
    PolicyConfig,
    PolicyScorer,
    SkeletonPolicy,
    load_policy,
)
from crystal_agents.policies.site_numbers import SitePositions
from crystal_gym import Skeleton, collection_from_structures
from crystal_gym.collections.preparation import file_order
from crystal_gym.episode import EpisodeTable, observe, start
from crystal_gym.errors import BadCrystalError, DamagedFileError, SiteOrderWarning

SYMBOLS = ("N", "O", "Ti", "Sr", "Ba")
# The order A, B, X1, X2, X3 of Perov-5. B and X3 differ only in x.
IDEAL = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]])
# A tilted copy of the B-X3 pair: A prefers the given order of B and X3, X1 and X2 the opposite.
UNDECIDED = IDEAL + np.array([[0, 0, 0], [0, 0, 0], [0.5, 0, 0], [0.5, 0, 0], [0, 0, 0]])


def training_crystals(count=400, seed=0):
    """Return perovskites displaced along x, from any origin in x, float64 (count, 5, 3)."""
    rng = np.random.default_rng(seed)
    displaced = np.tile(IDEAL, (count, 1, 1))
    displaced[..., 0] += rng.uniform(-0.08, 0.08, (count, 5)) + rng.normal(0, 0.08, (count, 1))
    displaced[:20, :, 0] += np.linspace(0, 1, 20)[:, None]
    return displaced % 1


CRYSTALS = training_crystals()
POSITIONS = SitePositions.from_crystals(np.full(400, 5), CRYSTALS)


def indexed_policy(network="egnn-indexed", positions=POSITIONS):
    torch.manual_seed(0)
    small = {"hidden": 16}
    if network.startswith("egnn-i"):
        small |= {"vectors": 4, "geometry_layers": 1, "filling_layers": 1}
    record = None if positions is None else positions.as_record()
    return SkeletonPolicy(PolicyConfig(network, SYMBOLS, 5, small, site_positions=record)).eval()


def perovskite(frac_coords):
    return Structure(Lattice.cubic(4), ["Sr", "Ti", "O", "O", "O"], frac_coords)


def reordered(structure, order):
    return Structure.from_sites([structure[int(site)] for site in order])


def test_x_is_free_and_b_and_x3_are_a_pair():
    assert POSITIONS.fixed.tolist() == [False, True, True]
    assert POSITIONS.pairs == [(1, 4)]
    np.testing.assert_allclose(POSITIONS.mean[:, 1:], IDEAL[:, 1:], atol=1e-6)


@given(
    row=st.integers(0, 399),
    order=st.permutations(range(5)),
    shift=st.tuples(*[st.floats(0, 1)] * 3),
)
@settings(max_examples=200, deadline=None)
def test_numbers_do_not_depend_on_the_order_of_the_sites_or_the_origin(row, order, shift):
    given_order = (CRYSTALS[row][order] + shift) % 1
    assert np.array(order)[POSITIONS.numbers(given_order)].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("network", ["egnn-indexed", "egnn-paper", "gcn"])
def test_fillings_do_not_depend_on_the_order_of_the_sites(network):
    policy = indexed_policy(network)
    rng = np.random.default_rng(1)
    for row in range(5):
        structure = perovskite(CRYSTALS[row])
        (expected,) = policy.fill(structure)
        for _ in range(4):
            order = rng.permutation(5)
            inverse = np.argsort(order)
            (filled,) = policy.fill(reordered(structure, order))
            assert reordered(filled.structure, inverse).species == expected.structure.species
            assert np.array(filled.probabilities)[inverse].tolist() == list(expected.probabilities)
            assert order[list(filled.order)].tolist() == list(expected.order)
            skeleton = Skeleton.from_structure(structure, order)
            assert policy.fill(skeleton)[0].probabilities == filled.probabilities


def test_traversals_are_those_of_the_input():
    policy = indexed_policy()
    structure = perovskite(CRYSTALS[0])
    order = np.array([4, 2, 0, 1, 3])
    other = reordered(structure, order)
    for site in range(5):
        (filled,) = policy.fill(other, traversal=site)
        (expected,) = policy.fill(structure, traversal=int(order[site]))
        assert filled.order[0] == site
        assert filled.log_probability == pytest.approx(expected.log_probability, rel=1e-6)
    assert policy.fill(other, traversal=[3, 1, 0, 2, 4])[0].order == (3, 1, 0, 2, 4)
    # The default is a start at A.
    assert policy.fill(other)[0].order[0] == 2


def test_positions_that_do_not_decide_are_refused_unless_they_are_in_order():
    with pytest.warns(SiteOrderWarning, match="Their given order is used"):
        assert POSITIONS.numbers(UNDECIDED).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(BadCrystalError, match=r"got sites 0 and 2, .* can have number 1 or 4"):
        POSITIONS.numbers(UNDECIDED[[1, 0, 2, 3, 4]][[0, 2, 4, 1, 3]])


@pytest.mark.parametrize(
    ("frac_coords", "message"),
    [
        (IDEAL[:4], "Expected 5 sites, .* got 4"),
        (IDEAL[:, [1, 0, 2]] + [[0, 0, 0], [0, 0.2, 0], *[[0, 0, 0]] * 3], "got other positions"),
        (
            np.add(IDEAL, [[0, 0.2, 0], *[[0, 0, 0]] * 4]),
            r"\(\*, 0\.0, 0\.0\), .* got other positions",
        ),
    ],
)
def test_other_positions_are_refused(frac_coords, message):
    with pytest.raises(BadCrystalError, match=message):
        POSITIONS.numbers(frac_coords)


def test_several_origins_that_fit_are_refused():
    salt = np.tile([[0, 0, 0], [0.5, 0.5, 0.5]], (10, 1, 1))
    positions = SitePositions.from_crystals(np.full(10, 2), salt)
    assert positions.numbers(salt[0][::-1]).tolist() == [1, 0]
    with pytest.raises(BadCrystalError, match="got 2 numberings fit"):
        positions.numbers(salt[0] + 0.25)


def test_crystals_without_common_positions_have_no_numbers():
    rng = np.random.default_rng(0)
    shuffled = np.stack([crystal[rng.permutation(5)] for crystal in CRYSTALS])
    assert SitePositions.from_crystals(np.full(400, 5), shuffled) is None
    assert SitePositions.from_crystals(np.array([5] * 399 + [4]), CRYSTALS) is None
    assert SitePositions.from_crystals(np.zeros(0, int), np.zeros((0, 5, 3))) is None
    # Any permutation is accepted in the given order.
    policy = indexed_policy(positions=None)
    assert policy.fill(perovskite(IDEAL[::-1]))[0].order[0] == 0


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4], [0, 4, 2, 3, 1]])
def test_collections_and_observations_in_another_order_are_refused(order):
    collection = collection_from_structures(
        [perovskite(crystal) for crystal in CRYSTALS[:10]], order=file_order, progress=False
    )
    policy = indexed_policy()
    table = EpisodeTable(collection, policy.vocabulary)
    PolicyScorer(policy, table)
    crystals = np.arange(10)
    state = start(table, crystals, table.breadth_first(crystals, 0))
    assert policy.probabilities(observe(table, state)).shape == (10, 5)
    other = collection_from_structures(
        [perovskite(crystal[order]) for crystal in CRYSTALS[:10]], order=file_order, progress=False
    )
    table = EpisodeTable(other, policy.vocabulary)
    with pytest.raises(BadCrystalError, match="Expected sites numbered as in the training"):
        PolicyScorer(policy, table)
    # Observations are compared along fixed axes only.
    if order[0] != 0:
        state = start(table, crystals, table.breadth_first(crystals, 0))
        with pytest.raises(BadCrystalError, match="Expected sites numbered as in the training"):
            policy.act(observe(table, state))


def test_positions_are_saved_and_loaded(tmp_path):
    policy = indexed_policy()
    loaded = load_policy(policy.save(tmp_path))
    assert loaded.config == policy.config
    np.testing.assert_array_equal(loaded.site_positions.mean, POSITIONS.mean)
    assert indexed_policy("gcn").site_positions is not None
    file = tmp_path / "policy.json"
    file.write_text(file.read_text().replace('"deviation"', '"spread"'))
    with pytest.raises(DamagedFileError, match="expected mean and deviation"):
        load_policy(tmp_path)


@pytest.mark.real
def test_the_order_of_the_sites_does_not_matter_in_perov_5(perov5):
    policy = load_policy("perov-5/egnn-indexed")
    positions = policy.site_positions
    positions.check(perov5.n_sites, perov5.frac_coords)
    with pytest.warns(SiteOrderWarning):
        found = [positions.numbers(crystal).tolist() for crystal in perov5.frac_coords[::3]]
    assert all(numbers == [0, 1, 2, 3, 4] for numbers in found)
    rng = np.random.default_rng(0)
    refused = 0
    for row in perov5.in_split("test")[:40].tolist():
        structure = perov5.structure(row)
        order = rng.permutation(5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SiteOrderWarning)
            (expected,) = policy.fill(structure)
        try:
            (filled,) = policy.fill(reordered(structure, order))
        except (BadCrystalError, SiteOrderWarning):
            refused += 1
            continue
        assert reordered(filled.structure, np.argsort(order)).species == expected.structure.species
        assert filled.log_probability == pytest.approx(expected.log_probability, rel=1e-6)
    assert refused <= 12
