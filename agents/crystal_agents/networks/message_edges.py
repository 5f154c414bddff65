"""Edges between sites as message passing uses them: gathering values and summing messages."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def sum_at(values: Tensor, index: Tensor, length: int, dim: int) -> Tensor:
    """Sum the values that have the same index along a dimension.

    Args:
        values: Any shape.
        index: Index in the result of each entry along ``dim``, int64.
        length: Size of the result along ``dim``.
        dim: The dimension.
    """
    shape = list(values.shape)
    shape[dim] = length
    return values.new_zeros(shape).index_add(dim, index, values)


@dataclass(frozen=True)
class MessageEdges:
    """Directed edges between s sites.

    Attributes:
        source: Index of the source of each edge, int64 (m,).
        target: Index of the target of each edge, int64 (m,).
        n_sites: s.
    """

    source: Tensor
    target: Tensor
    n_sites: int

    def at_source(self, values: Tensor) -> Tensor:
        """Return the value of the source of each edge, (K, s, d) to (K, m, d)."""
        return values.index_select(1, self.source)

    def at_target(self, values: Tensor) -> Tensor:
        """Return the value of the target of each edge, (K, s, d) to (K, m, d)."""
        return values.index_select(1, self.target)

    def sum_at_target(self, messages: Tensor) -> Tensor:
        """Sum the messages of the edges to each site, (K, m, d) to (K, s, d)."""
        return sum_at(messages, self.target, self.n_sites, 1)

    @property
    def in_degree(self) -> Tensor:
        """Number of edges to each site, float32 (s,)."""
        ones = torch.ones(len(self.target), device=self.target.device)
        return sum_at(ones, self.target, self.n_sites, 0)


@dataclass(frozen=True)
class FixedDegreeEdges(MessageEdges):
    """Edges of sites with at most D incoming and D outgoing edges.

    Sums over the edges of a site gather at most D values. They are deterministic and need no
    atomic additions, in the forward and in the backward pass.

    Attributes:
        incoming: Indices of the edges to each site, int64 (s, D), padded with m.
        outgoing: Indices of the edges from each site, int64 (s, D), padded with m.
    """

    incoming: Tensor
    outgoing: Tensor

    def at_source(self, values: Tensor) -> Tensor:
        """Return the value of the source of each edge, (K, s, d) to (K, m, d)."""
        return _Gather.apply(values, self.source, self.outgoing)

    def at_target(self, values: Tensor) -> Tensor:
        """Return the value of the target of each edge, (K, s, d) to (K, m, d)."""
        return _Gather.apply(values, self.target, self.incoming)

    def sum_at_target(self, messages: Tensor) -> Tensor:
        """Sum the messages of the edges to each site, (K, m, d) to (K, s, d)."""
        return _Sum.apply(messages, self.target, self.incoming)

    @property
    def in_degree(self) -> Tensor:
        """Number of edges to each site, float32 (s,)."""
        return (self.incoming < len(self.target)).sum(1, dtype=torch.float32)


def _sum_edges(messages: Tensor, edges: Tensor) -> Tensor:
    """Sum the messages of up to D edges of each site; the edge m adds nothing."""
    n_edges = messages.shape[1]
    flat = messages.index_select(1, edges.clamp_max(n_edges - 1).flatten())
    gathered = flat.view(len(messages), *edges.shape, -1)
    return torch.where((edges < n_edges)[..., None], gathered, 0.0).sum(2)


class _Gather(torch.autograd.Function):
    """``values[:, index]``, whose gradient is the sum over the edges of each site."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, edges: Tensor) -> Tensor:
        ctx.save_for_backward(edges)
        return values.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (edges,) = ctx.saved_tensors
        return _sum_edges(gradients[0], edges), None, None


class _Sum(torch.autograd.Function):
    """The sum over the edges of each site, whose gradient is that of each edge's site."""

    @staticmethod
    def forward(ctx: Any, messages: Tensor, index: Tensor, edges: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return _sum_edges(messages, edges)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return gradients[0].index_select(1, index), None, None
