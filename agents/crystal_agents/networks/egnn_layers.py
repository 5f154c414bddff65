"""Layers of the network ``egnn``."""

import itertools
import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.dropout import Dropout
from crystal_agents.networks.graph_batch import SkeletonBatch, first_items, items_of
from crystal_agents.networks.message_edges import sum_at

# Displacements in Å below this value are numerical noise; larger ones are scaled logarithmically.
FINEST = 0.01


def mlp(*sizes: int) -> nn.Sequential:
    """Return linear layers with SiLU between them.

    Args:
        sizes: Channels of the input, the hidden layers and the output.
    """
    layers: list[nn.Module] = []
    for i, (size, following) in enumerate(itertools.pairwise(sizes)):
        layers += (
            [nn.Linear(size, following)] if i == 0 else [nn.SiLU(), nn.Linear(size, following)]
        )
    return nn.Sequential(*layers)


class FourierFeatures(nn.Module):
    r"""Sines and cosines of a number, with wavelengths in geometric progression.

    .. math:: \gamma(x) = [x / \lambda_1,\ \sin(2\pi x/\lambda_k),\ \cos(2\pi x/\lambda_k)]_k

    Args:
        longest: Longest wavelength :math:`\lambda_1`.
        shortest: Shortest wavelength, which determines the resolution.
        count: Number of wavelengths.

    Shapes:
        - **input:** numbers (...,)
        - **output:** features (..., 2 count + 1)
    """

    def __init__(self, longest: float, shortest: float, count: int) -> None:
        super().__init__()
        self.longest = longest
        waves = torch.logspace(math.log10(longest), math.log10(shortest), count)
        self.frequency: Tensor
        self.register_buffer("frequency", 2 * math.pi / waves, persistent=False)
        # -1 for odd functions of the number, 1 for even ones.
        self.parity: Tensor
        parity = torch.cat([torch.full((count + 1,), -1.0), torch.ones(count)])
        self.register_buffer("parity", parity, persistent=False)
        self.size = 2 * count + 1

    def forward(self, number: Tensor) -> Tensor:
        phase = number[..., None] * self.frequency
        return torch.cat([number[..., None] / self.longest, phase.sin(), phase.cos()], -1)


def log_scaled(length: Tensor) -> Tensor:
    """Scale a displacement in Å linearly below 0.01 Å and logarithmically above.

    Args:
        length: In Å, any shape.

    Returns:
        asinh(length / 0.01 Å) / 3, same shape.
    """
    return torch.asinh(length / FINEST) / 3


class Neighbors(NamedTuple):
    """The p pairs of a batch in both directions: first from source to target, then reversed.

    Attributes:
        source: Site indices, int64 (2p,).
        target: Site indices, int64 (2p,).
        scalars: Features of the undirected pairs, (p, H).
        offset: Mean offset from source to target on the scale of ``log_scaled``, (2p, 3).
        direction: Direction of the offset, (2p, 3). Its length is near 1 and decreases to 0 for
            offsets near zero.
        fade: 1 for near pairs, decreasing smoothly to 0 at the cutoff, (2p, 1).
    """

    source: Tensor
    target: Tensor
    scalars: Tensor
    offset: Tensor
    direction: Tensor
    fade: Tensor

    def join(self, other: "Neighbors", n_sites: int) -> "Neighbors":
        """Append the pairs of other skeletons, whose sites follow the n_sites sites of these."""
        n, m = len(self.scalars), len(other.scalars)

        def append(directed: Tensor, others: Tensor) -> Tensor:
            return torch.cat([directed[:n], others[:m], directed[n:], others[m:]])

        return Neighbors(
            source=append(self.source, other.source + n_sites),
            target=append(self.target, other.target + n_sites),
            scalars=torch.cat([self.scalars, other.scalars]),
            offset=append(self.offset, other.offset),
            direction=append(self.direction, other.direction),
            fade=append(self.fade, other.fade),
        )

    def take(self, rows: Tensor, n_sites: Tensor) -> "Neighbors":
        """Return the pairs of some of the skeletons.

        Args:
            rows: Indices of skeletons in any order, int64 (R,).
            n_sites: Number of sites of each skeleton, int64 (S,).
        """
        n_pairs = len(self.scalars)
        owner = torch.arange(len(n_sites), device=rows.device).repeat_interleave(n_sites)
        # The sources of the pairs, and therefore their skeletons, are in ascending order.
        counts = torch.bincount(owner[self.source[:n_pairs]], minlength=len(n_sites))
        pairs = items_of(rows, counts)
        directed = torch.cat([pairs, pairs + n_pairs])
        taken = n_sites[rows]
        offset = first_items(taken) - first_items(n_sites)[rows]
        offset = offset.repeat_interleave(counts[rows]).repeat(2)
        return Neighbors(
            source=self.source[directed] + offset,
            target=self.target[directed] + offset,
            scalars=self.scalars[pairs],
            offset=self.offset[directed],
            direction=self.direction[directed],
            fade=self.fade[directed],
        )

    def gather(self, message: Tensor, n_sites: int) -> Tensor:
        """Sum the messages at the source of each edge, weighted by ``fade``.

        Args:
            message: One message for each directed pair, (..., 2p, H).
            n_sites: Number of sites s.

        Returns:
            Sums, (..., s, H).
        """
        return sum_at(message * self.fade.to(message.dtype), self.source, n_sites, -2)


class GeometryLayer(nn.Module):
    r"""An equivariant message-passing layer on the empty skeleton.

    Each site i has scalars :math:`z_i` and vectors :math:`V_i`.

    .. math::
        s_{ij} &= \gamma(V_i \cdot \hat p_{ij}),\ \gamma(V_j \cdot \hat p_{ij}) \\
        m_{ij} &= \phi_m(z_i, z_j, g_{ij}, s_{ij}) \\
        V_i &\leftarrow V_i + \textstyle\sum_j \phi_v(m_{ij})\, p_{ij} \\
        z_i &\leftarrow z_i + \phi_z(z_i, \textstyle\sum_j m_{ij}, \gamma(|V_i|))

    where :math:`p_{ij}` is the offset of a pair on the logarithmic scale, :math:`\hat p_{ij}` its
    direction and :math:`g_{ij}` its scalars; :math:`\gamma` are Fourier features. The sums are
    weighted by the fade of the pairs; :math:`\phi_m` and :math:`\phi_z` normalize :math:`z`.

    Args:
        hidden: Scalar channels H.
        vectors: Vector channels C.

    Shapes:
        - **input:** scalars (s, H), vectors (s, C, 3), p pairs
        - **output:** scalars (s, H), vectors (s, C, 3)
    """

    def __init__(self, hidden: int, vectors: int) -> None:
        super().__init__()
        self.waves = FourierFeatures(4.0, 0.2, 6)
        self.message = mlp(3 * hidden + 2 * vectors * self.waves.size, hidden, hidden)
        self.weigh = nn.Linear(hidden, vectors)
        self.update = mlp(2 * hidden + vectors * self.waves.size, hidden, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self, sites: Tensor, vectors: Tensor | None, near: Neighbors
    ) -> tuple[Tensor, Tensor]:
        """Update scalars and vectors.

        Args:
            sites: Scalars, (s, H).
            vectors: Vectors, (s, C, 3); ``None`` if all are zero.
            near: The pairs.
        """
        normed = self.norm(sites)
        message = F.silu(self.message[1:](self._first_linear(normed, vectors, near)))
        if vectors is None:
            vectors = near.offset.new_zeros(len(sites), self.weigh.out_features, 3)
        gathered = near.gather(message, len(sites))
        weight = (self.weigh(message) * near.fade)[..., None].to(vectors.dtype)
        vectors = vectors.index_add(0, near.source, weight * near.offset[:, None])
        lengths = self.waves((vectors.square().sum(-1) + 1e-12).sqrt()).flatten(1)
        return sites + self.update(torch.cat([normed, gathered, lengths], -1)), vectors

    def _first_linear(self, normed: Tensor, vectors: Tensor | None, near: Neighbors) -> Tensor:
        """Compute the first linear layer of all messages, (2p, H).

        It has one term for each of its inputs. The terms of a site are computed once for all of its
        pairs, the other terms once for both directions of a pair.
        """
        linear = cast(nn.Linear, self.message[0])
        hidden, n_waves = normed.shape[1], self.weigh.out_features * self.waves.size
        weights = linear.weight.split([hidden, hidden, hidden, n_waves, n_waves], 1)
        source, target, pair, source_waves, target_waves = weights
        at_source, at_target = F.linear(normed, torch.cat([source, target])).chunk(2, 1)
        if vectors is None:
            # The Fourier features of zero.
            zero = self.waves(near.offset.new_zeros(self.weigh.out_features)).flatten()
            bias = linear.bias + (source_waves + target_waves) @ zero
            terms = F.linear(near.scalars, pair, bias).repeat(2, 1)
        else:
            # In the reverse direction, the ends are exchanged and the projections change sign, and
            # with them the features that are odd functions.
            parity = self.waves.parity.repeat(self.weigh.out_features)
            forward = torch.cat([pair, source_waves, target_waves], 1)
            reverse = torch.cat([pair, target_waves * parity, source_waves * parity], 1)
            # No matrix product, because mixed precision would round these lengths to 16 bits.
            projections = vectors.index_select(0, near.source).unflatten(0, (2, len(near.scalars)))
            projections = (projections * near.direction[: len(near.scalars), None]).sum(-1)
            waves = self.waves(projections).flatten(2)
            described = torch.cat([near.scalars, *waves], 1)
            terms = F.linear(described, torch.cat([forward, reverse]), linear.bias.repeat(2))
            terms = torch.cat(terms.chunk(2, 1))
        terms = terms + at_source.index_select(0, near.source)
        return terms + at_target.index_select(0, near.target)


class FillingLayer(nn.Module):
    r"""A message-passing layer over the sites of a filling.

    .. math::
        m_{ij} &= \text{SiLU}(W_1 h_i + W_2 h_j + W_3 g_{ij}) \\
        h_i &\leftarrow h_i + \phi_h(h_i, \textstyle\sum_j m_{ij}, c)

    where :math:`c` is the embedding of the whole crystal and :math:`g_{ij}` are the scalars of a
    pair. The sum is weighted by the fade of the pairs; the message and :math:`\phi_h` normalize
    :math:`h`. Linear layers with several inputs are split into one layer per input, so that the
    terms of a site are computed once per site instead of once per pair.

    Args:
        hidden: Channels H of sites and pairs.
        crystal: Channels G of the crystal.
        dropout: Dropout rate of the update.

    Shapes:
        - **input:** sites (K, s, H), crystals (K, S, G), p pairs
        - **output:** sites (K, s, H)
    """

    def __init__(self, hidden: int, crystal: int, dropout: float) -> None:
        super().__init__()
        # The names of the layers are the keys of saved weights.
        self.norm = nn.LayerNorm(hidden)
        self.here = nn.Linear(hidden, hidden)
        self.there = nn.Linear(hidden, hidden, bias=False)
        self.pair = nn.Linear(hidden, hidden, bias=False)
        self.own = nn.Linear(hidden, hidden)
        self.gathered = nn.Linear(hidden, hidden, bias=False)
        self.whole = nn.Linear(crystal, hidden, bias=False)
        self.update = nn.Linear(hidden, hidden)
        self.dropout = Dropout(dropout)

    def forward(
        self, sites: Tensor, crystals: Tensor, near: Neighbors, batch: SkeletonBatch
    ) -> Tensor:
        normed = self.norm(sites)
        # In place, because the arrays of messages are the largest of the network.
        message = self.here(normed).index_select(1, near.source)
        message += self.there(normed).index_select(1, near.target)
        message += self.pair(near.scalars).repeat(2, 1)
        message = F.silu(message)
        change = F.silu(
            self.own(normed)
            + self.gathered(near.gather(message, sites.shape[1]))
            + self.whole(crystals).index_select(1, batch.owner)
        )
        return sites + self.update(self.dropout(change))

    def at_sites(
        self,
        sites: Tensor,
        crystals: Tensor,
        near: Neighbors,
        batch: SkeletonBatch,
        chosen: Tensor,
    ) -> Tensor:
        """Update one site of each skeleton, from the messages to this site alone.

        Args:
            sites: (K, s, H).
            crystals: (K, S, G).
            near: The pairs.
            batch: The skeletons.
            chosen: The site of each skeleton, numbered within the batch, int64 (K, S).

        Returns:
            (K, S, H).
        """
        n_fillings, n_sites, hidden = sites.shape
        normed = self.norm(sites)
        index = chosen[..., None].expand(-1, -1, hidden)
        normed_here = normed.gather(1, index)
        is_chosen = torch.zeros(n_fillings, n_sites, dtype=torch.bool, device=sites.device)
        is_chosen.scatter_(1, chosen, True)
        filling, edge = is_chosen.index_select(1, near.source).nonzero(as_tuple=True)
        # The place of the crystal of each message in the flat axes (K, S).
        receiver = filling * chosen.shape[1] + batch.owner[near.source[edge]]
        sender = filling * n_sites + near.target[edge]
        message = self.here(normed_here).flatten(0, 1).index_select(0, receiver)
        message += self.there(normed).flatten(0, 1).index_select(0, sender)
        message += self.pair(near.scalars).index_select(0, edge % len(near.scalars))
        message = F.silu(message) * near.fade[edge].to(message.dtype)
        gathered = sum_at(message, receiver, chosen.numel(), 0).unflatten(0, chosen.shape)
        change = F.silu(self.own(normed_here) + self.gathered(gathered) + self.whole(crystals))
        return sites.gather(1, index) + self.update(self.dropout(change))


class CrystalLayer(nn.Module):
    r"""An update of the embedding of the whole crystal from its filled sites.

    .. math:: c \leftarrow c + \phi_c(c, \text{mean}_i\, h_i)

    Args:
        hidden: Channels H of sites.
        crystal: Channels G of the crystal.

    Shapes:
        - **input:** crystals (K, S, G), sites (K, s, H)
        - **output:** crystals (K, S, G)
    """

    def __init__(self, hidden: int, crystal: int) -> None:
        super().__init__()
        self.update = mlp(crystal + hidden, crystal, crystal)

    def forward(self, crystals: Tensor, sites: Tensor, batch: SkeletonBatch) -> Tensor:
        return crystals + self.update(torch.cat([crystals, batch.mean_over_sites(sites)], -1))
