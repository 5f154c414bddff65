"""Matches of fillings with the true crystals, against pymatgen's StructureMatcher itself."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystal_agents.evaluation.evaluate import evaluate
from crystal_agents.evaluation.rows import ExtraMetrics
from crystal_agents.evaluation.structure_match import structure_matcher, structure_matches
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.episode import EpisodeTable


@pytest.fixture(scope="module")
def table():
    """Return the table of NaCl in its primitive cell and of a layered ordering of ABX2."""
    salt = Structure(
        Lattice.from_parameters(3.99, 3.99, 3.99, 60, 60, 60),
        ["Na", "Cl"],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
    )
    layered = Structure(
        Lattice.tetragonal(3.0, 6.5),
        ["Na", "Cl", "Li", "Cl"],
        [[0, 0, 0], [0.5, 0.5, 0.27], [0, 0, 0.5], [0.5, 0.5, 0.77]],
    )
    return EpisodeTable(collection_from_structures([salt, layered], splits=["test"] * 2))


def matches_of_the_matcher(table, row, codes):
    n = codes.shape[-1]
    crystal = table.collection.structure(row)
    filled = crystal.copy()
    for site, number in enumerate(table.vocabulary.decode(codes).tolist()):
        filled.replace(site, number)
    assert len(filled) == n
    return structure_matcher().fit(filled, crystal)


def test_matches_are_those_of_the_matcher(table):
    rng = np.random.default_rng(0)
    for row, n in enumerate(table.n_sites.tolist()):
        true = table.true_elements[row, :n]
        permuted = [true[rng.permutation(n)] for _ in range(6)]
        random = [rng.integers(1, table.n_elements + 1, n) for _ in range(6)]
        fillings = np.array([true, *permuted, *random])[:, None]
        found = structure_matches(table, np.array([row]), fillings)[:, 0].tolist()
        assert found == [matches_of_the_matcher(table, row, codes[0]) for codes in fillings]
        assert found[0]
        assert not all(found)


def test_exchanged_ions_of_rock_salt_match(table):
    row = int(np.flatnonzero(table.n_sites == 2)[0])
    exchanged = table.true_elements[row, :2][::-1]
    assert structure_matches(table, np.array([row]), exchanged[None, None]).all()


def test_the_match_rate_is_at_least_the_exact_rate(toy):
    report = evaluate({}, toy, "all", extra=ExtraMetrics(structure_matcher=True), progress=False)
    for row in report.rows.values():
        metrics = row.metrics
        assert metrics["structure_match"].mean >= metrics["exact"].mean
        assert metrics["composition"].mean >= metrics["structure_match"].mean
    assert report.rows["ground truth"].metrics["structure_match"].mean == 1
