"""Our network: invariant to motions, to the order of the sites and to the choice of the cell."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.encoders.encoder import Encoder
from crystal_agents.graphs import SkeletonBatch, sum_at
from crystal_agents.readouts import SiteReadout

# Å; below it, offsets and spreads are numerical noise, above it they enter by their logarithm.
_FINEST = 0.003


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with SiLU between them, none behind the last."""
    layers: list[nn.Module] = []
    for i, (size, following) in enumerate(itertools.pairwise(sizes)):
        layers += (
            [nn.Linear(size, following)] if i == 0 else [nn.SiLU(), nn.Linear(size, following)]
        )
    return nn.Sequential(*layers)


class FourierFeatures(nn.Module):
    r"""Sines and cosines of a length over a geometric series of wavelengths.

    .. math:: [x / x_0,\ \sin(2\pi x/\lambda_k),\ \cos(2\pi x/\lambda_k)]_k

    Args:
        longest: largest wavelength in Å.
        shortest: smallest wavelength in Å; sets the resolution.
        count: number of wavelengths.

    Shapes: (...,) in Å to (..., 2 count + 1).
    """

    def __init__(self, longest: float, shortest: float, count: int) -> None:
        super().__init__()
        self.longest = longest
        waves = torch.logspace(math.log10(longest), math.log10(shortest), count)
        self.frequency: Tensor
        self.register_buffer("frequency", 2 * math.pi / waves, persistent=False)
        self.size = 2 * count + 1

    def forward(self, length: Tensor) -> Tensor:
        phase = length[..., None] * self.frequency
        return torch.cat([length[..., None] / self.longest, phase.sin(), phase.cos()], -1)


def signed_log(x: Tensor) -> Tensor:
    """``asinh`` in units of the finest resolved length: linear near 0, logarithmic far from it."""
    return torch.asinh(x / _FINEST) / 4


class Pairs(NamedTuple):
    """The edges of a batch gathered by their two sites: p pairs.

    ``source``, ``target``: site indices, int64 (p,); ``of_edge``: each edge's pair, int64 (m,);
    ``count``: edges of each pair, (p,).
    """

    source: Tensor
    target: Tensor
    of_edge: Tensor
    count: Tensor


def pair_up(batch: SkeletonBatch) -> Pairs:
    """Edges are ordered by source and target, so a pair begins wherever either changes."""
    source, target = batch.edge_source, batch.edge_target
    new = torch.ones_like(source, dtype=torch.bool)
    new[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    of_edge = new.cumsum(0) - 1
    starts = new.nonzero()[:, 0]
    count = torch.bincount(of_edge).to(batch.lattice.dtype)
    return Pairs(source[starts], target[starts], of_edge, count)


class GeometryLayer(nn.Module):
    r"""One equivariant step on the empty skeleton: sites carry scalars and vectors.

    .. math::
        s_{ij} &= (V_i \cdot p_{ij},\ V_j \cdot p_{ij},\ V_i \cdot V_j) \\
        m_{ij} &= \phi_m(z_i, z_j, g_{ij}, s_{ij}) \\
        z_i &\leftarrow z_i + \phi_z(z_i, \textstyle\sum_j m_{ij}, |V_i|) \\
        V_i &\leftarrow V_i + \textstyle\sum_j \phi_v(m_{ij})\, p_{ij}

    with :math:`p_{ij}` the mean vector over the images of a pair. Products are taken of lengths in
    Å and enter through their signed logarithm.

    Args:
        hidden: scalar channels H.
        vectors: vector channels C.

    Shapes: sites (s, H) and (s, C, 3), pairs (p, H) and (p, 3).
    """

    def __init__(self, hidden: int, vectors: int) -> None:
        super().__init__()
        self.message = mlp(3 * hidden + 3 * vectors, hidden, hidden)
        self.weigh = nn.Linear(hidden, vectors)
        self.update = mlp(2 * hidden + vectors, hidden, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self,
        sites: Tensor,
        vectors: Tensor,
        pair_scalars: Tensor,
        pair_vectors: Tensor,
        pairs: Pairs,
    ) -> tuple[Tensor, Tensor]:
        here, there = vectors.index_select(0, pairs.source), vectors.index_select(0, pairs.target)
        # No matrix products: mixed precision would round these lengths.
        along = (here * pair_vectors[:, None]).sum(-1)
        across = (there * pair_vectors[:, None]).sum(-1)
        together = (here * there).sum(-1)
        # A product of lengths is an area; its root is a length again, and keeps the sign.
        areas = torch.cat([along, across, together], -1)
        products = signed_log(areas.sign() * (areas.abs() + 1e-12).sqrt())
        normed = self.norm(sites)
        message = F.silu(
            self.message(
                torch.cat(
                    [
                        normed.index_select(0, pairs.source),
                        normed.index_select(0, pairs.target),
                        pair_scalars,
                        products,
                    ],
                    -1,
                )
            )
        )
        gathered = sum_at(message, pairs.source, len(sites), 0)
        pull = self.weigh(message)[..., None] * pair_vectors[:, None]
        vectors = vectors.index_add(0, pairs.source, pull)
        lengths = signed_log((vectors.square().sum(-1) + 1e-12).sqrt())
        return sites + self.update(torch.cat([normed, gathered, lengths], -1)), vectors


class FillingLayer(nn.Module):
    r"""One message-passing step over the filled skeleton.

    .. math::
        m_{ij} &= \phi_m(W_1 h_i + W_2 h_j + W_3 g_{ij}) \\
        h_i &\leftarrow h_i + \phi_h(h_i, \textstyle\sum_j m_{ij}, \bar h)

    The first linear layer is split into its site and pair terms, so that it runs once a site
    instead of once a pair.

    Shapes: sites (K, s, H), pairs (p, H).
    """

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.here = nn.Linear(hidden, hidden)
        self.there = nn.Linear(hidden, hidden, bias=False)
        self.pair = nn.Linear(hidden, hidden, bias=False)
        self.message = nn.Linear(hidden, hidden)
        self.update = nn.Sequential(
            nn.Linear(3 * hidden, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden)
        )

    def forward(
        self, sites: Tensor, pair_scalars: Tensor, pairs: Pairs, batch: SkeletonBatch
    ) -> Tensor:
        normed = self.norm(sites)
        first = (
            self.here(normed).index_select(1, pairs.source)
            + self.there(normed).index_select(1, pairs.target)
            + self.pair(pair_scalars)
        )
        message = F.silu(self.message(F.silu(first)))
        gathered = sum_at(message, pairs.source, sites.shape[1], 1)
        everywhere = batch.mean_over_sites(normed).index_select(1, batch.owner)
        return sites + self.update(torch.cat([normed, gathered, everywhere], -1))


class EGNN(Encoder):
    """A trunk that reads the empty skeleton once, and layers that read its fillings.

    Args:
        n_elements: V.
        hidden: channels H of sites and pairs.
        vectors: vector channels of the trunk.
        geometry_layers: steps on the empty skeleton, shared by its K fillings.
        filling_layers: steps on each filling.
        dropout: in the site updates.

    Shapes: codes (K, s) to embeddings (K, s, hidden).
    """

    Readout = SiteReadout

    def __init__(
        self,
        n_elements: int,
        *,
        hidden: int = 128,
        vectors: int = 16,
        geometry_layers: int = 2,
        filling_layers: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.size = hidden
        self.vectors = vectors
        self.distance = FourierFeatures(8.0, 0.06, 24)
        self.scale = FourierFeatures(8.0, 0.03, 28)
        self.edge = mlp(self.distance.size, hidden, hidden)
        self.pair = mlp(hidden + 4 + self.distance.size, hidden, hidden)
        self.site = mlp(self.scale.size + hidden, hidden, hidden)
        self.trunk = nn.ModuleList([GeometryLayer(hidden, vectors) for _ in range(geometry_layers)])
        self.element = nn.Embedding(n_elements + 1, hidden)
        self.body = nn.ModuleList([FillingLayer(hidden, dropout) for _ in range(filling_layers)])
        self.final = nn.LayerNorm(hidden)

    def geometry(self, batch: SkeletonBatch) -> tuple[Tensor, Tensor, Pairs]:
        """Scalars of sites (s, H) and pairs (p, H) of the empty skeletons, and the pairs."""
        pairs = pair_up(batch)
        vectors = batch.edge_vectors
        lengths = vectors.square().sum(-1).sqrt()
        each = 1 / pairs.count[:, None]

        def mean(values: Tensor) -> Tensor:
            return sum_at(values, pairs.of_edge, len(pairs.count), 0) * each

        mean_vector = mean(vectors)
        offset = (mean_vector.square().sum(-1) + 1e-12).sqrt()
        mean_length = mean(lengths[:, None])
        spread = (mean((lengths[:, None] - mean_length[pairs.of_edge]).square()) + 1e-12).sqrt()
        pair_scalars = self.pair(
            torch.cat(
                [
                    mean(F.silu(self.edge(self.distance(lengths)))),
                    self.distance(offset),
                    signed_log(offset)[:, None],
                    signed_log(spread),
                    mean_length / 4,
                    pairs.count[:, None] / 4,
                ],
                -1,
            )
        )
        scale = self.scale((batch.volume / batch.n_sites).pow(1 / 3))[batch.owner]
        around = sum_at(pair_scalars, pairs.source, len(batch.owner), 0)
        sites = self.site(torch.cat([scale, around], -1))
        site_vectors = vectors.new_zeros(len(batch.owner), self.vectors, 3)
        for layer in self.trunk:
            sites, site_vectors = layer(sites, site_vectors, pair_scalars, mean_vector, pairs)
        return sites, pair_scalars, pairs

    def forward(self, batch: SkeletonBatch, elements: Tensor) -> Tensor:
        """Site embeddings (K, s, H) of K fillings (K, s) in codes: 0 empty, 1 to V."""
        geometry, pair_scalars, pairs = self.geometry(batch)
        sites = geometry + self.element(elements)
        for layer in self.body:
            sites = layer(sites, pair_scalars, pairs, batch)
        return self.final(sites)
