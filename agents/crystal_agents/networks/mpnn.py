"""The network ``mpnn``: invariant message passing on quotient graphs.

Its embeddings are invariant to rotations, reflections, translations and the choice of the cell,
and equivariant to permutations of the sites.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.egnn_layers import FourierFeatures, mlp
from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch, first_items, items_of
from crystal_agents.networks.message_edges import sum_at
from crystal_agents.networks.periodic_graph import N_ANGULAR, cosine_fade
from crystal_agents.networks.quotient_graph import (
    QuotientGraph,
    QuotientGraphStore,
    quotient_graph,
)
from crystal_agents.networks.readouts import SiteReadout
from crystal_agents.networks.residual_blocks import ResidualMLP

# Typical numbers of neighbors, which scale sums to the order of 1.
_NEIGHBORS, _PAIRS = 8.0, 4.0


class GaussianBasis(nn.Module):
    r"""Gaussians of a number, with centers at equal distances.

    .. math:: b_k(x) = \exp\big(-(x - c_k)^2 / 2 w^2\big)

    where :math:`w` is the distance between neighboring centers.

    Args:
        first: First center.
        last: Last center.
        count: Number of centers.

    Shapes:
        - **input:** numbers (...,)
        - **output:** features (..., count)
    """

    def __init__(self, first: float, last: float, count: int) -> None:
        super().__init__()
        self.centers: Tensor
        self.register_buffer("centers", torch.linspace(first, last, count), persistent=False)
        self.width = (last - first) / (count - 1)
        self.size = count

    def forward(self, number: Tensor) -> Tensor:
        exponent = ((number[..., None] - self.centers) / self.width).square() / 2
        # Exponentials of smaller numbers are denormal, which slows a CPU by a factor of ten.
        return (-exponent).clamp_min(-30).exp()


class Geometry(NamedTuple):
    """Embeddings of S empty skeletons with s sites and p pairs in total.

    Attributes:
        sites: Embeddings of the sites, (s, H).
        pairs: Embeddings of the pairs, (p, H).
        n_pairs: Number of pairs of each skeleton, int64 (S,).
        source: First site of each pair, int64 (p,).
        target: Second site of each pair, int64 (p,).
        weight: Sum of the fades of all edges of a pair, (p,).
    """

    sites: Tensor
    pairs: Tensor
    n_pairs: Tensor
    source: Tensor
    target: Tensor
    weight: Tensor

    def join(self, other: "Geometry") -> "Geometry":
        """Append the embeddings of other skeletons."""
        shift = len(self.sites)
        other = other._replace(source=other.source + shift, target=other.target + shift)
        return Geometry(*map(torch.cat, zip(self, other, strict=True)))

    def take(self, rows: Tensor, n_sites: Tensor) -> "Geometry":
        """Return the embeddings of some of the skeletons.

        Args:
            rows: Indices of skeletons in any order, int64 (R,).
            n_sites: Number of sites of each skeleton, int64 (S,).
        """
        pairs, taken = items_of(rows, self.n_pairs), n_sites[rows]
        shift = first_items(taken) - first_items(n_sites)[rows]
        shift = shift.repeat_interleave(self.n_pairs[rows])
        return Geometry(
            sites=self.sites[items_of(rows, n_sites)],
            pairs=self.pairs[pairs],
            n_pairs=self.n_pairs[rows],
            source=self.source[pairs] + shift,
            target=self.target[pairs] + shift,
            weight=self.weight[pairs],
        )


class OrbitLayer(nn.Module):
    r"""A message-passing layer over the orbits of an empty skeleton.

    .. math::
        m_{ij} &= \text{SiLU}(W_1 z_i + W_2 z_j + W_3 e_{ij}) \odot W_4 n_{ij} f_{ij} e_{ij} \\
        z_i &\leftarrow z_i + \phi_z\big(z_i, \textstyle\sum_j m_{ij}, c, \text{mean}_j\, z_j\big)

    where :math:`n_{ij}` is the multiplicity and :math:`f_{ij}` the fade of an edge, and :math:`c`
    the embedding of the whole crystal. The mean is over sites. The messages and :math:`\phi_z`
    normalize :math:`z`.

    Args:
        hidden: Channels H of orbits and edges.
        crystal: Channels G of the crystal.
        dropout: Dropout rate of the update.

    Shapes:
        - **input:** orbits (o, H), crystals (S, G), edges (q, H), also multiplied by
          :math:`n_{ij} f_{ij}`
        - **output:** orbits (o, H)
    """

    def __init__(self, hidden: int, crystal: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.here = nn.Linear(hidden, hidden)
        self.there = nn.Linear(hidden, hidden, bias=False)
        self.edge = nn.Linear(hidden, hidden, bias=False)
        self.gate = nn.Linear(hidden, hidden, bias=False)
        self.own = nn.Linear(2 * hidden, 2 * hidden)
        self.whole = nn.Linear(crystal + hidden, 2 * hidden, bias=False)
        self.update = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, orbits: Tensor, crystals: Tensor, edges: Tensor, weighted: Tensor, graph: "_Indices"
    ) -> Tensor:
        normed = self.norm(orbits)
        here = self.here(normed).index_select(0, graph.source)
        there = self.there(normed).index_select(0, graph.target)
        message = F.silu(here + there + self.edge(edges)) * self.gate(weighted)
        gathered = sum_at(message.to(orbits.dtype), graph.source, len(orbits), 0)
        change = self.own(torch.cat([normed, gathered.to(normed.dtype)], -1))
        mean = sum_at(normed * graph.share, graph.owner, len(crystals), 0)
        whole = self.whole(torch.cat([crystals, mean], -1)).index_select(0, graph.owner)
        return orbits + self.update(self.dropout(F.silu(change + whole)))


class _Indices(NamedTuple):
    """Indices of the orbits at both ends of the edges, (q,), and the crystal of each orbit, (o,).

    ``share`` is the fraction of the sites of the crystal in each orbit, (o, 1).
    """

    source: Tensor
    target: Tensor
    owner: Tensor
    share: Tensor


class _Messages(NamedTuple):
    """The messages from filled sites in K fillings, f in total.

    Attributes:
        source: Index of the receiving site among the K s sites of all fillings, int64 (f,).
        target: Index of the filled site, int64 (f,).
        pair: The pair of sites, int64 (f,).
        weight: Weight of the pair, (f, 1).
    """

    source: Tensor
    target: Tensor
    pair: Tensor
    weight: Tensor


def _messages(elements: Tensor, geometry: Geometry) -> _Messages:
    """Return the messages of the filled sites, codes (K, s)."""
    filling, pair = (elements > 0).index_select(1, geometry.target).nonzero(as_tuple=True)
    shift = filling * elements.shape[1]
    return _Messages(
        source=shift + geometry.source[pair],
        target=shift + geometry.target[pair],
        pair=pair,
        weight=(geometry.weight / _PAIRS)[pair, None],
    )


class SiteLayer(nn.Module):
    r"""A message-passing layer over the sites of a filling. Only filled sites send messages.

    .. math::
        m_{ij} &= \text{SiLU}(W_1 h_i + W_2 h_j + W_3 e_{ij}) \\
        h_i &\leftarrow h_i + \phi_h(h_i, \textstyle\sum_{j\,\text{filled}} w_{ij} m_{ij},
            \text{mean}_j\, h_j)

    where :math:`w_{ij}` is the weight of a pair. The message and :math:`\phi_h` normalize
    :math:`h`.

    Args:
        hidden: Channels H.

    Shapes:
        - **input:** sites (K, s, H), pairs (p, H), f messages
        - **output:** sites (K, s, H)
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.here = nn.Linear(hidden, hidden)
        self.there = nn.Linear(hidden, hidden, bias=False)
        self.pair = nn.Linear(hidden, hidden, bias=False)
        self.own = nn.Linear(2 * hidden, 2 * hidden)
        self.whole = nn.Linear(hidden, 2 * hidden, bias=False)
        self.update = nn.Linear(2 * hidden, hidden)

    def forward(
        self, sites: Tensor, pairs: Tensor, messages: _Messages, batch: SkeletonBatch
    ) -> Tensor:
        normed = self.norm(sites)
        message = F.silu(
            self.here(normed).flatten(0, 1).index_select(0, messages.source)
            + self.there(normed).flatten(0, 1).index_select(0, messages.target)
            + self.pair(pairs).index_select(0, messages.pair)
        )
        n = sites.shape[0] * sites.shape[1]
        gathered = sum_at(message * messages.weight, messages.source, n, 0).view_as(sites)
        change = self.own(torch.cat([normed, gathered.to(normed.dtype)], -1))
        whole = self.whole(batch.mean_over_sites(normed)).index_select(1, batch.owner)
        return sites + self.update(F.silu(change + whole))


class MPNN(Encoder):
    r"""Message passing on the orbits of the empty skeleton, then on the sites of its fillings.

    .. math::
        e_{ij} &= \phi_e(b_{ij}), \qquad
            b_{ij} = \big[b(d_{ij}),\ b(d_{ij} / v^{1/3}),\ a_{ij},\ a_{ji}\big] \\
        c &= \phi_c\big(\text{mean}_i \textstyle\sum_j n_{ij} f_{ij}\,
            W_1 b_{ij} \odot W_2 e_{ij},\ v\big) \\
        z &\leftarrow \text{OrbitLayer}(z, c, e) \\
        h_i &= z_i + \text{embedding}(\text{code}_i) \\
        h &\leftarrow \text{SiteLayer}(h, e)

    where :math:`d_{ij}` are distances, :math:`v` is the volume per site, :math:`b` are Gaussian
    bases and :math:`a_{ij}` angular moments. The orbit layers run once per skeleton; its K fillings
    share the result.

    Args:
        n_elements: V.
        hidden: Channels H of sites and edges.
        crystal: Channels G of the whole crystal.
        crystal_layers: Number of residual blocks on the whole crystal.
        orbit_layers: Number of layers on the empty skeleton.
        site_layers: Number of layers on each filling.
        cutoff: Maximum length of the edges, in units of the cube root of the volume per site.
        pair_cutoff: The same for the pairs of sites of the site layers.
        angular: Whether edges have angular moments.
        dropout: Dropout rate of the updates.
        strain: Standard deviation of the random isotropic strain of each crystal in the training.

    Shapes:
        - **input:** codes (K, s)
        - **output:** embeddings (K, s, hidden)
    """

    Readout = SiteReadout

    def __init__(
        self,
        n_elements: int,
        *,
        hidden: int = 128,
        crystal: int = 256,
        crystal_layers: int = 4,
        orbit_layers: int = 4,
        site_layers: int = 2,
        cutoff: float = 2.0,
        pair_cutoff: float = 1.4,
        angular: bool = True,
        dropout: float = 0.1,
        strain: float = 0.0,
    ) -> None:
        super().__init__()
        self.size = hidden
        self.cutoff, self.pair_cutoff = cutoff, pair_cutoff
        self.strain = strain
        self.angular = angular
        self.distance = GaussianBasis(0.8, 7.0, 64)
        self.relative = GaussianBasis(0.3, 2.0, 32)
        self.scale = FourierFeatures(8.0, 0.1, 20)
        features = self.distance.size + self.relative.size + 2 * N_ANGULAR * angular
        self.edge = mlp(features, hidden, hidden)
        self.edge_norm = nn.LayerNorm(hidden)
        self.orbit = mlp(hidden + self.scale.size, hidden, hidden)
        self.value = nn.Linear(features, crystal)
        self.gate = nn.Linear(hidden, crystal)
        self.whole = nn.Linear(crystal + self.scale.size, crystal)
        self.crystal = ResidualMLP(crystal, crystal_layers, dropout)
        self.crystal_norm = nn.LayerNorm(crystal)
        self.trunk = nn.ModuleList(
            [OrbitLayer(hidden, crystal, dropout) for _ in range(orbit_layers)]
        )
        self.together = nn.Linear(hidden + crystal, hidden)
        self.dropout = nn.Dropout(dropout)
        self.element = nn.Embedding(n_elements + 1, hidden)
        self.body = nn.ModuleList([SiteLayer(hidden) for _ in range(site_layers)])
        self.final = nn.LayerNorm(hidden)

    def graph(self, batch: SkeletonBatch) -> QuotientGraph:
        """Compute the quotient graphs of a batch, which do not depend on the weights."""
        return quotient_graph(batch, self.cutoff, self.pair_cutoff)

    def graph_store(self, parts: Sequence[QuotientGraph], n_sites: Tensor) -> QuotientGraphStore:
        """Return the store of quotient graphs."""
        return QuotientGraphStore(parts, n_sites)

    def geometry(self, batch: SkeletonBatch) -> Geometry:
        """Embed the empty skeletons.

        Args:
            batch: The skeletons.
        """
        graph = self.graph(batch) if batch.graph is None else batch.graph
        owner = torch.arange(len(batch), device=graph.source.device)
        owner = owner.repeat_interleave(graph.n_orbits)
        unit = (batch.volume / batch.n_sites).pow(1 / 3)
        distance = graph.distance
        relative = distance / unit[owner[graph.source]]
        if self.training and self.strain:
            factor = 1 + self.strain * torch.randn_like(unit)
            distance, unit = distance * factor[owner[graph.source]], unit * factor
        features = [self.distance(distance), self.relative(relative)]
        if self.angular:
            features.append(graph.angular)
        described = torch.cat(features, -1)
        edges = self.edge(described)
        edges = self.edge_norm(edges).to(edges.dtype)
        fade = cosine_fade(relative / self.cutoff)
        weight = (fade * graph.multiplicity / _NEIGHBORS)[:, None]
        weighted = edges * weight.to(edges.dtype)
        scale = self.scale(unit)
        gathered = sum_at(weighted.to(weight.dtype), graph.source, len(owner), 0)
        orbits = self.orbit(torch.cat([gathered, scale.index_select(0, owner)], -1))
        share = graph.share[:, None]
        # The gate selects features of an edge by its embedding.
        gated = self.value(described) * self.gate(F.silu(edges)) * (weight * share[graph.source])
        pooled = sum_at(gated, owner[graph.source], len(batch), 0)
        crystals = self.crystal(self.whole(torch.cat([pooled, scale], -1)))
        crystals = self.crystal_norm(crystals)
        indices = _Indices(graph.source, graph.target, owner, share)
        for layer in self.trunk:
            orbits = layer(orbits, crystals, edges, weighted, indices)
        orbits = torch.cat([orbits, crystals.index_select(0, owner)], -1)
        orbits = self.together(self.dropout(orbits))
        return Geometry(
            orbits.index_select(0, graph.orbit),
            edges.index_select(0, graph.pair_edge),
            graph.n_pairs,
            graph.pair_source,
            graph.pair_target,
            graph.pair_weight,
        )

    def geometry_modules(self) -> Sequence[nn.Module]:
        """Return the modules of the empty skeleton."""
        pooled = [self.value, self.gate, self.whole, self.crystal, self.crystal_norm]
        return [self.edge, self.edge_norm, self.orbit, *pooled, self.trunk, self.together]

    def forward(
        self, batch: SkeletonBatch, elements: Tensor, geometry: Geometry | None = None
    ) -> Tensor:
        """Embed the sites of K fillings; see ``Encoder.forward``."""
        geometry = geometry or self.geometry(batch)
        sites = geometry.sites + self.element(elements)
        messages = _messages(elements, geometry)
        for layer in self.body:
            sites = layer(sites, geometry.pairs, messages, batch)
        return self.final(sites)
