"""DimeNet++ on periodic edges: bases, triplets, symmetries and training."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from torch_geometric.nn.models.dimenet import SphericalBasisLayer

from crystal_agents.networks.dimenet import SphericalBasis, bessel_zeros, triplets
from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore
from crystal_agents.networks.registry import make_encoder
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.recipes import RECIPES
from crystal_datasets import build_dataset, load_transitions

SMALL = {"hidden": 16, "blocks": 1, "radial": 3, "spherical": 3}


def store_of(collection):
    arrays = {
        "n_sites": collection.n_sites,
        "frac_coords": collection.frac_coords,
        "parameters": collection.parameters,
        "edges": collection.edges,
    }
    return SkeletonStore(arrays, dtype=torch.float64)


def test_zeros_equal_published_values():
    # Abramowitz and Stegun, table 10.6.
    expected = [[3.141593, 6.283185], [4.493409, 7.725252], [5.763459, 9.095011]]
    np.testing.assert_allclose(bessel_zeros(3, 2), expected, atol=1e-6)


def test_basis_equals_that_of_pyg():
    ours, theirs = SphericalBasis(3, 2, 6.0).double(), SphericalBasisLayer(3, 2, 6.0)
    rng = np.random.default_rng(0)
    lengths = torch.as_tensor(rng.uniform(1.4, 6.5, 40))
    angles = torch.as_tensor(np.append(rng.uniform(0, np.pi, 98), [0, np.pi]))
    edge = torch.as_tensor(rng.integers(0, 40, 100))
    torch.testing.assert_close(
        ours(lengths, angles.cos(), edge), theirs(lengths, angles, edge), rtol=0, atol=1e-5
    )


def test_basis_in_float32_is_close_to_that_in_float64():
    basis = SphericalBasis(7, 6, 6.0)
    lengths, cosines = torch.linspace(1.4, 6.5, 500), torch.linspace(-1, 1, 500)
    edge = torch.arange(500)
    single = basis(lengths, cosines, edge)
    double = basis.double()(lengths.double(), cosines.double(), edge)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-3)


def test_triplets_are_all_pairs_of_consecutive_edges_except_reversals(toy):
    batch = store_of(toy).batch(torch.tensor([3, 0, 8]))
    edges = [
        (int(source), int(target), *map(int, image))
        for source, target, image in zip(
            batch.edge_source, batch.edge_target, batch.edge_image, strict=True
        )
    ]
    expected = {
        (a, b)
        for a, (k, j, *first_image) in enumerate(edges)
        for b, (source, i, *second_image) in enumerate(edges)
        if j == source and not (k == i and first_image == [-x for x in second_image])
    }
    first, second = triplets(batch)
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected


def embed(collection, row, elements, **settings):
    torch.manual_seed(0)
    encoder = make_encoder("dimenet", 5, settings).double().eval()
    with torch.no_grad():
        return encoder(store_of(collection).batch(torch.tensor([row])), elements)


def test_fillings_do_not_affect_each_other(toy):
    elements = torch.tensor([[0, 1, 2, 3, 4], [5, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    batched = embed(toy, 4, elements)
    assert batched.shape == (3, 5, 64)
    for row in range(3):
        torch.testing.assert_close(batched[[row]], embed(toy, 4, elements[[row]]))
    assert (batched[0] - batched[2]).abs().max() > 1e-3


def test_edges_beyond_the_cutoff_have_no_effect(toy):
    empty = torch.zeros(1, 5, dtype=torch.int64)
    filled = torch.tensor([[0, 3, 3, 3, 3]])
    torch.testing.assert_close(embed(toy, 4, empty, cutoff=0.5), embed(toy, 4, filled, cutoff=0.5))
    assert (embed(toy, 4, empty)[0, 0] - embed(toy, 4, filled)[0, 0]).abs().max() > 1e-3


def test_embeddings_depend_on_angles():
    # Four neighbors at equal distances, in a square or as a tetrahedron.
    square = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]) * 2.0
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 2 / np.sqrt(3)
    embeddings = []
    for neighbors in (square, tetrahedron):
        positions = np.concatenate([np.zeros((1, 3)), neighbors])
        pairs = [(0, s) for s in range(1, 5)] + [(s, 0) for s in range(1, 5)]
        source, target = torch.tensor(pairs).T
        batch = SkeletonBatch(
            n_sites=torch.tensor([5]),
            first=torch.tensor([0]),
            owner=torch.zeros(5, dtype=torch.int64),
            index=torch.arange(5),
            parameters=torch.zeros(1, 6, dtype=torch.float64),
            lattice=20 * torch.eye(3, dtype=torch.float64)[None],
            frac_coords=torch.as_tensor(positions / 20),
            edge_source=source,
            edge_target=target,
            edge_image=torch.zeros(8, 3, dtype=torch.float64),
        )
        torch.manual_seed(0)
        encoder = make_encoder("dimenet", 5, {}).double()
        embeddings.append(encoder(batch, torch.zeros(1, 5, dtype=torch.int64)))
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_lowers_the_loss(toy, tmp_path, monkeypatch, precision):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    data = load_transitions(build_dataset(toy, "all", progress=False), progress=False)
    recipe = dataclasses.replace(
        RECIPES["dimenet"], settings=SMALL, epochs=30, skeletons=20, learning_rate=5e-3
    )
    args = TrainingConfig(tmp_path / "run", recipe, precision=precision)
    train(args, data, progress=False)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.6 * losses[0]
