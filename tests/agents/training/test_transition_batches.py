"""Batches of transitions and random traversals."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.training.transition_batches import TransitionStore, sample_random_traversals


@settings(deadline=None, max_examples=20)
@given(states=st.integers(1, 9), seed=st.integers(0, 99))
def test_an_epoch_has_every_transition_in_groups_of_one_skeleton(expert, states, seed):
    store = TransitionStore(expert)
    groups = store.groups(states, torch.Generator().manual_seed(seed))
    assert set(groups.flatten().tolist()) == set(range(len(expert)))
    owners = expert.skeleton[groups.numpy()]
    assert (owners == owners[:, :1]).all()
    # There are no more groups than needed: only the last group of a skeleton has repetitions.
    counts = np.bincount(expert.skeleton)
    assert len(groups) == sum(-(-count // states) for count in counts)


def test_groups_of_single_transitions_are_a_permutation(expert):
    groups = TransitionStore(expert).groups(1, torch.Generator().manual_seed(0))
    assert sorted(groups[:, 0].tolist()) == list(range(len(expert)))
    assert groups[:, 0].tolist() != sorted(groups[:, 0].tolist())


def test_a_batch_has_the_states_and_actions_of_the_dataset(expert):
    store = TransitionStore(expert)
    groups = store.groups(3, torch.Generator().manual_seed(0))[:7]
    batch = store.batch(groups)
    first = batch.skeletons.first
    for s, group in enumerate(groups.tolist()):
        n = int(batch.skeletons.n_sites[s])
        sites = slice(int(first[s]), int(first[s]) + n)
        for k, t in enumerate(group):
            assert batch.elements[k, sites].tolist() == expert.elements[t, :n].tolist()
            assert batch.focus[k, s] == expert.focus[t]
            assert batch.action[k, s] == expert.action[t]
            assert batch.finished[sites][expert.focus[t]] == expert.action[t] + 1


def test_only_the_expert_has_unique_actions(expert, random):
    assert TransitionStore(expert).has_unique_actions
    assert not TransitionStore(random).has_unique_actions


def test_random_traversals_keep_the_number_of_filled_sites_and_the_true_elements(expert):
    store = TransitionStore(expert)
    batch = store.batch(store.groups(4, torch.Generator().manual_seed(0)))
    shape = (*batch.focus.shape, store.skeletons.max_sites + 1)
    draws = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    elements = sample_random_traversals(batch, draws)
    owner = batch.skeletons.owner

    def n_filled(codes):
        zero = torch.zeros_like(batch.focus)
        return zero.index_add_(1, owner, (codes > 0).to(torch.int64))

    assert (n_filled(elements) == n_filled(batch.elements)).all()
    assert ((elements == 0) | (elements == batch.finished)).all()
    same = (elements == batch.elements).float().mean().item()
    assert 0.5 < same < 1


def test_random_traversals_of_a_skeleton_do_not_depend_on_the_rest_of_the_batch(expert):
    store = TransitionStore(expert)
    groups = store.groups(4, torch.Generator().manual_seed(0))
    batch = store.batch(groups)
    shape = (*batch.focus.shape, store.skeletons.max_sites + 1)
    draws = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    elements = sample_random_traversals(batch, draws)
    for share in (slice(None, None, 2), slice(1, None, 2)):
        part = store.batch(groups[share])
        in_share = torch.isin(batch.skeletons.owner, torch.arange(len(groups))[share])
        found = sample_random_traversals(part, draws[:, share])
        assert (found == elements[:, in_share]).all()
