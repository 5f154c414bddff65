"""The network ``dimenet``: DimeNet++ on periodic edges, whose messages depend on angles.

Gasteiger et al., "Fast and Uncertainty-Aware Directional Message Passing for Non-Equilibrium
Molecules", 2020. The blocks are from PyTorch Geometric; edges and triplets are computed here for
periodic skeletons.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch, first_items
from crystal_agents.networks.readouts import SiteReadout

# Channels of the bases in the interaction blocks.
_BASIS = 8
# Numbers of dense layers before and after the skip connection and in the output blocks.
_BEFORE_SKIP, _AFTER_SKIP, _OUTPUT = 1, 2, 3


def triplets(batch: SkeletonBatch) -> tuple[Tensor, Tensor]:
    """Return all pairs of consecutive edges k → j and j → i, except an edge and its reverse.

    Args:
        batch: Skeletons with m edges in total.

    Returns:
        Indices of the first and of the second edges, int64 (t,) each.
    """
    source, target = batch.edge_source, batch.edge_target
    by_target = target.argsort(stable=True)
    degree = torch.bincount(target, minlength=len(batch.owner))
    begin = first_items(degree)
    # Each edge j → i follows all edges into j.
    n_first = degree[source]
    second = torch.arange(len(source), device=source.device).repeat_interleave(n_first)
    within = torch.arange(len(second), device=source.device)
    within = within - first_items(n_first).repeat_interleave(n_first)
    first = by_target[begin[source[second]] + within]
    is_reverse = source[first] == target[second]
    is_reverse &= (batch.edge_image[first] == -batch.edge_image[second]).all(-1)
    return first[~is_reverse], second[~is_reverse]


def bessel_zeros(orders: int, count: int) -> np.ndarray:
    """Compute the first zeros of the spherical Bessel functions.

    Args:
        orders: Number of functions, of order 0, 1, ….
        count: Number of zeros of each function.

    Returns:
        Zeros, float64 (orders, count).
    """
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    # The zeros of each order are between those of the preceding order.
    zeros = [np.arange(1, count + orders) * np.pi]
    for order in range(1, orders):
        intervals = zip(zeros[-1][:-1], zeros[-1][1:], strict=True)
        zeros.append(
            np.array([brentq(lambda x, n=order: spherical_jn(n, x), a, b) for a, b in intervals])
        )
    return np.stack([row[:count] for row in zeros])


class SphericalBasis(nn.Module):
    r"""Spherical Bessel functions of the distance times Legendre polynomials of the angle.

    .. math::
        a_{ln}(d, \theta) = u(d / c)\, N_{ln}\, j_l(z_{ln} d / c)\,
            \sqrt{(2l + 1) / 4\pi}\ P_l(\cos\theta)

    where :math:`z_{ln}` are the zeros, :math:`u` the envelope and :math:`c` the cutoff. The
    functions equal those of PyG's ``SphericalBasisLayer``, which derives them symbolically in ten
    seconds; here they are computed by recurrence.

    Args:
        spherical: Number of angular functions.
        radial: Number of radial functions.
        cutoff: :math:`c` in Å.

    Shapes:
        - **input:** lengths (m,) in Å, cosines (t,), index of each cosine's edge (t,)
        - **output:** (t, spherical * radial)
    """

    def __init__(self, spherical: int, radial: int, cutoff: float) -> None:
        super().__init__()
        from scipy.special import spherical_jn
        from torch_geometric.nn.models.dimenet import Envelope

        self.cutoff = cutoff
        self.envelope = Envelope(5)
        zeros = bessel_zeros(spherical, radial)
        orders = np.arange(spherical)[:, None]
        norm = np.sqrt(2) / np.abs(spherical_jn(orders + 1, zeros))
        norm = norm * np.sqrt((2 * orders + 1) / (4 * math.pi))
        self.zeros: Tensor
        self.norm: Tensor
        self.register_buffer("zeros", torch.tensor(zeros, dtype=torch.float32), persistent=False)
        self.register_buffer("norm", torch.tensor(norm, dtype=torch.float32), persistent=False)

    def forward(self, lengths: Tensor, cosines: Tensor, edge: Tensor) -> Tensor:
        relative = lengths / self.cutoff
        x = relative[:, None, None] * self.zeros
        previous_bessel, bessel = x.cos() / x, x.sin() / x
        previous_legendre, legendre = torch.zeros_like(cosines), torch.ones_like(cosines)
        radial_parts, angular_parts = [], []
        for order in range(len(self.zeros)):
            radial_parts.append(bessel[:, order])
            angular_parts.append(legendre)
            next_bessel = (2 * order + 1) / x * bessel - previous_bessel
            previous_bessel, bessel = bessel, next_bessel
            next_legendre = (2 * order + 1) * cosines * legendre - order * previous_legendre
            previous_legendre, legendre = legendre, next_legendre / (order + 1)
        radial = self.envelope(relative)[:, None, None] * torch.stack(radial_parts, 1) * self.norm
        return (radial[edge] * torch.stack(angular_parts, 1)[..., None]).flatten(1)


class Geometry(NamedTuple):
    """Bases of the m edges and t pairs of consecutive edges of S skeletons.

    Attributes:
        radial: Bases of the distances, (m, 1, R).
        spherical: Bases of the distances and angles of the pairs, (t, 1, Q).
        first: Indices of the first edges of the pairs, int64 (t,).
        second: Indices of the second edges of the pairs, int64 (t,).
    """

    radial: Tensor
    spherical: Tensor
    first: Tensor
    second: Tensor


class DimeNet(Encoder):
    r"""Directional message passing, in which each edge has a message.

    .. math::
        m_{ji} \leftarrow f\Big(m_{ji},\ \sum_k g\big(m_{kj},\ e(d_{ji}),\
            a(d_{kj}, \angle_{kji})\big)\Big), \qquad
        h_i = \sum_{\text{blocks}} \phi\Big(\sum_j e(d_{ji}) \odot m_{ji}\Big)

    where :math:`e` are radial Bessel functions and :math:`a` spherical Bessel functions times
    Legendre polynomials. The angle :math:`\angle_{kji}` is that between the directions of the edges
    k → j and j → i, as in PyG's DimeNet++. Both bases decrease to zero at the cutoff, so edges
    beyond it have no effect. The longest edges are 4.04 Å in Perov-5 and 4.63 Å in ``goldschmidt``;
    crystals with large ions or sparse cells need a larger cutoff.

    Args:
        n_elements: V.
        hidden: Channels H of messages and embeddings.
        blocks: Number of interaction blocks.
        radial: Number of radial functions.
        spherical: Number of angular functions.
        cutoff: In Å.

    Shapes:
        - **input:** codes (K, s)
        - **output:** embeddings (K, s, hidden)
    """

    Readout = SiteReadout

    def __init__(
        self,
        n_elements: int,
        *,
        hidden: int = 64,
        blocks: int = 3,
        radial: int = 6,
        spherical: int = 7,
        cutoff: float = 6.0,
    ) -> None:
        super().__init__()
        # Imported here, because the import takes two seconds and no other network needs it.
        from torch_geometric.nn.models.dimenet import (
            BesselBasisLayer,
            EmbeddingBlock,
            InteractionPPBlock,
            OutputPPBlock,
        )

        self.size = hidden
        self.distance = BesselBasisLayer(radial, cutoff)
        self.angle = SphericalBasis(spherical, radial, cutoff)
        self.embedding = EmbeddingBlock(radial, hidden, F.silu)
        # PyG's block embeds atomic numbers; this one embeds codes, 0 for an empty site.
        self.embedding.emb = nn.Embedding(n_elements + 1, hidden)
        self.embedding.reset_parameters()
        self.interactions = nn.ModuleList(
            [
                InteractionPPBlock(
                    hidden,
                    hidden // 2,
                    _BASIS,
                    spherical,
                    radial,
                    _BEFORE_SKIP,
                    _AFTER_SKIP,
                    F.silu,
                )
                for _ in range(blocks)
            ]
        )
        # PyG initializes the last layer to zero by default, so no gradient would reach the
        # messages in the first step.
        self.outputs = nn.ModuleList(
            [
                OutputPPBlock(
                    radial, hidden, 2 * hidden, hidden, _OUTPUT, F.silu, "glorot_orthogonal"
                )
                for _ in range(blocks + 1)
            ]
        )

    def geometry(self, batch: SkeletonBatch) -> Geometry:
        """Compute the bases of the distances and angles of all edges."""
        vectors = batch.edge_vectors
        lengths = vectors.square().sum(-1).sqrt()
        first, second = triplets(batch)
        # No matrix product, because mixed precision would round the cosines to 16 bits.
        cosines = (vectors[first] * vectors[second]).sum(-1) / (lengths[first] * lengths[second])
        # PyG's blocks gather and scatter edges along the first dimension, so the K fillings are
        # the second: (m, K, H). The bases are the same for all fillings: (m, 1, …).
        radial = self.distance(lengths)[:, None]
        spherical = self.angle(lengths, cosines, first)[:, None]
        return Geometry(radial, spherical, first, second)

    def geometry_modules(self) -> Sequence[nn.Module]:
        """Return the bases of distances and angles."""
        return [self.distance, self.angle]

    def forward(
        self, batch: SkeletonBatch, elements: Tensor, geometry: Geometry | None = None
    ) -> Tensor:
        source, target = batch.edge_source, batch.edge_target
        radial, spherical, first, second = geometry or self.geometry(batch)
        n_sites = len(batch.owner)
        messages = self.embedding(elements.T, radial.expand(-1, len(elements), -1), target, source)
        sites = self.outputs[0](messages, radial, target, n_sites)
        for interaction, output in zip(self.interactions, self.outputs[1:], strict=True):
            messages = interaction(messages, radial, spherical, first, second)
            sites = sites + output(messages, radial, target, n_sites)
        return sites.transpose(0, 1)
