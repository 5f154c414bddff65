"""Prototypes and their coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.synthetic import NoPrototypeError, Prototype

IDEAL = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]]) / 2


def family(rng, n=40):
    """Return cubic perovskites with random origins, half of them with displacements along x."""
    edge = rng.uniform(3.5, 5, n)
    moved = rng.normal(0, 0.05, (n, 5)) * rng.integers(0, 2, (n, 1))
    frac = np.tile(IDEAL, (n, 1, 1))
    frac[..., 0] += moved / edge[:, None]
    parameters = np.concatenate([np.tile(edge[:, None], 3), np.full((n, 3), 90.0)], 1)
    return np.full(n, 5), (frac + rng.uniform(size=(n, 1, 3))) % 1, parameters


@given(st.integers(0, 2**16))
def test_coordinates_determine_the_geometry_up_to_the_origin(seed):
    n_sites, frac, parameters = family(np.random.default_rng(seed))
    prototype = Prototype.of(n_sites, frac, parameters)
    rebuilt, cells = prototype.geometry(prototype.coordinates(frac, parameters))
    np.testing.assert_allclose(cells, parameters, atol=1e-9)
    difference = rebuilt - rebuilt[:, :1] - (frac - frac[:, :1])
    np.testing.assert_allclose((difference + 0.5) % 1 - 0.5, 0, atol=1e-9)
    assert len(prototype.free) == 5  # a, and four displacements along x
    np.testing.assert_allclose(prototype.reference, (IDEAL - IDEAL[prototype.anchor]) % 1)


@given(st.integers(0, 2**16))
def test_an_inverted_crystal_has_mirrored_coordinates(seed):
    n_sites, frac, parameters = family(np.random.default_rng(seed))
    prototype = Prototype.of(n_sites, frac, parameters)
    assert prototype.inverts
    inverted = prototype.coordinates(-frac % 1, parameters)
    original = prototype.coordinates(frac, parameters)
    np.testing.assert_allclose(inverted, original * prototype.mirror, atol=1e-6)


def test_different_sites_or_positions_have_no_prototype(toy):
    with pytest.raises(NoPrototypeError, match="1 to 6 sites"):
        Prototype.of(toy.n_sites, toy.frac_coords, toy.parameters)
    rng = np.random.default_rng(0)
    n_sites, frac, parameters = family(rng)
    with pytest.raises(NoPrototypeError, match=r"similar positions of site \d in all crystals"):
        Prototype.of(n_sites, rng.permuted(frac, axis=1), parameters)


@pytest.mark.real
def test_perovskites_have_one_prototype_with_five_coordinates(perov5):
    prototype = Prototype.of(perov5.n_sites, perov5.frac_coords, perov5.parameters)
    assert prototype.inverts
    assert prototype.free.tolist()[0] < 3
    assert prototype.moves.sum() == 4
