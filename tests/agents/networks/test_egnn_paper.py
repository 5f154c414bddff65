"""The networks of the paper, compared with straightforward implementations in PyG."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch_geometric.data import Batch

from crystal_agents.networks.egnn_paper import EGNNConv
from crystal_agents.networks.graph_batch import padded_size
from crystal_agents.networks.message_edges import MessageEdges
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.training.transition_batches import TransitionStore
from crystal_datasets import build_dataset, load_transitions

SMALL = {"hidden": 12, "size_h": 7, "layers": 3}


@pytest.fixture
def plain_pyg(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import plain_pyg

    return plain_pyg


@pytest.fixture
def data(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setenv("CRYSTAL_GYM_CACHE", str(tmp_path))
    return load_transitions(build_dataset(toy, "all", progress=False), progress=False)


# The networks of the paper's text, and those of its code.
NETWORKS = [
    ("egnn-paper", {}),
    ("egnn-paper", {"inner": 9, "dgl": True}),
    ("gcn", {}),
    ("gcn", {"linear": True}),
]


def networks(plain_pyg, name, data, settings):
    """Return both implementations with the same weights, large enough for every term to matter."""
    torch.manual_seed(0)
    n_elements, max_sites = len(data.vocabulary), data.frac_coords.shape[1]
    ours = SkeletonPolicy(PolicyConfig(name, data.vocabulary, max_sites, SMALL | settings))
    for weight in ours.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    plain = plain_pyg.PlainPolicy(name, n_elements, max_sites, **SMALL, **settings)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def gradients(policy, loss):
    return dict(
        zip(
            (name for name, _ in policy.named_parameters()),
            torch.autograd.grad(loss, list(policy.parameters())),
            strict=True,
        )
    )


@pytest.mark.parametrize(("name", "settings"), NETWORKS)
def test_loss_and_gradients_equal_those_of_plain_pyg(name, settings, data, plain_pyg):
    ours, plain = networks(plain_pyg, name, data, settings)
    store = TransitionStore(data)
    order = np.random.default_rng(0).permutation(len(data))
    batch = store.batch(torch.as_tensor(order)[:, None])
    logits = ours(batch.skeletons, batch.elements, batch.focus)
    graphs = Batch.from_data_list(plain_pyg.data_objects(data, order))
    loss = F.cross_entropy(logits[0], batch.action[0])
    reference = F.cross_entropy(plain(graphs), graphs.y)
    torch.testing.assert_close(loss, reference)
    found = gradients(ours, loss)
    for weight, gradient in gradients(plain, reference).items():
        assert (found[weight] - gradient).norm() <= 1e-4 * gradient.norm(), weight


@pytest.mark.parametrize("name", ["egnn-paper", "gcn"])
def test_logits_of_grouped_states_equal_those_of_single_states(name, data, plain_pyg):
    ours, plain = networks(plain_pyg, name, data, {})
    store = TransitionStore(data)
    groups = store.groups(3, torch.Generator().manual_seed(0))
    batch = store.batch(groups)
    logits = ours(batch.skeletons, batch.elements, batch.focus)
    for state, rows in enumerate(groups.T.tolist()):
        graphs = Batch.from_data_list(plain_pyg.data_objects(data, rows))
        torch.testing.assert_close(logits[state], plain(graphs), rtol=1e-4, atol=1e-4)
    assert logits.shape[0] == 3


@given(st.integers(0, 10**7))
def test_padded_sizes_are_close_to_the_original_number(n):
    size = padded_size(n)
    assert n <= size <= n * (1 + 1 / 64)
    assert padded_size(size) == size
    assert n >= 128 or size == n


@pytest.mark.parametrize("periodic", [False, True])
def test_padding_edges_do_not_change_the_logits(periodic, data):
    torch.manual_seed(0)
    settings = {**SMALL, "periodic": periodic}
    sites = data.frac_coords.shape[1]
    policy = SkeletonPolicy(PolicyConfig("egnn-paper", data.vocabulary, sites, settings))
    for weight in policy.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    store = TransitionStore(data)
    rows = torch.arange(66)[:, None] % len(data)
    batch = store.batch(rows)
    edges = batch.skeletons.edge_source if periodic else batch.skeletons.in_cell_edges[0]
    assert padded_size(len(edges)) > len(edges)
    with torch.no_grad():
        logits = policy(batch.skeletons, batch.elements, batch.focus)
        for i, row in enumerate(rows):
            single = store.batch(row[None])
            expected = policy(single.skeletons, single.elements, single.focus)
            torch.testing.assert_close(logits[:, i], expected[:, 0], rtol=1e-4, atol=1e-4)


def test_mixed_precision_does_not_round_distances():
    torch.manual_seed(0)
    layer = EGNNConv(4, 8, 5)
    edges = MessageEdges(torch.tensor([0, 1]), torch.tensor([1, 0]), 2)
    # 16.0 and 16.06 Å² are equal in 16 bits.
    near, far = torch.tensor([[[0, 0, 0], [0, 0, 4.0]]]), torch.tensor([[[0, 0, 0], [0, 0, 4.007]]])
    activation_inputs = []
    layer.phi_e[1].register_forward_pre_hook(lambda _, inputs: activation_inputs.append(inputs[0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for x in (near, far):
            layer.pass_messages(torch.zeros(1, 2, 24), x, edges)
    expected = (4.007**2 - 16) * layer.phi_e[0].weight[:, -1]
    torch.testing.assert_close(
        (activation_inputs[1] - activation_inputs[0])[0, 0], expected, rtol=1e-3, atol=1e-5
    )
