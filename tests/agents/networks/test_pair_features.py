"""Features of pairs: smooth in the coordinates and independent of the choice of the cell."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.networks import pair_features as module
from crystal_agents.networks.graph_batch import SkeletonStore
from crystal_agents.networks.pair_features import PairStore, near_pairs
from crystal_gym.crystals.skeleton import lattice_matrix

PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def skeletons(*cells):
    """Return a batch of cells, given as fractional coordinates and lattice parameters."""
    n_sites = np.array([len(frac) for frac, _ in cells])
    frac_coords = np.zeros((len(cells), n_sites.max(), 3))
    for row, (frac, _) in zip(frac_coords, cells, strict=True):
        row[: len(frac)] = frac
    store = SkeletonStore(
        {
            "n_sites": n_sites,
            "frac_coords": frac_coords,
            "parameters": np.array([parameters for _, parameters in cells]),
            "edges": np.full((len(cells), 1, 5), -1),
        },
        dtype=torch.float64,
    )
    return store.batch()


def cubic(a):
    return np.array([a, a, a, 90, 90, 90.0])


def test_pairs_of_an_ideal_perovskite_match_its_coordination_shells():
    found = near_pairs(skeletons((PEROVSKITE, cubic(4.0))))
    assert found.source.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
    assert found.target.tolist() == [1, 2, 3, 4, 2, 3, 4, 3, 4, 4]
    # A-B along body diagonals, A-X along face diagonals, B-X along edges, X-X.
    images = [8, 4, 4, 4, 2, 2, 2, 4, 4, 4]
    lengths = [12**0.5, *[8**0.5] * 3, *[2.0] * 3, *[8**0.5] * 3]
    np.testing.assert_allclose(found.images, images, rtol=0.02)
    np.testing.assert_allclose(found.distance, lengths, rtol=0.01)
    # The 27 cells are not symmetric around a site on their border, but only far images are missing.
    np.testing.assert_allclose(found.offset, 0, atol=1e-5)
    assert (found.fade == 1).all()


def test_displacement_of_a_site_gives_offsets_along_the_displacement():
    moved = PEROVSKITE.copy()
    moved[1, 0] += 0.01 / 4
    ideal, found = (near_pairs(skeletons((frac, cubic(4.0)))) for frac in (PEROVSKITE, moved))
    change = (found.offset - ideal.offset).numpy()
    has_moved_site = ((found.source == 1) | (found.target == 1)).numpy()
    assert (np.abs(change[has_moved_site, 0]) > 0.001).all()
    np.testing.assert_allclose(change[~has_moved_site], 0, atol=1e-12)
    np.testing.assert_allclose(change[:, 1:], 0, atol=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_features_change_smoothly_with_the_coordinates(seed):
    rng = np.random.default_rng(seed)
    frac = rng.random((4, 3))
    parameters = np.array([*rng.uniform(3.5, 6, 3), *rng.uniform(70, 110, 3)])
    step = 1e-6
    nearby = frac + step * rng.normal(size=(4, 3))
    tables = []
    for coordinates in (frac, nearby):
        found = near_pairs(skeletons((coordinates, parameters)))
        table = np.zeros((4, 4, 6))
        rows = torch.cat(
            [
                found.offset,
                torch.stack([found.distance, found.spread, found.images], -1),
            ],
            -1,
        )
        # The networks multiply all features by the fade.
        table[found.source, found.target] = rows * found.fade[:, None]
        tables.append(table)
    np.testing.assert_allclose(*tables, atol=1e4 * step)


@given(st.integers(0, 2**32 - 1))
def test_features_do_not_depend_on_the_choice_of_the_cell(seed):
    rng = np.random.default_rng(seed)
    frac = rng.random((3, 3))
    lattice = lattice_matrix(np.array([*rng.uniform(3.5, 6, 3), *rng.uniform(75, 105, 3)]))
    change = np.eye(3, dtype=int)
    for _ in range(3):
        i, j = rng.choice(3, 2, replace=False)
        change[i] += rng.choice([-1, 1]) * change[j]
    batches = []
    for basis in (np.eye(3), change):
        batch = skeletons((frac @ np.linalg.inv(basis), cubic(4.0)))
        # Set the lattice directly, because it may differ from the standard orientation.
        object.__setattr__(batch, "lattice", torch.as_tensor(basis @ lattice)[None])
        batches.append(batch)
    pairs = [near_pairs(batch) for batch in batches]
    for first, second in zip(*pairs, strict=True):
        torch.testing.assert_close(first, second, atol=2e-3, rtol=2e-3)


def test_pairs_do_not_depend_on_the_batch_or_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    cells = [(rng.random((n, 3)), cubic(3.0 + n)) for n in (1, 5, 3)]
    batched = near_pairs(skeletons(*cells))
    monkeypatch.setattr(module, "_CHUNK", 4)
    chunked = near_pairs(skeletons(*cells))
    single = near_pairs(skeletons(cells[2]))
    last = batched.source >= 6
    assert torch.cat([chunked.n_pairs[:2], single.n_pairs]).tolist() == batched.n_pairs.tolist()
    columns = zip(batched[:-1], chunked[:-1], single[:-1], strict=True)
    for values, chunked_values, single_values in columns:
        torch.testing.assert_close(values, chunked_values)
        shift = 6 if single_values.dtype == torch.int64 else 0
        torch.testing.assert_close(values[last], single_values + shift)
    assert not (batched.source == 0).any()


@pytest.mark.parametrize("n_sites", [1, 40])
def test_distant_pairs_are_omitted(n_sites):
    frac = np.zeros((n_sites, 3))
    frac[:, 0] = np.arange(n_sites) / n_sites
    parameters = np.array([2.5 * n_sites, 2.5, 2.5, 90, 90, 90.0])
    found = near_pairs(skeletons((frac, parameters)))
    # A chain of cubes: only nearest neighbors, at 2.5 Å, are within the cutoff.
    separation = (found.target - found.source) % n_sites
    assert set(torch.minimum(separation, n_sites - separation).tolist()) <= {1}
    assert len(found.source) == (n_sites if n_sites > 1 else 0)


def test_a_store_returns_the_pairs_of_any_batch():
    rng = np.random.default_rng(0)
    # One site has no pairs.
    sizes = [4, 1, 6, 3]
    cells = [(rng.random((n, 3)), cubic(3.5 + n / 8)) for n in sizes]
    parts = [near_pairs(skeletons(*cells[:2])), near_pairs(skeletons(*cells[2:]))]
    store = PairStore(parts, torch.tensor(sizes))
    rows = [3, 1, 0, 3, 2]
    expected = near_pairs(skeletons(*[cells[row] for row in rows]))
    found = store.batch(torch.tensor(rows))
    assert found.n_pairs.tolist() == expected.n_pairs.tolist()
    for name in expected._fields:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
