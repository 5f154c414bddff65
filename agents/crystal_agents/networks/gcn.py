"""The network ``gcn``: graph convolutions, the paper's comparison network."""

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.networks.message_edges import MessageEdges
from crystal_agents.networks.readouts import GraphReadout


class _Convolution(nn.Module):
    """The weights of one convolution, with the names and initial values of PyG's ``GCNConv``."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.lin = nn.Linear(size_in, size_out, bias=False)
        self.bias = nn.Parameter(torch.zeros(size_out))
        nn.init.xavier_uniform_(self.lin.weight)


class GCN(Encoder):
    r"""Graph convolutions (Kipf & Welling, 2017) on the edges inside the cell.

    .. math::
        h_i \leftarrow \text{ReLU}\Big(b + \sum_{j \in \mathcal N(i) \cup \{i\}}
            \frac{W h_j}{\sqrt{d_i d_j}}\Big)

    where :math:`d_i = 1 + |\mathcal N(i)|`; the last layer has no ReLU. The site positions are
    concatenated to the embeddings as in ``egnn-paper``, but the layers neither use nor update them.

    Args:
        n_elements: V; sites are one-hot over V + 1 codes, 0 for an empty site.
        hidden: Channels of the inner layers.
        size_h: Channels of the last layer.
        layers: Number of convolutions.
        linear: Whether to follow the paper's code: the positions are concatenated to the codes in
            the input instead of the output, there is no ReLU, and a site is not its own neighbor.

    Shapes:
        - **input:** codes (K, s)
        - **output:** embeddings [h, x] (K, s, size_h + 3), x in Å; only h if ``linear``
    """

    Readout = GraphReadout

    def __init__(
        self,
        n_elements: int,
        *,
        hidden: int = 256,
        size_h: int = 128,
        layers: int = 4,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        sizes = [n_elements + (4 if linear else 1), *[hidden] * (layers - 1), size_h]
        self.layers = nn.ModuleList([_Convolution(a, b) for a, b in itertools.pairwise(sizes)])
        self.size = size_h + (0 if linear else 3)

    def geometry(self, batch: SkeletonBatch) -> MessageEdges:
        """Return the edges of the convolutions."""
        return batch.in_cell_messages()

    def forward(
        self, batch: SkeletonBatch, elements: Tensor, geometry: MessageEdges | None = None
    ) -> Tensor:
        # One additional site, at which the padding edges start and end.
        elements = F.pad(elements, (0, 1))
        edges = geometry or self.geometry(batch)
        # The normalization is the same in all layers: a product of factors of the two sites.
        degree = edges.in_degree.clamp_min(1) if self.linear else 1 + edges.in_degree
        scale = degree.rsqrt()[:, None]
        first, *others = cast(list[_Convolution], list(self.layers))

        def convolve(h: Tensor, layer: _Convolution) -> Tensor:
            h = h * scale
            others = edges.sum_at_target(edges.at_source(h))
            return (others if self.linear else h + others) * scale + layer.bias

        weight = first.lin.weight.T
        # The product with one-hot rows selects columns of the weight.
        h = F.embedding(elements, weight[: len(weight) - 3] if self.linear else weight)
        if self.linear:
            x = F.pad(batch.positions, (0, 0, 0, 1))
            h = h + x @ weight[len(weight) - 3 :]
        h = convolve(h, first)
        for layer in others:
            h = convolve(layer.lin(h if self.linear else F.relu(h)), layer)
        if self.linear:
            return h[:, :-1]
        return torch.cat([h[:, :-1], batch.positions.expand(len(elements), -1, -1)], -1)
