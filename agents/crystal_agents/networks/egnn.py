"""The network ``egnn``.

Its embeddings are invariant to rotations, reflections, translations and the choice of the cell,
and equivariant to permutations of the sites.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.egnn_layers import (
    FINEST,
    CrystalLayer,
    FillingLayer,
    FourierFeatures,
    GeometryLayer,
    Neighbors,
    log_scaled,
    mlp,
)
from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch, items_of
from crystal_agents.networks.message_edges import sum_at
from crystal_agents.networks.pair_features import Pairs, PairStore, near_pairs
from crystal_agents.networks.readouts import SiteReadout
from crystal_agents.networks.residual_blocks import ResidualMLP, SiteBlocks
from crystal_agents.networks.target_embedding import TargetEmbedding


class Geometry(NamedTuple):
    """Embeddings of S empty skeletons with s sites in total.

    Attributes:
        sites: Embeddings of the sites, (s, H).
        crystals: Embeddings of the crystals, (S, G).
        near: The pairs of sites.
    """

    sites: Tensor
    crystals: Tensor
    near: Neighbors

    def join(self, other: "Geometry") -> "Geometry":
        """Append the embeddings of other skeletons."""
        return Geometry(
            torch.cat([self.sites, other.sites]),
            torch.cat([self.crystals, other.crystals]),
            self.near.join(other.near, len(self.sites)),
        )

    def take(self, rows: Tensor, n_sites: Tensor) -> "Geometry":
        """Return the embeddings of some of the skeletons.

        Args:
            rows: Indices of skeletons in any order, int64 (R,).
            n_sites: Number of sites of each skeleton, int64 (S,).
        """
        sites = items_of(rows, n_sites)
        return Geometry(self.sites[sites], self.crystals[rows], self.near.take(rows, n_sites))


class EGNN(Encoder):
    r"""Equivariant layers on the empty skeleton, followed by layers on its fillings.

    .. math::
        z, V &\leftarrow \text{GeometryLayer}(z, V) \\
        h_i &= z_i + \text{embedding}(\text{code}_i) \\
        h &\leftarrow \text{FillingLayer}(h, c), \qquad c \leftarrow \text{CrystalLayer}(c, h) \\
        h_i &\leftarrow \text{SiteBlocks}(h_i, c)

    The geometry layers run once per skeleton; its K fillings share the result. The initial
    embedding :math:`c` of the whole crystal is computed from a gated sum over its pairs, divided by
    the number of sites.

    Args:
        n_elements: V.
        hidden: Channels H of sites and pairs.
        vectors: Vector channels of the geometry layers.
        geometry_layers: Number of layers on the empty skeleton.
        crystal: Channels G of the whole crystal.
        crystal_layers: Number of residual blocks on the whole crystal.
        filling_layers: Number of layers on each filling.
        site_blocks: Number of residual blocks on each site of a filling; 0 omits ``SiteBlocks``.
        site: Channels of these blocks.
        dropout: Dropout rate of the updates of crystals and fillings.
        n_targets: Number T of labels that can be requested, see ``condition``.

    Shapes:
        - **input:** codes (K, s)
        - **output:** embeddings (K, s, D), where D is ``site`` with blocks and ``hidden`` without
    """

    Readout = SiteReadout
    # Number of channels that encode the index of a site; overridden by ``EGNNIndexed``.
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
        site_blocks: int = 0,
        site: int = 128,
        dropout: float = 0.1,
        n_targets: int = 0,
    ) -> None:
        super().__init__()
        self.size = site if site_blocks else hidden
        self.n_targets = n_targets
        index_size = self.index_size
        self.distance = FourierFeatures(8.0, 0.3, 24)
        self.scale = FourierFeatures(8.0, 0.05, 28)
        self.displacement = FourierFeatures(4.0, 0.2, 10)
        features = self.scale.size + 2 * self.distance.size + 2 * self.displacement.size + 1
        self.pair = mlp(features + 2 * index_size, hidden, hidden)
        self.value = nn.Linear(features, crystal)
        self.gate = nn.Linear(hidden, crystal)
        self.site = mlp(self.scale.size + hidden + index_size, hidden, hidden)
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
        self.blocks = (
            SiteBlocks(hidden, crystal, site, site_blocks, dropout) if site_blocks else None
        )
        self.final = nn.LayerNorm(self.size)
        if n_targets:
            self.target = TargetEmbedding(n_targets, hidden, (hidden, crystal))

    def index(self, batch: SkeletonBatch) -> Tensor:
        """Return the encoding of each site's index, (s, ``index_size``); empty in this class."""
        return batch.frac_coords.new_zeros(len(batch.owner), 0)

    def graph(self, batch: SkeletonBatch) -> Pairs:
        """Return the near pairs of a batch, which do not depend on the weights."""
        return near_pairs(batch)

    def graph_store(self, parts: Sequence[Pairs], n_sites: Tensor) -> PairStore:
        """Return the store of near pairs."""
        return PairStore(parts, n_sites)

    def geometry(self, batch: SkeletonBatch) -> Geometry:
        """Embed the empty skeletons.

        Args:
            batch: The skeletons.
        """
        pairs = self.graph(batch) if batch.graph is None else batch.graph
        index = self.index(batch)
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
        source, target = index.index_select(0, pairs.source), index.index_select(0, pairs.target)
        scalars = self.pair(torch.cat([features, source + target, source * target], -1))
        fade = pairs.fade[:, None]
        direction = pairs.offset / (shift[:, None] + FINEST)
        offset = pairs.offset * (log_scaled(shift) / shift)[:, None]
        near = Neighbors(
            source=torch.cat([pairs.source, pairs.target]),
            target=torch.cat([pairs.target, pairs.source]),
            scalars=scalars,
            offset=torch.cat([offset, -offset]),
            direction=torch.cat([direction, -direction]),
            fade=fade.repeat(2, 1),
        )
        gathered = near.gather(scalars.repeat(2, 1), len(batch.owner))
        sites = self.site(torch.cat([scale.index_select(0, batch.owner), gathered, index], -1))
        vectors = None
        for layer in self.trunk:
            sites, vectors = layer(sites, vectors, near)
        # The gate selects features of a pair by its scalars.
        gated = self.value(features) * self.gate(F.silu(scalars)) * fade
        pooled = sum_at(gated, crystal, len(batch), 0) / batch.n_sites[:, None]
        crystals = self.crystal(self.whole(torch.cat([pooled, scale], -1)))
        return Geometry(sites, crystals, near)

    def geometry_modules(self) -> Sequence[nn.Module]:
        """Return the modules of the empty skeleton."""
        pairs = [self.pair, self.value, self.gate]
        return [*pairs, self.site, self.trunk, self.whole, self.crystal]

    def condition(self, batch: SkeletonBatch, geometry: Geometry, target: Tensor) -> Geometry:
        """Add the embedding of the target to those of sites and crystals."""
        if not self.n_targets:
            return super().condition(batch, geometry, target)
        sites, crystals = self.target(target)
        return geometry._replace(
            sites=geometry.sites + sites[..., batch.owner, :],
            crystals=geometry.crystals + crystals,
        )

    def weights_for_target(self, target: Tensor) -> dict[str, Tensor]:
        """Add the embedding of the target to weights that are added to the same embeddings."""
        if not self.n_targets:
            return super().weights_for_target(target)
        sites, crystals = self.target(target)
        state = {
            name: weights.clone()
            for name, weights in self.state_dict().items()
            if not name.startswith("target.")
        }
        # The last linear layer of the crystals, behind which only skip connections are added.
        last = (
            f"crystal.blocks.{len(self.crystal.blocks) - 1}.4" if self.crystal.blocks else "whole"
        )
        state["element.weight"] += sites
        state[f"{last}.bias"] += crystals
        return state

    def forward(
        self, batch: SkeletonBatch, elements: Tensor, geometry: Geometry | None = None
    ) -> Tensor:
        """Embed the sites of K fillings; see ``Encoder.forward``."""
        geometry = geometry or self.geometry(batch)
        sites, crystals = self._before_last(batch, elements, geometry)
        sites = self.body[-1](sites, crystals, geometry.near, batch)
        if self.blocks is not None:
            sites = self.blocks(sites, crystals, batch.owner)
        return self.final(sites)

    def at_sites(
        self,
        batch: SkeletonBatch,
        elements: Tensor,
        sites: Tensor,
        geometry: Geometry | None = None,
    ) -> Tensor:
        """Embed one site of each skeleton; the last layer is computed for these sites only."""
        geometry = geometry or self.geometry(batch)
        every_site, crystals = self._before_last(batch, elements, geometry)
        last_layer = cast(FillingLayer, self.body[-1])
        chosen = last_layer.at_sites(every_site, crystals, geometry.near, batch, sites)
        if self.blocks is not None:
            chosen = self.blocks(chosen, crystals)
        return self.final(chosen)

    def _before_last(
        self, batch: SkeletonBatch, elements: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor]:
        """Return the inputs of the last layer: sites (K, s, H) and crystals (K, S, G)."""
        sites = geometry.sites + self.element(elements)
        crystals = self.crystal_norm(geometry.crystals).expand(len(elements), -1, -1)
        for layer, overall in zip(self.body[:-1], self.overall, strict=True):
            sites = layer(sites, crystals, geometry.near, batch)
            crystals = overall(crystals, sites, batch)
        return sites, crystals
