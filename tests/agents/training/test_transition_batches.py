"""Gathering transitions into batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.training.transition_batches import TransitionStore, sample_random_traversals
from crystal_datasets import build_dataset, load_transitions


@pytest.fixture(scope="module")
def data(toy, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        return load_transitions(build_dataset(toy, "all", progress=False), progress=False)


@settings(deadline=None, max_examples=20)
@given(states=st.integers(1, 9), seed=st.integers(0, 99))
def test_an_epoch_holds_every_transition_in_groups_of_one_skeleton(data, states, seed):
    store = TransitionStore(data)
    groups = store.groups(states, torch.Generator().manual_seed(seed))
    assert set(groups.flatten().tolist()) == set(range(len(data)))
    owners = data.skeleton[groups.numpy()]
    assert (owners == owners[:, :1]).all()
    # No more groups than needed: the remainder of each skeleton is filled up once.
    counts = np.bincount(data.skeleton)
    assert len(groups) == sum(-(-count // states) for count in counts)


def test_single_transitions_are_a_plain_shuffle(data):
    groups = TransitionStore(data).groups(1, torch.Generator().manual_seed(0))
    assert sorted(groups[:, 0].tolist()) == list(range(len(data)))
    assert groups[:, 0].tolist() != sorted(groups[:, 0].tolist())


def test_a_batch_holds_what_the_data_set_tells(data):
    store = TransitionStore(data)
    groups = store.groups(3, torch.Generator().manual_seed(0))[:7]
    batch = store.batch(groups)
    first = batch.skeletons.first
    for s, group in enumerate(groups.tolist()):
        n = int(batch.skeletons.n_sites[s])
        sites = slice(int(first[s]), int(first[s]) + n)
        for k, t in enumerate(group):
            assert batch.elements[k, sites].tolist() == data.elements[t, :n].tolist()
            assert batch.focus[k, s] == data.focus[t]
            assert batch.action[k, s] == data.action[t]
            assert batch.finished[sites][data.focus[t]] == data.action[t] + 1


def test_random_traversals_keep_the_number_of_filled_sites_and_the_true_elements(data):
    store = TransitionStore(data)
    batch = store.batch(store.groups(4, torch.Generator().manual_seed(0)))
    shape = (*batch.focus.shape, store.skeletons.max_sites + 1)
    draws = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    elements = sample_random_traversals(batch, draws)
    owner = batch.skeletons.owner

    def filled(codes):
        zero = torch.zeros_like(batch.focus)
        return zero.index_add_(1, owner, (codes > 0).to(torch.int64))

    assert (filled(elements) == filled(batch.elements)).all()
    assert ((elements == 0) | (elements == batch.finished)).all()
    same = (elements == batch.elements).float().mean().item()
    assert 0.5 < same < 1
    # Each skeleton's draws are its own, whatever else is in the batch.
    shares = [slice(None, None, 2), slice(1, None, 2)]
    groups = store.groups(4, torch.Generator().manual_seed(0))
    for share in shares:
        part = store.batch(groups[share])
        kept = torch.isin(owner, torch.arange(len(groups))[share])
        assert (sample_random_traversals(part, draws[:, share]) == elements[:, kept]).all()
