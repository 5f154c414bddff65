"""The paper's comparison: graph convolutions in the place of the equivariant network."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from crystal_agents.encoders.encoder import Encoder
from crystal_agents.graphs import SkeletonBatch
from crystal_agents.readouts import GraphReadout


class GCN(Encoder):
    """Graph convolutions (Kipf & Welling, 2017) on the edges inside the cell.

    The site positions stand beside the embeddings as in the equivariant network, but no layer moves
    or reads them.

    Args:
        n_elements: V; sites are one-hot over V + 1 (0: empty).
        hidden: channels of the inner layers.
        size_h: channels of the last layer.
        layers: number of convolutions.

    Shapes: codes (K, s) to embeddings (K, s, size_h + 3).
    """

    Readout = GraphReadout

    def __init__(
        self, n_elements: int, *, hidden: int = 256, size_h: int = 128, layers: int = 4
    ) -> None:
        super().__init__()
        self.n_codes = n_elements + 1
        sizes = [self.n_codes, *[hidden] * (layers - 1), size_h]
        self.layers = nn.ModuleList(
            [GCNConv(a, b, node_dim=-2) for a, b in itertools.pairwise(sizes)]
        )
        self.size = size_h + 3

    def forward(self, batch: SkeletonBatch, elements: Tensor) -> Tensor:
        positions = batch.positions.expand(len(elements), -1, -1)
        h = F.one_hot(elements, self.n_codes).to(positions.dtype)
        edges = batch.in_cell_edges
        for layer in self.layers[:-1]:
            h = F.relu(layer(h, edges))
        return torch.cat([self.layers[-1](h, edges), positions], -1)
