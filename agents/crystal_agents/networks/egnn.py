"""Our network: invariant to motions, to the order of the sites and to the choice of the cell."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch, sum_at
from crystal_agents.networks.pair_features import near_pairs
from crystal_agents.networks.readouts import SiteReadout

# Å; displacements below it are numerical noise, above it they enter by their logarithm.
_FINEST = 0.01


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with SiLU between them, none behind the last."""
    layers: list[nn.Module] = []
    for i, (size, following) in enumerate(itertools.pairwise(sizes)):
        layers += (
            [nn.Linear(size, following)] if i == 0 else [nn.SiLU(), nn.Linear(size, following)]
        )
    return nn.Sequential(*layers)


class FourierFeatures(nn.Module):
    r"""Sines and cosines of a number over a geometric series of wavelengths.

    .. math:: [x / x_0,\ \sin(2\pi x/\lambda_k),\ \cos(2\pi x/\lambda_k)]_k

    Args:
        longest: largest wavelength; divides the number itself.
        shortest: smallest wavelength; sets the resolution.
        count: number of wavelengths.

    Shapes: (...,) to (..., 2 count + 1).
    """

    def __init__(self, longest: float, shortest: float, count: int) -> None:
        super().__init__()
        self.longest = longest
        waves = torch.logspace(math.log10(longest), math.log10(shortest), count)
        self.frequency: Tensor
        self.register_buffer("frequency", 2 * math.pi / waves, persistent=False)
        self.size = 2 * count + 1

    def forward(self, number: Tensor) -> Tensor:
        phase = number[..., None] * self.frequency
        return torch.cat([number[..., None] / self.longest, phase.sin(), phase.cos()], -1)


def log_scaled(length: Tensor) -> Tensor:
    """A displacement in Å on a scale that is linear below 0.01 Å and logarithmic above."""
    return torch.asinh(length / _FINEST) / 3


class Neighbors(NamedTuple):
    """The pairs of a batch in both directions: first all from source to target, then all back.

    ``source``, ``target``: site indices, int64 (2p,); ``scalars``: of the pairs, (p, H);
    ``offset``: on the logarithmic scale, (2p, 3); ``direction``: nearly a unit vector, (2p, 3);
    ``fade``: 1 for near pairs, 0 where they end, (2p, 1).
    """

    source: Tensor
    target: Tensor
    scalars: Tensor
    offset: Tensor
    direction: Tensor
    fade: Tensor

    def gather(self, message: Tensor, n_sites: int) -> Tensor:
        """Sums of the messages (..., 2p, H) at their sources, (..., s, H)."""
        return sum_at(message * self.fade.to(message.dtype), self.source, n_sites, -2)


class GeometryLayer(nn.Module):
    r"""One equivariant step on the empty skeleton: sites carry scalars and vectors.

    .. math::
        s_{ij} &= \gamma(V_i \cdot \hat p_{ij}),\ \gamma(V_j \cdot \hat p_{ij}) \\
        m_{ij} &= \phi_m(z_i, z_j, g_{ij}, s_{ij}) \\
        z_i &\leftarrow z_i + \phi_z(z_i, \textstyle\sum_j m_{ij}, \gamma(|V_i|)) \\
        V_i &\leftarrow V_i + \textstyle\sum_j \phi_v(m_{ij})\, p_{ij}

    with :math:`p_{ij}` a pair's offset on the logarithmic scale, :math:`\hat p_{ij}` its direction
    and :math:`\gamma` Fourier features.

    Args:
        hidden: scalar channels H.
        vectors: vector channels C.

    Shapes: sites (s, H) and (s, C, 3), pairs (p, H), (p, 3) and (p, 3).
    """

    def __init__(self, hidden: int, vectors: int) -> None:
        super().__init__()
        self.waves = FourierFeatures(4.0, 0.2, 6)
        self.message = mlp(3 * hidden + 2 * vectors * self.waves.size, hidden, hidden)
        self.weigh = nn.Linear(hidden, vectors)
        self.update = mlp(2 * hidden + vectors * self.waves.size, hidden, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self,
        sites: Tensor,
        vectors: Tensor,
        near: Neighbors,
    ) -> tuple[Tensor, Tensor]:
        # No matrix products: mixed precision would round these lengths.
        along = (vectors.index_select(0, near.source) * near.direction[:, None]).sum(-1)
        across = (vectors.index_select(0, near.target) * near.direction[:, None]).sum(-1)
        normed = self.norm(sites)
        message = F.silu(
            self.message(
                torch.cat(
                    [
                        normed.index_select(0, near.source),
                        normed.index_select(0, near.target),
                        near.scalars.repeat(2, 1),
                        self.waves(along).flatten(1),
                        self.waves(across).flatten(1),
                    ],
                    -1,
                )
            )
        )
        gathered = near.gather(message, len(sites))
        weight = (self.weigh(message) * near.fade)[..., None].to(vectors.dtype)
        vectors = vectors.index_add(0, near.source, weight * near.offset[:, None])
        lengths = self.waves((vectors.square().sum(-1) + 1e-12).sqrt()).flatten(1)
        return sites + self.update(torch.cat([normed, gathered, lengths], -1)), vectors


class ResidualMLP(nn.Module):
    """Blocks of two linear layers around a skip connection.

    Shapes: (..., size) to (..., size).
    """

    def __init__(self, size: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(size),
                nn.Linear(size, size),
                nn.SiLU(),
                nn.Dropout(dropout),
                nn.Linear(size, size),
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class FillingLayer(nn.Module):
    r"""One message-passing step over the sites of the filled skeleton.

    .. math::
        m_{ij} &= \text{SiLU}(W_1 h_i + W_2 h_j + W_3 g_{ij}) \\
        h_i &\leftarrow h_i + \phi_h(h_i, \textstyle\sum_j m_{ij}, c)

    with c the crystal as a whole.

    Linear layers over several inputs are split into terms, so that those of a site run once a site
    instead of once a pair.

    Args:
        hidden: channels H of sites and pairs.
        crystal: channels G of the crystal.
        dropout: in the update.

    Shapes: sites (K, s, H), crystals (K, S, G), pairs (p, H).
    """

    def __init__(self, hidden: int, crystal: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.here = nn.Linear(hidden, hidden)
        self.there = nn.Linear(hidden, hidden, bias=False)
        self.pair = nn.Linear(hidden, hidden, bias=False)
        self.own = nn.Linear(hidden, hidden)
        self.gathered = nn.Linear(hidden, hidden, bias=False)
        self.whole = nn.Linear(crystal, hidden, bias=False)
        self.update = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, sites: Tensor, crystals: Tensor, near: Neighbors, batch: SkeletonBatch
    ) -> Tensor:
        normed = self.norm(sites)
        message = F.silu(
            self.here(normed).index_select(1, near.source)
            + self.there(normed).index_select(1, near.target)
            + self.pair(near.scalars).repeat(2, 1)
        )
        change = F.silu(
            self.own(normed)
            + self.gathered(near.gather(message, sites.shape[1]))
            + self.whole(crystals).index_select(1, batch.owner)
        )
        return sites + self.update(self.dropout(change))


class CrystalLayer(nn.Module):
    r"""What the crystal as a whole learns of its filled sites: :math:`c + \phi_c(c, \bar h)`.

    Shapes: crystals (K, S, G), sites (K, s, H).
    """

    def __init__(self, hidden: int, crystal: int) -> None:
        super().__init__()
        self.update = mlp(crystal + hidden, crystal, crystal)

    def forward(self, crystals: Tensor, sites: Tensor, batch: SkeletonBatch) -> Tensor:
        return crystals + self.update(torch.cat([crystals, batch.mean_over_sites(sites)], -1))


class EGNN(Encoder):
    """A trunk that reads the empty skeleton once, and layers that read its fillings.

    Args:
        n_elements: V.
        hidden: channels H of sites and pairs.
        vectors: vector channels of the trunk.
        geometry_layers: steps on the empty skeleton, shared by its K fillings.
        crystal: channels G of the crystal as a whole.
        crystal_layers: residual blocks on them, on the empty skeleton.
        filling_layers: steps on each filling.
        dropout: in the updates of crystals and fillings.

    Shapes: codes (K, s) to embeddings (K, s, hidden).
    """

    Readout = SiteReadout
    # Channels that tell a site's place in the order of the source: none.
    index_size = 0

    def __init__(
        self,
        n_elements: int,
        *,
        hidden: int = 64,
        vectors: int = 8,
        geometry_layers: int = 2,
        crystal: int = 256,
        crystal_layers: int = 4,
        filling_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.size = hidden
        self.vectors = vectors
        told = self.index_size
        self.distance = FourierFeatures(8.0, 0.3, 24)
        self.scale = FourierFeatures(8.0, 0.05, 28)
        self.displacement = FourierFeatures(4.0, 0.2, 10)
        features = self.scale.size + 2 * self.distance.size + 2 * self.displacement.size + 1
        self.pair = mlp(features + 2 * told, hidden, hidden)
        self.value = nn.Linear(features, crystal)
        self.gate = nn.Linear(hidden, crystal)
        self.site = mlp(self.scale.size + hidden + told, hidden, hidden)
        self.trunk = nn.ModuleList([GeometryLayer(hidden, vectors) for _ in range(geometry_layers)])
        self.whole = nn.Linear(crystal + self.scale.size, crystal)
        self.crystal = ResidualMLP(crystal, crystal_layers, dropout)
        self.element = nn.Embedding(n_elements + 1, hidden)
        self.body = nn.ModuleList(
            [FillingLayer(hidden, crystal, dropout) for _ in range(filling_layers)]
        )
        self.crystal_norm = nn.LayerNorm(crystal)
        self.overall = nn.ModuleList(
            [CrystalLayer(hidden, crystal) for _ in range(filling_layers - 1)]
        )
        self.final = nn.LayerNorm(hidden)

    def index(self, batch: SkeletonBatch) -> Tensor:
        """What a site is told of its place in the order of the source, (s, ``index_size``)."""
        return batch.frac_coords.new_zeros(len(batch.owner), 0)

    def geometry(self, batch: SkeletonBatch) -> tuple[Tensor, Tensor, Neighbors]:
        """Of the empty skeletons: sites (s, H), crystals (S, G) and neighbors."""
        pairs = near_pairs(batch)
        told = self.index(batch)
        scale = self.scale((batch.volume / batch.n_sites).pow(1 / 3))
        shift = (pairs.offset.square().sum(-1) + 1e-12).sqrt()
        crystal = batch.owner[pairs.source]
        features = torch.cat(
            [
                scale.index_select(0, crystal),
                self.distance(pairs.distance),
                self.distance((pairs.distance.square() + pairs.spread.square()).sqrt()),
                self.displacement(log_scaled(shift)),
                self.displacement(log_scaled(pairs.spread)),
                pairs.images[:, None] / 4,
            ],
            -1,
        )
        one, other = told.index_select(0, pairs.source), told.index_select(0, pairs.target)
        scalars = self.pair(torch.cat([features, one + other, one * other], -1))
        fade = pairs.fade[:, None]
        direction = pairs.offset / (shift[:, None] + _FINEST)
        offset = pairs.offset * (log_scaled(shift) / shift)[:, None]
        near = Neighbors(
            source=torch.cat([pairs.source, pairs.target]),
            target=torch.cat([pairs.target, pairs.source]),
            scalars=scalars,
            offset=torch.cat([offset, -offset]),
            direction=torch.cat([direction, -direction]),
            fade=fade.repeat(2, 1),
        )
        around = near.gather(scalars.repeat(2, 1), len(batch.owner))
        sites = self.site(torch.cat([scale.index_select(0, batch.owner), around, told], -1))
        vectors = offset.new_zeros(len(batch.owner), self.vectors, 3)
        for layer in self.trunk:
            sites, vectors = layer(sites, vectors, near)
        # A product lets a pair's kind choose what is read of it.
        read = self.value(features) * self.gate(F.silu(scalars)) * fade
        pooled = sum_at(read, crystal, len(batch), 0) / batch.n_sites[:, None]
        crystals = self.crystal(self.whole(torch.cat([pooled, scale], -1)))
        return sites, crystals, near

    def forward(self, batch: SkeletonBatch, elements: Tensor) -> Tensor:
        """Site embeddings (K, s, H) of K fillings (K, s) in codes: 0 empty, 1 to V."""
        geometry, crystals, near = self.geometry(batch)
        sites = geometry + self.element(elements)
        crystals = self.crystal_norm(crystals).expand(len(elements), -1, -1)
        for i, layer in enumerate(self.body):
            if i:
                crystals = self.overall[i - 1](crystals, sites, batch)
            sites = layer(sites, crystals, near, batch)
        return self.final(sites)
