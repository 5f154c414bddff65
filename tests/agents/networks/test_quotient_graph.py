"""Edges within a cutoff and their quotient graphs, against direct computation."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.networks import periodic_graph
from crystal_agents.networks import quotient_graph as module
from crystal_agents.networks.egnn_paper import EGNNPaper
from crystal_agents.networks.encoder import attach_graphs
from crystal_agents.networks.graph_batch import SkeletonStore
from crystal_agents.networks.mpnn import MPNN
from crystal_agents.networks.periodic_graph import angular_moments, periodic_edges
from crystal_agents.networks.quotient_graph import (
    QuotientGraphStore,
    quotient_graph,
)
from crystal_gym.crystals.skeleton import lattice_matrix

PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
ROCK_SALT = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([2.8, 2.8, 2.8, 60, 60, 60])


def cubic(a):
    return np.array([a, a, a, 90, 90, 90.0])


def store_of(*cells):
    """Return a store of cells, given as fractional coordinates and lattice parameters."""
    n_sites = np.array([len(frac) for frac, _ in cells])
    frac_coords = np.zeros((len(cells), n_sites.max(), 3))
    for row, (frac, _) in zip(frac_coords, cells, strict=True):
        row[: len(frac)] = frac
    arrays = {
        "n_sites": n_sites,
        "frac_coords": frac_coords,
        "parameters": np.array([parameters for _, parameters in cells]),
        "edges": np.full((len(cells), 1, 5), -1),
    }
    return SkeletonStore(arrays, dtype=torch.float64)


def random_cell(seed, n):
    rng = np.random.default_rng(seed)
    parameters = np.concatenate([rng.uniform(2, 9, 3), rng.uniform(50, 115, 3)])
    parameters[4:] = np.clip(parameters[4:], 75, 100)
    return rng.random((n, 3)), parameters


@given(seed=st.integers(0, 1000), n=st.integers(1, 5))
def test_edges_are_all_images_within_the_cutoff(seed, n):
    frac, parameters = random_cell(seed, n)
    lattice = lattice_matrix(parameters)
    radius = 2.0 * (abs(np.linalg.det(lattice)) / n) ** (1 / 3)
    expected = []
    for i, j in itertools.product(range(n), repeat=2):
        images = np.array(list(itertools.product(range(-7, 8), repeat=3)))
        lengths = np.linalg.norm((frac[j] - frac[i] + images) @ lattice, axis=1)
        expected += [(i, j, x) for x in lengths if 1e-3 < x < radius]
    found = periodic_edges(store_of((frac, parameters)).batch(), 2.0)
    rows = zip(found.source.tolist(), found.target.tolist(), found.distance.tolist(), strict=True)
    np.testing.assert_allclose(sorted(rows), sorted(expected), atol=1e-6)
    assert (found.vector.norm(dim=-1) - found.distance).abs().max() < 1e-12
    assert ((found.fade > 0) & (found.fade <= 1)).all()


def test_edges_do_not_depend_on_the_number_of_images_computed_together(monkeypatch):
    batch = store_of((PEROVSKITE, cubic(4.0)), random_cell(0, 4)).batch()
    whole = periodic_edges(batch, 2.0)
    monkeypatch.setattr(periodic_graph, "_CHUNK", 50)
    for found, expected in zip(periodic_edges(batch, 2.0), whole, strict=True):
        torch.testing.assert_close(found, expected)


def test_angular_moments_equal_sums_of_legendre_polynomials():
    edges = periodic_edges(store_of(random_cell(5, 3)).batch(), 1.8)
    found = angular_moments(edges, 3).numpy().reshape(-1, 4, 3)
    direction = (edges.vector / edges.distance[:, None]).numpy()
    relative, fade = edges.relative.numpy(), edges.fade.numpy()
    for edge in range(0, len(found), 7):
        others = (edges.source == edges.source[edge]).numpy()
        cosine = direction[others] @ direction[edge]
        legendre = np.polynomial.legendre.legvander(cosine, 4)[:, 1:]
        for n, center in enumerate((0.8, 1.2, 1.6)):
            weight = fade[others] * np.exp(-(((relative[others] - center) / 0.25) ** 2) / 2)
            expected = (weight[:, None] * legendre).sum(0) / (weight.sum() + 1)
            np.testing.assert_allclose(found[edge, :, n], expected, atol=1e-10)


def test_equivalent_sites_and_edges_are_merged():
    graph = quotient_graph(store_of((PEROVSKITE, cubic(4.0)), ROCK_SALT).batch(), 1.9, 1.5)
    # The three anions are one orbit. Both sites of rock salt have the same environment, except for
    # the elements.
    assert graph.n_orbits.tolist() == [3, 1]
    assert graph.orbit[2] == graph.orbit[3] == graph.orbit[4]
    assert len(set(graph.orbit[:3].tolist())) == 3
    assert sorted(graph.share.tolist()) == pytest.approx([0.2, 0.2, 0.6, 1.0])
    rock_salt = graph.source == graph.orbit[5]
    assert graph.distance[rock_salt].tolist() == pytest.approx(
        [2.8 / math.sqrt(2), 2.8, 2.8 * math.sqrt(1.5)]
    )
    assert graph.multiplicity[rock_salt].tolist() == [6, 12, 8]


@given(seed=st.integers(0, 1000))
def test_merged_edges_count_all_edges(seed):
    cells = random_cell(seed, 4), (PEROVSKITE, cubic(3.9)), ROCK_SALT
    batch = store_of(*cells).batch()
    edges, graph = periodic_edges(batch, 2.0), quotient_graph(batch, 2.0, 1.5)
    size = torch.bincount(graph.orbit)[graph.source]
    assert (graph.multiplicity * size).sum().item() == pytest.approx(len(edges.source))
    torch.testing.assert_close(
        (graph.multiplicity * size * graph.distance).sum(), edges.distance.sum()
    )
    near = (edges.relative < 1.5) & (edges.source != edges.target)
    pairs = set(zip(edges.source[near].tolist(), edges.target[near].tolist(), strict=True))
    listed = list(zip(graph.pair_source.tolist(), graph.pair_target.tolist(), strict=True))
    assert len(listed) == len(pairs)
    assert set(listed) == pairs
    for (i, j), edge in zip(listed, graph.pair_edge.tolist(), strict=True):
        nearest = edges.distance[(edges.source == i) & (edges.target == j)].min()
        assert graph.distance[edge].item() == pytest.approx(nearest.item(), abs=2e-3)
        assert graph.source[edge] == graph.orbit[i]
        assert graph.target[edge] == graph.orbit[j]


def full_graph(batch, cutoff, pair_cutoff):
    """Return the graph without merged sites and edges."""
    edges, merged = periodic_edges(batch, cutoff), quotient_graph(batch, cutoff, pair_cutoff)
    n = len(batch.owner)
    moments = angular_moments(edges, n)
    ends = torch.stack([edges.source, edges.target], -1).to(edges.vector.dtype)
    reverse = torch.cdist(
        torch.cat([ends, edges.vector], -1), torch.cat([ends.flip(-1), -edges.vector], -1)
    ).argmin(1)
    is_pair = (edges.source == merged.pair_source[:, None]) & (
        edges.target == merged.pair_target[:, None]
    )
    return merged._replace(
        n_orbits=batch.n_sites,
        n_edges=torch.bincount(batch.owner[edges.source]),
        orbit=torch.arange(n),
        share=1 / batch.n_sites[batch.owner].double(),
        source=edges.source,
        target=edges.target,
        distance=edges.distance,
        multiplicity=torch.ones_like(edges.distance),
        angular=torch.cat([moments, moments[reverse]], -1),
        pair_edge=torch.where(is_pair, edges.distance, torch.inf).argmin(1),
    )


def test_merging_does_not_change_the_embeddings(monkeypatch):
    # No distances that are different by chance are merged.
    monkeypatch.setattr(module, "_TOLERANCE", 1e-7)
    # An orthorhombic cell with two orbits, of two and four sites, and a cell without symmetry.
    frac = np.array([[0, 0, 0.1], [0, 0, 0.9], *itertools.product((0.3, 0.7), (0.2, 0.8), [0.5])])
    batch = store_of((frac, np.array([4.0, 5.0, 6.0, 90, 90, 90])), random_cell(1, 3)).batch()
    torch.manual_seed(0)
    # Angular moments of merged edges are averaged.
    encoder = MPNN(5, hidden=16, angular=False).double().eval()
    elements = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 2, 0, 0, 3, 0, 5, 0]])
    assert encoder.graph(batch).n_orbits.tolist() == [2, 3]
    full = dataclasses.replace(batch, graph=full_graph(batch, encoder.cutoff, encoder.pair_cutoff))
    torch.testing.assert_close(encoder(batch, elements), encoder(full, elements))


def test_a_store_returns_the_graphs_of_its_crystals():
    cells = [(PEROVSKITE, cubic(4.0)), random_cell(0, 4), ROCK_SALT, random_cell(1, 3)]
    store = store_of(*cells)
    parts = [
        quotient_graph(store.batch(rows), 2.0, 1.5) for rows in torch.arange(4).split([1, 2, 1])
    ]
    graphs = QuotientGraphStore(parts, store.n_sites)
    rows = torch.tensor([3, 1, 3, 2, 0])
    batch, found = store.batch(rows), graphs.batch(rows)
    expected = quotient_graph(batch, 2.0, 1.5)
    # Orbits of one crystal can have other numbers.
    for name in ("n_orbits", "n_edges", "n_pairs", "pair_source", "pair_target", "pair_weight"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    torch.manual_seed(0)
    encoder = MPNN(5, hidden=16, cutoff=2.0, pair_cutoff=1.5).double().eval()
    elements = torch.randint(0, 6, (2, len(batch.owner)))
    torch.testing.assert_close(
        encoder(dataclasses.replace(batch, graph=found), elements),
        encoder(dataclasses.replace(batch, graph=expected), elements),
    )


def test_batches_of_a_store_with_attached_graphs_do_not_compute_them(monkeypatch):
    store = store_of((PEROVSKITE, cubic(4.0)), random_cell(0, 4), ROCK_SALT)
    torch.manual_seed(0)
    encoder = MPNN(5, hidden=16).double().eval()
    rows = torch.tensor([2, 0, 2])
    expected = encoder(store.batch(rows), torch.zeros(1, 9, dtype=torch.int64))
    attach_graphs(store, encoder)
    monkeypatch.setattr(MPNN, "graph", None)
    found = encoder(store.batch(rows), torch.zeros(1, 9, dtype=torch.int64))
    torch.testing.assert_close(found, expected)


def test_an_encoder_without_graphs_leaves_the_store_unchanged():
    store = store_of((PEROVSKITE, cubic(4.0)))
    attach_graphs(store, EGNNPaper(5, hidden=16))
    assert store.graphs is None
    assert store.batch().graph is None
