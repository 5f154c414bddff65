"""The paper's comparison: graph convolutions in the place of the equivariant network."""

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.networks.readouts import GraphReadout


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
        # PyG's layers hold the weights; the convolution itself is written out below.
        self.layers = nn.ModuleList([GCNConv(a, b) for a, b in itertools.pairwise(sizes)])
        self.size = size_h + 3

    def forward(self, batch: SkeletonBatch, elements: Tensor) -> Tensor:
        positions = batch.positions.expand(len(elements), -1, -1)
        n_sites = positions.shape[1]
        source, target = batch.in_cell_edges
        # The normalisation is the same for all layers, and a product of two sites' factors.
        scale = (1 + torch.bincount(target, minlength=n_sites)).to(positions.dtype).rsqrt()[:, None]
        first, *others = cast(list[GCNConv], list(self.layers))

        def convolve(h: Tensor, layer: GCNConv) -> Tensor:
            h = h * scale
            # A site is its own neighbor: the sum over the others is added to it.
            h = h.index_add(1, target, h.index_select(1, source))
            return h * scale + cast(Tensor, layer.bias)

        # A product with one-hot rows picks columns of the weight.
        h = convolve(F.embedding(elements, first.lin.weight.T), first)
        for layer in others:
            h = convolve(layer.lin(F.relu(h)), layer)
        return torch.cat([h, positions], -1)
