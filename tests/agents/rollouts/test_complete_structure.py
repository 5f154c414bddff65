"""Structures, skeletons and CIF files of one's own are filled."""

import itertools
import math

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.rollouts import complete_structure as filling
from crystal_gym import Skeleton
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, UnknownNameError

SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}
SYMBOLS = ("O", "Na", "Cl", "Ti", "Sr")
PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def make_policy(network="egnn", scale=1.0):
    """Untrained; larger readout weights make it surer."""
    torch.manual_seed(0)
    settings = SMALL if network == "egnn" else {"hidden": 16}
    policy = SkeletonPolicy(PolicyConfig(network, SYMBOLS, 5, settings)).eval()
    with torch.no_grad():
        for parameter in policy.readout.parameters():
            parameter.mul_(scale)
    return policy


@pytest.fixture(scope="module")
def policy():
    return make_policy(scale=3.0)


@pytest.fixture
def perovskite():
    return Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], PEROVSKITE)


def crystals():
    return {
        "SrTiO3": Structure(Lattice.cubic(3.905), ["Sr", "Ti", "O", "O", "O"], PEROVSKITE),
        "NaCl": Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        ),
        "BaTiO3": Structure(
            Lattice.tetragonal(3.994, 4.033),
            ["Ba", "Ti", "O", "O", "O"],
            [[0, 0, 0], [0.5, 0.5, 0.512], [0.5, 0.5, 0.023], [0.5, 0, 0.486], [0, 0.5, 0.486]],
        ),
    }


@pytest.mark.parametrize("name", ["SrTiO3", "NaCl", "BaTiO3"])
def test_a_cif_is_filled(policy, tmp_path, name):
    structure = crystals()[name]
    structure.to(filename=str(tmp_path / "own.cif"))
    (filled,) = policy.fill(tmp_path / "own.cif")
    assert len(filled.structure) == len(structure)
    assert {site.specie.symbol for site in filled.structure} <= set(SYMBOLS)
    assert filled.structure.lattice.parameters == pytest.approx(structure.lattice.parameters)
    assert sorted(filled.order) == list(range(len(structure)))
    assert filled.log_probability == pytest.approx(sum(map(math.log, filled.probabilities)))
    assert filled.log_probability < 0
    assert filled.count == 1


def test_the_elements_at_hand_do_not_matter(policy, perovskite):
    other = Structure(perovskite.lattice, ["U", "N", "H", "I", "Pu"], perovskite.frac_coords)
    assert policy.fill(other, samples=20) == policy.fill(perovskite, samples=20)


def test_sites_and_orientation_are_those_of_the_structure(policy):
    matrix = [[0, 4.0, 0.2], [3.5, 0, 0], [0.3, 0, -5.0]]
    structure = Structure(matrix, ["Na", "Cl", "O"], [[0.7, 0.1, 0.4], [0.2, 0.6, 0.4], [0, 0, 0]])
    filled = policy.fill(structure)[0].structure
    np.testing.assert_array_equal(filled.lattice.matrix, structure.lattice.matrix)
    np.testing.assert_array_equal(filled.frac_coords, structure.frac_coords)


def test_a_structure_and_its_skeleton_are_filled_alike(policy, perovskite):
    skeleton = Skeleton.from_structure(perovskite, np.arange(5))
    from_skeleton, from_structure = policy.fill(skeleton)[0], policy.fill(perovskite)[0]
    assert from_skeleton.structure.species == from_structure.structure.species
    assert from_skeleton.probabilities == from_structure.probabilities


@pytest.mark.parametrize("network", ["egnn", "egnn-paper", "gcn"])
def test_the_greedy_filling_is_that_of_the_environment(perovskite, network):
    """The same choices, one by one, through observations and ``act``."""
    import gymnasium as gym

    from crystal_gym import Vocabulary, collection_from_structures
    from crystal_gym.collections.preparation import file_order

    policy = make_policy(network)
    collection = collection_from_structures([perovskite], order=file_order, progress=False)
    env = gym.make(
        "crystal_gym:CrystalSkeleton-v0", collection=collection, vocabulary=Vocabulary(SYMBOLS)
    )
    observation, _ = env.reset(options={"start_site": 3})
    probabilities, order, terminated = {}, [], False
    while not terminated:
        order.append(int(observation["focus"]))
        answer = policy.probabilities(observation)
        probabilities[order[-1]] = answer.max()
        observation, _, terminated, _, _ = env.step(answer.argmax())
    (filled,) = policy.fill(perovskite, traversal=3)
    assert [SYMBOLS.index(s.symbol) + 1 for s in filled.structure.species] == observation[
        "element"
    ].tolist()
    assert filled.order == tuple(order)
    assert filled.probabilities == pytest.approx([probabilities[s] for s in range(5)], rel=1e-4)


def test_an_order_of_all_sites_is_kept(policy, perovskite):
    order = (4, 0, 2, 1, 3)
    assert policy.fill(perovskite, traversal=order)[0].order == order
    assert policy.fill(perovskite, traversal=np.int64(2))[0].order[0] == 2


def test_the_probabilities_of_all_fillings_sum_to_one(policy):
    """Two sites, all 25 fillings drawn: their log-probabilities are of a distribution."""
    salt = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    filled = policy.fill(salt, samples=4000, temperature=5.0)
    assert len(filled) == 25
    assert sum(math.exp(one.log_probability) for one in filled) == pytest.approx(1, abs=1e-5)


def test_samples_follow_the_probabilities(policy, perovskite, monkeypatch):
    # Drawn in several parts, as for large cells.
    monkeypatch.setattr(filling, "_SITES_AT_ONCE", 1500)
    filled = policy.fill(perovskite, samples=2000)
    assert sum(one.count for one in filled) == 2000
    assert len({tuple(one.structure.species) for one in filled}) == len(filled)
    values = [one.log_probability for one in filled]
    assert values == sorted(values, reverse=True)
    for one in filled[:5]:
        p = math.exp(one.log_probability)
        assert one.count == pytest.approx(2000 * p, abs=5 * math.sqrt(2000 * p))


def test_draws_are_repeated_by_their_seed_and_sharpened_by_a_low_temperature(policy, perovskite):
    assert policy.fill(perovskite, samples=30) == policy.fill(perovskite, samples=30)
    assert policy.fill(perovskite, samples=30) != policy.fill(perovskite, samples=30, seed=1)
    (cold,) = policy.fill(perovskite, samples=30, temperature=1e-6)
    (greedy,) = policy.fill(perovskite)
    assert cold.structure == greedy.structure
    assert cold.log_probability == pytest.approx(greedy.log_probability)
    assert cold.count == 30


def test_only_given_elements_are_chosen(policy, perovskite):
    filled = policy.fill(perovskite, elements=("Sr", 8, "Ti"), samples=50)
    found = {site.specie.symbol for one in filled for site in one.structure}
    assert found == {"Sr", "O", "Ti"}
    (alone,) = policy.fill(perovskite, elements="Ti")
    assert alone.formula == "Ti"
    assert alone.log_probability == pytest.approx(0)
    assert not alone.valid


def test_a_mask_is_asked_as_in_the_environment(policy, perovskite):
    """Every element once, until all are used; the table holds the allowed elements alone."""
    vocabularies = []

    def unused(table, state):
        vocabularies.append(table.vocabulary.symbols)
        codes = np.arange(1, table.n_elements + 1)
        return ~(state.elements[:, :, None] == codes).any(1)

    filled = policy.fill(perovskite, mask=unused, samples=40)
    assert vocabularies[-1] == SYMBOLS
    assert all(len(set(one.structure.species)) == 5 for one in filled)
    two = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    filled = policy.fill(two, mask=unused, elements=["Ti", "Na"], samples=40)
    assert vocabularies[-1] == ("Na", "Ti")
    assert {one.formula for one in filled} == {"NaTi"}
    with pytest.raises(CrystalGymError, match=r"no element on site \d after .*Allow more elements"):
        policy.fill(perovskite, mask=unused, elements=["Ti", "Na"])


def test_validity_is_told(policy, perovskite):
    def one_element_a_site(table, state):
        wanted = [table.vocabulary.encode([s])[0] for s in ("Sr", "Ti", "O", "O", "O")]
        codes = np.arange(1, table.n_elements + 1)
        return codes == np.array(wanted)[state.focus][:, None]

    (filled,) = policy.fill(perovskite, mask=one_element_a_site)
    assert filled.formula == "SrTiO3"
    assert filled.valid
    assert filled.structure == perovskite


@pytest.mark.parametrize("changes", itertools.product([{}, {"samples": 7}], [1, 2]))
def test_the_policy_stays_as_it_was(policy, perovskite, changes):
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    policy.fill(perovskite, **changes[0], seed=changes[1])
    assert all(torch.equal(before[key], value) for key, value in policy.state_dict().items())


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"traversal": 5}, "start site from 0 to 4, got 5"),
        ({"traversal": [0, 1, 2]}, "all sites 0 to 4"),
        ({"traversal": "breadth-first"}, "site to begin at"),
        ({"elements": ["Pb"]}, "Pb is not in the vocabulary"),
        ({"elements": []}, "at least one element"),
        ({"elements": ["sr"]}, "no element symbol"),
        ({"mask": 3}, "A mask is a name or a function"),
        ({"samples": 0}, "samples must be at least 1, not 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_mistakes_are_told(policy, perovskite, keywords, told):
    with pytest.raises(CrystalGymError, match=told):
        policy.fill(perovskite, **keywords)


def test_crystals_that_cannot_be_filled_are_told(policy, perovskite, tmp_path):
    with pytest.raises(UnknownNameError, match="mask"):
        policy.fill(perovskite, mask="charge")
    mixed = Structure(Lattice.cubic(4), [{"Sr": 0.5, "Ba": 0.5}], [[0, 0, 0]])
    with pytest.raises(BadCrystalError, match="disordered"):
        policy.fill(mixed)
    mixed.to(filename=str(tmp_path / "mixed.cif"))
    with pytest.raises(BadCrystalError, match=r"mixed\.cif: Site 0 is disordered"):
        policy.fill(tmp_path / "mixed.cif")
    (tmp_path / "bad.cif").write_text("no crystal")
    with pytest.raises(BadCrystalError, match=r"bad\.cif: Expected a readable CIF"):
        policy.fill(str(tmp_path / "bad.cif"))
    with pytest.raises(DamagedFileError, match=r"absent\.cif cannot be read"):
        policy.fill(tmp_path / "absent.cif")
    with pytest.raises(CrystalGymError, match="Structure, a Skeleton or the path of a CIF"):
        policy.fill(17)


def test_a_network_with_a_limit_on_sites_refuses_larger_cells():
    with pytest.raises(CrystalGymError, match="up to 5 sites; these have up to 8"):
        make_policy("egnn-paper").fill(crystals()["NaCl"])
