"""Completion of structures, skeletons and CIF files through ``SkeletonPolicy.fill``."""

import itertools
import math

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from small_policies import PEROVSKITE, SYMBOLS, make_policy

from crystal_agents.rollouts import complete_structure as module
from crystal_gym import Skeleton
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, UnknownNameError


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
def test_a_cif_file_is_filled(policy, tmp_path, name):
    structure = crystals()[name]
    structure.to(filename=str(tmp_path / "crystal.cif"))
    (filled,) = policy.fill(tmp_path / "crystal.cif")
    assert len(filled.structure) == len(structure)
    assert {site.specie.symbol for site in filled.structure} <= set(SYMBOLS)
    assert filled.structure.lattice.parameters == pytest.approx(structure.lattice.parameters)
    assert sorted(filled.order) == list(range(len(structure)))
    assert filled.log_probability == pytest.approx(sum(map(math.log, filled.probabilities)))
    assert filled.log_probability < 0
    assert filled.count == 1


def test_the_elements_of_the_structure_do_not_matter(policy, perovskite):
    other = Structure(perovskite.lattice, ["U", "N", "H", "I", "Pu"], perovskite.frac_coords)
    assert policy.fill(other, samples=20) == policy.fill(perovskite, samples=20)


def test_sites_and_orientation_equal_those_of_the_structure(policy):
    matrix = [[0, 4.0, 0.2], [3.5, 0, 0], [0.3, 0, -5.0]]
    structure = Structure(matrix, ["Na", "Cl", "O"], [[0.7, 0.1, 0.4], [0.2, 0.6, 0.4], [0, 0, 0]])
    filled = policy.fill(structure)[0].structure
    np.testing.assert_array_equal(filled.lattice.matrix, structure.lattice.matrix)
    np.testing.assert_array_equal(filled.frac_coords, structure.frac_coords)


def test_a_structure_and_its_skeleton_have_equal_fillings(policy, perovskite):
    skeleton = Skeleton.from_structure(perovskite, np.arange(5))
    from_skeleton, from_structure = policy.fill(skeleton)[0], policy.fill(perovskite)[0]
    assert from_skeleton.structure.species == from_structure.structure.species
    assert from_skeleton.probabilities == from_structure.probabilities


@pytest.mark.parametrize("network", ["egnn", "egnn-paper", "gcn"])
def test_the_greedy_filling_equals_that_of_the_environment(perovskite, network):
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
        distribution = policy.probabilities(observation)
        probabilities[order[-1]] = distribution.max()
        observation, _, terminated, _, _ = env.step(distribution.argmax())
    (filled,) = policy.fill(perovskite, traversal=3)
    assert [SYMBOLS.index(s.symbol) + 1 for s in filled.structure.species] == observation[
        "element"
    ].tolist()
    assert filled.order == tuple(order)
    assert filled.probabilities == pytest.approx([probabilities[s] for s in range(5)], rel=1e-4)


def test_the_order_can_be_any_permutation_of_the_sites(policy, perovskite):
    order = (4, 0, 2, 1, 3)
    assert policy.fill(perovskite, traversal=order)[0].order == order
    assert policy.fill(perovskite, traversal=np.int64(2))[0].order[0] == 2


def test_the_probabilities_of_all_fillings_sum_to_one(policy):
    salt = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    # Enough samples for all 25 fillings of the two sites to occur.
    filled = policy.fill(salt, samples=4000, temperature=5.0)
    assert len(filled) == 25
    assert sum(math.exp(filling.log_probability) for filling in filled) == pytest.approx(
        1, abs=1e-5
    )


def test_samples_follow_the_probabilities(policy, perovskite, monkeypatch):
    # Use several batches, as for large cells.
    monkeypatch.setattr(module, "_MOST_SITES", 1500)
    filled = policy.fill(perovskite, samples=2000)
    assert sum(filling.count for filling in filled) == 2000
    assert len({tuple(filling.structure.species) for filling in filled}) == len(filled)
    values = [filling.log_probability for filling in filled]
    assert values == sorted(values, reverse=True)
    for filling in filled[:5]:
        p = math.exp(filling.log_probability)
        assert filling.count == pytest.approx(2000 * p, abs=5 * math.sqrt(2000 * p))


def test_samples_depend_on_the_seed_and_a_low_temperature_gives_the_greedy_filling(
    policy, perovskite
):
    assert policy.fill(perovskite, samples=30) == policy.fill(perovskite, samples=30)
    assert policy.fill(perovskite, samples=30) != policy.fill(perovskite, samples=30, seed=1)
    (cold,) = policy.fill(perovskite, samples=30, temperature=1e-6)
    (greedy,) = policy.fill(perovskite)
    assert cold.structure == greedy.structure
    assert cold.log_probability == pytest.approx(greedy.log_probability)
    assert cold.count == 30


def test_only_the_given_elements_are_chosen(policy, perovskite):
    filled = policy.fill(perovskite, elements=("Sr", 8, "Ti"), samples=50)
    found = {site.specie.symbol for filling in filled for site in filling.structure}
    assert found == {"Sr", "O", "Ti"}
    (titanium,) = policy.fill(perovskite, elements="Ti")
    assert titanium.formula == "Ti"
    assert titanium.log_probability == pytest.approx(0)
    assert not titanium.valid


def test_the_given_elements_are_the_vocabulary_of_the_mask(policy, perovskite):
    vocabularies = []

    def unused(table, state):
        """Allow each element at most once."""
        vocabularies.append(table.vocabulary.symbols)
        codes = np.arange(1, table.n_elements + 1)
        return ~(state.elements[:, :, None] == codes).any(1)

    filled = policy.fill(perovskite, mask=unused, samples=40)
    assert vocabularies[-1] == SYMBOLS
    assert all(len(set(filling.structure.species)) == 5 for filling in filled)
    salt = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    filled = policy.fill(salt, mask=unused, elements=["Ti", "Na"], samples=40)
    assert vocabularies[-1] == ("Na", "Ti")
    assert {filling.formula for filling in filled} == {"NaTi"}
    with pytest.raises(
        CrystalGymError, match=r"at least one element on site \d after .*Allow more elements"
    ):
        policy.fill(perovskite, mask=unused, elements=["Ti", "Na"])


def test_valid_fillings_are_marked(policy, perovskite):
    def strontium_titanate(table, state):
        allowed = table.vocabulary.encode(["Sr", "Ti", "O", "O", "O"])
        codes = np.arange(1, table.n_elements + 1)
        return codes == allowed[state.focus][:, None]

    (filled,) = policy.fill(perovskite, mask=strontium_titanate)
    assert filled.formula == "SrTiO3"
    assert filled.valid
    assert filled.structure == perovskite


@pytest.mark.parametrize("changes", itertools.product([{}, {"samples": 7}], [1, 2]))
def test_filling_does_not_change_the_policy(policy, perovskite, changes):
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    policy.fill(perovskite, **changes[0], seed=changes[1])
    assert all(torch.equal(before[key], value) for key, value in policy.state_dict().items())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"traversal": 5}, "start site from 0 to 4, got 5"),
        ({"traversal": [0, 1, 2]}, "all sites from 0 to 4"),
        ({"traversal": "breadth-first"}, "to be a start site, .* got 'breadth-first'"),
        ({"elements": ["Pb"]}, "Pb is not in the vocabulary"),
        ({"elements": []}, "one or more distinct elements"),
        ({"elements": ["sr"]}, "an element symbol such as .Ti., got .sr."),
        ({"mask": 3}, "mask to be a name, a mapping"),
        ({"samples": 0}, "samples to be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature to be above 0"),
        ({"temperature": float("nan")}, "temperature to be above 0"),
        ({"seed": -1}, "seed to be at least 0, got -1"),
    ],
)
def test_invalid_arguments_raise(policy, perovskite, keywords, message):
    with pytest.raises(CrystalGymError, match=message):
        policy.fill(perovskite, **keywords)


def test_dummy_sites_and_other_forms_of_a_structure_are_filled(policy, perovskite, tmp_path):
    expected = policy.fill(perovskite)[0]
    dummies = Structure(perovskite.lattice, ["X"] * 5, perovskite.frac_coords)
    perovskite.to(filename=str(tmp_path / "POSCAR"))
    for crystal in (dummies, perovskite.as_dict(), tmp_path / "POSCAR"):
        filling = policy.fill(crystal)[0]
        assert filling.structure.species == expected.structure.species
        assert np.allclose(filling.structure.frac_coords, perovskite.frac_coords)


def test_invalid_crystals_raise(policy, perovskite, tmp_path):
    with pytest.raises(UnknownNameError, match="mask"):
        policy.fill(perovskite, mask="charge")
    mixed = Structure(Lattice.cubic(4), [{"Sr": 0.5, "Ba": 0.5}], [[0, 0, 0]])
    with pytest.raises(BadCrystalError, match="disordered"):
        policy.fill(mixed)
    mixed.to(filename=str(tmp_path / "mixed.cif"))
    with pytest.raises(BadCrystalError, match=r"mixed\.cif: Site .* is disordered"):
        policy.fill(tmp_path / "mixed.cif")
    (tmp_path / "bad.cif").write_text("no crystal")
    with pytest.raises(BadCrystalError, match=r"bad\.cif: Expected a readable CIF"):
        policy.fill(str(tmp_path / "bad.cif"))
    with pytest.raises(DamagedFileError, match=r"absent\.cif cannot be read"):
        policy.fill(tmp_path / "absent.cif")
    with pytest.raises(CrystalGymError, match="Expected a crystal, got 17"):
        policy.fill(17)


def test_a_network_with_a_limit_on_sites_rejects_larger_cells():
    with pytest.raises(CrystalGymError, match=r"up to 5 sites, .* got up to 8"):
        make_policy("egnn-paper").fill(crystals()["NaCl"])
