"""The geometry cache encodes new skeletons only, and returns what the encoder would compute."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.networks import geometry_cache
from crystal_agents.networks.geometry_cache import GeometryCache
from crystal_agents.networks.graph_batch import SkeletonStore, items_of
from crystal_agents.networks.registry import ENCODERS, make_encoder
from crystal_gym.crystals.skeleton import lattice_matrix

N_SKELETONS = 12
rows_of_batches = st.lists(
    st.lists(st.integers(0, N_SKELETONS - 1), min_size=1, max_size=8), min_size=1, max_size=5
)


@pytest.fixture(scope="module")
def store(toy):
    arrays = {
        "n_sites": toy.n_sites,
        "frac_coords": toy.frac_coords,
        "parameters": toy.parameters,
        "edges": toy.edges,
    }
    return SkeletonStore(arrays)


@pytest.fixture(scope="module")
def encoders():
    torch.manual_seed(0)
    return {name: make_encoder(name, 5, {}).eval() for name in ENCODERS}


class CountingEncoder:
    """An encoder that records the number of skeletons of each call of ``geometry``."""

    def __init__(self, monkeypatch, encoder):
        self.counts = []
        geometry = encoder.geometry
        monkeypatch.setattr(
            encoder, "geometry", lambda batch: self.counts.append(len(batch)) or geometry(batch)
        )


def request(cache, store, rows):
    rows = torch.as_tensor(rows)
    return cache(rows[:, None], lambda: store.batch(rows))


def embed(encoder, batch, geometry=None):
    elements = torch.arange(2 * len(batch.owner)).view(2, -1) % 6
    with torch.no_grad():
        return encoder(batch, elements, geometry)


@given(st.lists(st.integers(0, 4), min_size=1), st.data())
def test_items_of_groups_equal_those_of_a_loop(counts, data):
    groups = data.draw(st.lists(st.integers(0, len(counts) - 1)))
    starts = np.cumsum(counts) - counts
    expected = [starts[group] + item for group in groups for item in range(counts[group])]
    found = items_of(torch.tensor(groups, dtype=torch.int64), torch.tensor(counts))
    assert found.tolist() == expected


@given(rows=st.lists(st.integers(0, N_SKELETONS - 1), max_size=8))
def test_part_of_a_batch_equals_the_batch_of_these_skeletons(store, rows):
    rows = torch.tensor(rows, dtype=torch.int64)
    part, expected = store.batch().take(rows), store.batch(rows)
    assert part.graph is expected.graph is None
    for field in dataclasses.fields(expected):
        if field.name == "graph":
            continue
        assert torch.equal(getattr(part, field.name), getattr(expected, field.name)), field.name


@pytest.mark.parametrize("name", ENCODERS)
@settings(max_examples=15)
@given(batches=rows_of_batches, keep_all=st.booleans())
def test_embeddings_of_any_sequence_of_batches_equal_those_without_a_cache(
    store, encoders, name, batches, keep_all
):
    encoder = encoders[name]
    cache = GeometryCache(encoder, keep_all=keep_all)
    for rows in batches:
        batch, geometry = request(cache, store, rows)
        expected = embed(encoder, store.batch(torch.as_tensor(rows)))
        torch.testing.assert_close(embed(encoder, batch, geometry), expected, rtol=1e-4, atol=1e-5)


def test_only_new_skeletons_are_encoded(store, encoders, monkeypatch):
    counting = CountingEncoder(monkeypatch, encoders["egnn"])
    cache = GeometryCache(encoders["egnn"])
    for rows in ([5, 1, 3], [5, 1, 3], [5, 2, 3], [3, 2, 5], [7, 8, 9]):
        request(cache, store, rows)
    assert counting.counts == [3, 1, 3]


def test_each_skeleton_is_encoded_once_if_all_are_kept(store, encoders, monkeypatch):
    counting = CountingEncoder(monkeypatch, encoders["egnn"])
    cache = GeometryCache(encoders["egnn"], keep_all=True)
    for rows in ([5, 1, 3], [7, 8, 9], [5, 8, 2, 2], [1], [9, 7]):
        request(cache, store, rows)
    assert counting.counts == [3, 3, 1]
    # Above the largest size, the cache starts again.
    monkeypatch.setattr(geometry_cache, "_MAX_BYTES", 8)
    request(cache, store, [0, 4, 5])
    assert counting.counts == [3, 3, 1, 3]


@pytest.mark.parametrize("name", ENCODERS)
def test_geometry_modules_have_the_weights_of_the_geometry(store, encoders, name):
    encoder = encoders[name]

    def weights_with_gradients(outputs):
        encoder.zero_grad()
        outputs = [output for output in outputs if output.requires_grad]
        if outputs:
            sum(output.square().sum() for output in outputs).backward()
        return {id(weight) for weight in encoder.parameters() if weight.grad is not None}

    batch = store.batch()
    tensors = torch.utils._pytree.tree_leaves(encoder.geometry(batch))
    used = weights_with_gradients([leaf for leaf in tensors if isinstance(leaf, torch.Tensor)])
    assert used == {id(weight) for weight in encoder.geometry_parameters()}
    # No other part of the network uses them.
    with torch.no_grad():
        geometry = encoder.geometry(batch)
    elements = torch.zeros(1, len(batch.owner), dtype=torch.int64)
    assert not used & weights_with_gradients([encoder(batch, elements, geometry)])


def test_a_part_of_the_last_batch_does_not_replace_it(store, encoders, monkeypatch):
    counting = CountingEncoder(monkeypatch, encoders["egnn"])
    cache = GeometryCache(encoders["egnn"])
    for rows in ([5, 1, 3], [1], [5, 1, 3]):
        request(cache, store, rows)
    assert counting.counts == [3]


def test_all_skeletons_are_encoded_again_after_a_change_of_the_weights(
    store, encoders, monkeypatch
):
    encoder = encoders["egnn"]
    counting = CountingEncoder(monkeypatch, encoder)
    cache = GeometryCache(encoder)
    optimizer = torch.optim.Adam(encoder.parameters())
    request(cache, store, [5, 1])
    for rows in ([5, 1], [5, 2]):
        encoder(store.batch(), torch.zeros(1, int(store.n_sites.sum()), dtype=int)).sum().backward()
        optimizer.step()
        batch, geometry = request(cache, store, rows)
        expected = embed(encoder, store.batch(torch.as_tensor(rows)))
        torch.testing.assert_close(embed(encoder, batch, geometry), expected)
    assert counting.counts == [2, N_SKELETONS, 2, 2, N_SKELETONS, 2, 2]


def test_keys_can_be_floating_point_geometry(toy, store, encoders, monkeypatch):
    counting = CountingEncoder(monkeypatch, encoders["egnn"])
    cache = GeometryCache(encoders["egnn"])
    keys = torch.as_tensor(lattice_matrix(toy.parameters)).flatten(1)
    for rows in (torch.tensor([4, 2]), torch.tensor([4, 6])):
        cache(keys[rows], lambda rows=rows: store.batch(rows))
    assert counting.counts == [2, 1]
