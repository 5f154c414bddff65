"""Symmetries of all networks in float64, and their sizes."""

import numpy as np
import pytest
import torch

from crystal_agents.networks.egnn_paper import EGNNConv
from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore, lattice_vectors
from crystal_agents.networks.message_edges import MessageEdges
from crystal_agents.networks.readouts import SiteReadout
from crystal_agents.networks.registry import ENCODERS, encoder_settings, make_encoder
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_gym.crystals.neighbors import neighbor_edges
from crystal_gym.crystals.skeleton import Skeleton, lattice_matrix
from crystal_gym.errors import CrystalGymError, UnknownNameError

SYMBOLS = ("Na", "Mg", "Ti", "O", "F")
# The layers of ``egnn`` are tested without and with blocks on each site.
SETTINGS = {"egnn-indexed": {"site_blocks": 2, "site": 24}}
INVARIANT = [name for name, encoder in ENCODERS.items() if encoder.Readout is SiteReadout]


def batch_of(lattice, frac_coords, edges, index=None):
    """Return a batch of one skeleton whose lattice vectors may have any orientation."""
    edges = torch.as_tensor(edges.astype(np.int64))
    n = len(frac_coords)
    return SkeletonBatch(
        n_sites=torch.tensor([n]),
        first=torch.tensor([0]),
        owner=torch.zeros(n, dtype=torch.int64),
        index=torch.arange(n) if index is None else torch.as_tensor(index),
        parameters=torch.zeros(1, 6, dtype=torch.float64),
        lattice=torch.as_tensor(lattice, dtype=torch.float64)[None],
        frac_coords=torch.as_tensor(frac_coords, dtype=torch.float64),
        edge_source=edges[:, 0],
        edge_target=edges[:, 1],
        edge_image=edges[:, 2:].to(torch.float64),
    )


@pytest.fixture(scope="module")
def crystal():
    """A triclinic cell with six sites and no symmetry."""
    rng = np.random.default_rng(3)
    lattice = lattice_matrix(np.array([4.1, 5.2, 4.7, 82.0, 97.0, 105.0]))
    frac_coords = np.argwhere(np.ones((2, 2, 2)))[:6] / 2 + rng.uniform(0, 0.2, (6, 3))
    return lattice, frac_coords, neighbor_edges(lattice, frac_coords)


@pytest.fixture
def elements():
    """Two fillings."""
    return torch.tensor([[0, 1, 2, 0, 4, 5], [0, 0, 0, 0, 0, 3]])


def embed(name, lattice, frac_coords, edges, elements, *, shift=(0, 0, 0), index=None):
    torch.manual_seed(0)
    encoder = make_encoder(name, len(SYMBOLS), SETTINGS.get(name, {})).double().eval()
    batch = batch_of(lattice, frac_coords + np.array(shift) @ np.linalg.inv(lattice), edges, index)
    with torch.no_grad():
        return encoder(batch, elements)


def random_rotation(*, reflect):
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    return q * (np.linalg.det(q) * (-1 if reflect else 1))


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_rotations_and_reflections_apply_to_positions_only(name, reflect, crystal, elements):
    lattice, frac_coords, edges = crystal
    rotation = random_rotation(reflect=reflect)
    before = embed(name, lattice, frac_coords, edges, elements)
    after = embed(name, lattice @ rotation, frac_coords, edges, elements)
    if name in INVARIANT:
        torch.testing.assert_close(after, before)
    else:
        torch.testing.assert_close(after[..., :-3], before[..., :-3])
        torch.testing.assert_close(after[..., -3:], before[..., -3:] @ torch.as_tensor(rotation))


@pytest.mark.parametrize("name", ENCODERS)
def test_translations_apply_to_positions_only(name, crystal, elements):
    lattice, frac_coords, edges = crystal
    shift = np.array([0.3, -1.2, 0.7])
    before = embed(name, lattice, frac_coords, edges, elements)
    after = embed(name, lattice, frac_coords, edges, elements, shift=shift)
    if name in INVARIANT:
        torch.testing.assert_close(after, before)
    else:
        torch.testing.assert_close(after[..., :-3], before[..., :-3])
        torch.testing.assert_close(after[..., -3:], before[..., -3:] + torch.as_tensor(shift))


@pytest.mark.parametrize("name", ENCODERS)
def test_permutations_of_sites_permute_embeddings(name, crystal, elements):
    lattice, frac_coords, edges = crystal
    order = np.array([4, 2, 0, 5, 1, 3])
    new_index = np.argsort(order)
    moved = edges.copy()
    moved[:, :2] = new_index[edges[:, :2]]
    moved = moved[np.lexsort(moved.T[::-1])]
    before = embed(name, lattice, frac_coords, edges, elements)
    # The sites keep their indices, which only egnn-indexed uses.
    after = embed(name, lattice, frac_coords[order], moved, elements[:, order], index=order)
    torch.testing.assert_close(after, before[:, order])
    renumbered = embed(name, lattice, frac_coords[order], moved, elements[:, order])
    assert torch.allclose(renumbered, after) == (name != "egnn-indexed")


@pytest.mark.parametrize("name", INVARIANT)
def test_invariant_networks_do_not_depend_on_the_images_of_the_sites(name, crystal, elements):
    lattice, frac_coords, edges = crystal
    vectors = np.random.default_rng(2).integers(-2, 3, (6, 3))
    moved = edges.copy()
    moved[:, 2:] += (vectors[edges[:, 0]] - vectors[edges[:, 1]]).astype(edges.dtype)
    moved = moved[np.lexsort(moved.T[::-1])]
    before = embed(name, lattice, frac_coords, edges, elements)
    after = embed(name, lattice, frac_coords + vectors, moved, elements)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("name", INVARIANT)
def test_invariant_networks_do_not_depend_on_the_choice_of_the_cell(name, crystal, elements):
    lattice, frac_coords, edges = crystal
    # Unimodular: the new vectors span the same lattice.
    change = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    inverse = np.round(np.linalg.inv(change)).astype(int)
    moved = edges.copy()
    moved[:, 2:] = edges[:, 2:] @ inverse
    moved = moved[np.lexsort(moved.T[::-1])]
    before = embed(name, lattice, frac_coords, edges, elements)
    after = embed(name, change @ lattice, frac_coords @ inverse, moved, elements)
    torch.testing.assert_close(after, before)


def test_equivalent_sites_have_equal_embeddings_in_egnn():
    lattice = 4.0 * np.eye(3)
    frac_coords = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0.5] * 3])
    edges = neighbor_edges(lattice, frac_coords)
    embeddings = embed("egnn", lattice, frac_coords, edges, torch.zeros(1, 5, dtype=torch.int64))[0]
    torch.testing.assert_close(embeddings[1], embeddings[2])
    torch.testing.assert_close(embeddings[1], embeddings[3])
    assert (embeddings[0] - embeddings[4]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ENCODERS)
def test_crystals_of_a_batch_do_not_affect_each_other(name, toy):
    torch.manual_seed(0)
    policy = SkeletonPolicy(PolicyConfig(name, SYMBOLS, toy.max_sites)).double().eval()
    arrays = {
        "n_sites": toy.n_sites,
        "frac_coords": toy.frac_coords,
        "parameters": toy.parameters,
        "edges": toy.edges,
    }
    store = SkeletonStore(arrays, dtype=torch.float64)
    codes = torch.as_tensor(np.maximum(toy.codes(), 0), dtype=torch.int64)
    focus = torch.as_tensor(toy.n_sites - 1, dtype=torch.int64)
    batch = store.batch()
    logits = policy(batch, batch.flat(codes)[None], focus[None])
    assert logits.shape == (1, len(toy), len(SYMBOLS))
    for row in range(len(toy)):
        single = store.batch(torch.tensor([row]))
        expected = policy(single, codes[row, : toy.n_sites[row]][None, :], focus[None, [row]])
        torch.testing.assert_close(logits[:, [row]], expected)


def test_egnn_paper_has_the_sizes_of_the_paper():
    policy = SkeletonPolicy(PolicyConfig("egnn-paper", SYMBOLS, 5))
    assert len(policy.encoder.layers) == 4
    assert policy.encoder.size == 128 + 3
    assert policy.encoder.layers[1].phi_e[0].weight.shape == (256, 2 * 256 + 1)
    assert policy.readout.graph.weight.shape == (8, 3 + 3 + 5)
    assert policy.readout.action.weight.shape == (len(SYMBOLS), 128 + 3 + 8)


def test_layer_of_egnn_paper_matches_its_equations():
    torch.manual_seed(0)
    layer = EGNNConv(4, 6, 5).double()
    torch.nn.init.normal_(layer.phi_x_last.weight)
    h, x = torch.randn(1, 3, 4).double(), torch.randn(1, 3, 3).double()
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    new_h, new_x = layer(h, x, MessageEdges(*edges, 3))
    for i in range(3):
        neighbors = [int(s) for s, t in edges.T if t == i]
        messages = []
        move = torch.zeros(3).double()
        for j in neighbors:
            vector = x[0, i] - x[0, j]
            message = layer.phi_e(torch.cat([h[0, i], h[0, j], (vector**2).sum()[None]]))
            messages.append(message)
            move += vector * layer.phi_x_last(layer.phi_x(message)) / len(neighbors)
        torch.testing.assert_close(new_x[0, i], x[0, i] + move)
        expected = layer.phi_h(torch.cat([h[0, i], torch.stack(messages).sum(0)]))
        torch.testing.assert_close(new_h[0, i], expected)


def test_lattice_vectors_equal_those_of_the_skeletons():
    rng = np.random.default_rng(0)
    parameters = np.concatenate([rng.uniform(3, 9, (50, 3)), rng.uniform(60, 120, (50, 3))], 1)
    parameters[0, 3:] = 90
    ours = lattice_vectors(torch.as_tensor(parameters))
    np.testing.assert_allclose(ours.numpy(), lattice_matrix(parameters), atol=1e-12)
    assert (ours[0] == torch.diag(ours[0].diagonal())).all()


def test_a_batch_contains_the_requested_skeletons(toy):
    arrays = {
        "n_sites": toy.n_sites,
        "frac_coords": toy.frac_coords,
        "parameters": toy.parameters,
        "edges": toy.edges,
    }
    batch = SkeletonStore(arrays, dtype=torch.float64).batch(torch.tensor([4, 11, 4]))
    skeletons: list[Skeleton] = [toy.skeleton(row) for row in (4, 11, 4)]
    positions = np.concatenate([s.cartesian_coords for s in skeletons])
    np.testing.assert_allclose(batch.positions.numpy(), positions)
    vectors = np.concatenate([s.edge_vectors for s in skeletons])
    np.testing.assert_allclose(batch.edge_vectors.numpy(), vectors, atol=1e-12)
    inside = sum(len(s.in_cell_edges) for s in skeletons)
    assert batch.in_cell_edges.shape == (2, inside)


def test_unknown_networks_and_settings_raise():
    with pytest.raises(UnknownNameError, match="Did you mean 'egnn'"):
        make_encoder("egn", 5, {})
    with pytest.raises(CrystalGymError, match=r"'egnn' \(hidden, .*got 'depth'"):
        make_encoder("egnn", 5, {"depth": 3})
    assert encoder_settings("gcn") == {
        "hidden": 256,
        "size_h": 128,
        "layers": 4,
        "linear": False,
    }


@pytest.mark.parametrize("name", INVARIANT)
def test_one_site_of_each_skeleton_has_the_embedding_and_gradients_of_all_sites(toy, name):
    torch.manual_seed(0)
    encoder = make_encoder(name, len(toy.vocabulary), SETTINGS.get(name, {})).double().eval()
    arrays = {key: getattr(toy, key) for key in ("n_sites", "frac_coords", "parameters", "edges")}
    batch = SkeletonStore(arrays, dtype=torch.float64).batch(torch.tensor([5, 0, 4, 11]))
    elements = torch.randint(0, 5, (3, len(batch.owner)))
    focus = (torch.rand(3, 4) * batch.n_sites).to(torch.int64)
    sites = batch.flat_focus(focus)
    weights = torch.randn(3, 4, encoder.size, dtype=torch.float64)
    results = []
    for embed_sites in (
        lambda: encoder.at_sites(batch, elements, sites),
        lambda: encoder(batch, elements).gather(1, sites[..., None].expand_as(weights)),
    ):
        encoder.zero_grad()
        embedding = embed_sites()
        (embedding * weights).sum().backward()
        gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
        results.append((embedding.detach(), gradients))
    (first, first_gradients), (second, second_gradients) = results
    assert torch.allclose(first, second, atol=1e-10)
    assert len(first_gradients) == len(second_gradients)
    for a, b in zip(first_gradients, second_gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-9)
