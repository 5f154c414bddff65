"""Sums over edges of fixed degree equal those of plain edges, with their gradients."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.networks.message_edges import FixedDegreeEdges, MessageEdges


def table(ends, n_sites, n_edges):
    """Return the edges of each site, padded with the number of edges."""
    lists = [(ends == site).nonzero()[:, 0].tolist() for site in range(n_sites)]
    width = max(map(len, lists), default=0)
    rows = [row + [n_edges] * (width - len(row)) for row in lists]
    return torch.tensor(rows, dtype=torch.int64).view(n_sites, width)


@given(st.integers(1, 6), st.data())
def test_values_sums_and_gradients_equal_those_of_plain_edges(n_sites, data):
    site = st.integers(0, n_sites - 1)
    pairs = data.draw(st.lists(st.tuples(site, site), min_size=1, max_size=12))
    source, target = torch.tensor(pairs).T
    plain = MessageEdges(source, target, n_sites)
    fixed = FixedDegreeEdges(
        source,
        target,
        n_sites,
        incoming=table(target, n_sites, len(pairs)),
        outgoing=table(source, n_sites, len(pairs)),
    )
    generator = torch.Generator().manual_seed(len(pairs))
    values = torch.randn(2, n_sites, 3, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, n_sites, 3, generator=generator, dtype=torch.float64)
    results = []
    for edges in (plain, fixed):
        leaf = values.clone().requires_grad_()
        messages = edges.at_source(leaf) * edges.at_target(leaf).square()
        (weights * edges.sum_at_target(messages)).sum().backward()
        results.append((messages.detach(), leaf.grad, edges.in_degree))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference)
