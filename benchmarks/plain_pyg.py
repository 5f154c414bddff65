"""Straightforward implementation of the paper's networks with PyTorch Geometric.

``benchmarks/training.py`` and the tests compare the networks of ``crystal_agents`` with it. It has
one ``Data`` object per transition, ``MessagePassing`` layers, and PyG's own ``DataLoader``. The
weights have the same names, so that both load the same state dict.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, MessagePassing, global_mean_pool

from crystal_datasets.transitions import Transitions
from crystal_gym.crystals.skeleton import lattice_matrix


def data_objects(data: Transitions, rows: Sequence[int]) -> list[Data]:
    """Return one graph for each of the transitions."""
    objects = []
    for row in rows:
        skeleton = data.skeleton[row]
        n_sites = data.n_sites[skeleton]
        cell = data.lattice[skeleton].astype(np.float64)
        edges = data.edges[skeleton]
        inside = (edges[:, 0] >= 0) & (edges[:, 2:] == 0).all(1)
        objects.append(
            Data(
                element=torch.as_tensor(data.elements[row, :n_sites], dtype=torch.int64),
                pos=torch.as_tensor(
                    data.frac_coords[skeleton, :n_sites] @ lattice_matrix(cell),
                    dtype=torch.float32,
                ),
                edge_index=torch.as_tensor(edges[inside, :2].T, dtype=torch.int64).contiguous(),
                cell=torch.as_tensor(cell, dtype=torch.float32)[None],
                focus=int(data.focus[row]),
                y=int(data.action[row]),
            )
        )
    return objects


class EGNNConv(MessagePassing):
    """Equivariant layer with one message per edge, on request as in DGL."""

    def __init__(self, size_in: int, hidden: int, size_out: int, *, dgl: bool = False) -> None:
        super().__init__(aggr=None)
        self.dgl = dgl
        self.phi_e = nn.Sequential(
            nn.Linear(2 * size_in + 1, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.phi_x = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.phi_x_last = nn.Linear(hidden, 1, bias=False)
        self.phi_h = nn.Sequential(
            nn.Linear(size_in + hidden, hidden), nn.SiLU(), nn.Linear(hidden, size_out)
        )

    def forward(self, h: Tensor, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings (s, size_out) and positions (s, 3) after the layer."""
        message, displacement = self.propagate(edge_index, h=h, x=x)
        return self.phi_h(torch.cat([h, message], -1)), x + displacement

    def message(self, h_i: Tensor, h_j: Tensor, x_i: Tensor, x_j: Tensor) -> tuple[Tensor, Tensor]:
        """Return the message of each edge and its displacement of the target."""
        difference = x_i - x_j
        square = difference.square().sum(-1, keepdim=True)
        message = self.phi_e(torch.cat([h_i, h_j, square], -1))
        if self.dgl:
            difference = difference / (square.sqrt() + 1e-30)
        return message, difference * self.phi_x_last(self.phi_x(message))

    def aggregate(
        self, inputs: tuple[Tensor, Tensor], index: Tensor, dim_size: int
    ) -> tuple[Tensor, Tensor]:
        """Sum the messages and average the displacements."""
        message, displacement = inputs
        count = torch.bincount(index, minlength=dim_size).clamp_min(1)[:, None]
        message = message.new_zeros(dim_size, message.shape[1]).index_add(0, index, message)
        displacement = displacement.new_zeros(dim_size, 3).index_add(0, index, displacement)
        return message, displacement / count


class PlainEncoder(nn.Module):
    """Encoder ``egnn-paper`` or ``gcn`` with several layers."""

    def __init__(
        self,
        network: str,
        n_codes: int,
        hidden: int,
        size_h: int,
        layers: int,
        *,
        inner: int | None = None,
        dgl: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.linear = network, linear
        self.n_codes = n_codes
        self.size = size_h + (0 if linear else 3)
        sizes = [n_codes + 3 * linear, *[inner or hidden] * (layers - 1), size_h]
        self.layers = nn.ModuleList(
            [
                EGNNConv(a, hidden, b, dgl=dgl)
                if network == "egnn-paper"
                else GCNConv(a, b, add_self_loops=not linear)
                for a, b in itertools.pairwise(sizes)
            ]
        )

    def forward(self, data: Any) -> Tensor:
        """Return the embeddings and, except for a linear network, the positions, (s, size)."""
        h, x = F.one_hot(data.element, self.n_codes).float(), data.pos
        if self.linear:
            h = torch.cat([h, x], -1)
        for i, layer in enumerate(self.layers):
            if self.network == "egnn-paper":
                h, x = layer(h, x, data.edge_index)
            else:
                h = layer(h, data.edge_index)
                h = h if self.linear or i == len(self.layers) - 1 else h.relu()
        return h if self.linear else torch.cat([h, x], -1)


class PlainReadout(nn.Module):
    """Readout of the mean over sites and the features of the graph."""

    def __init__(self, size: int, n_elements: int, max_sites: int) -> None:
        super().__init__()
        self.max_sites = max_sites
        self.graph = nn.Linear(6 + max_sites, 8)
        self.action = nn.Linear(size + 8, n_elements)

    def forward(self, data: Any, embedding: Tensor) -> Tensor:
        """Return the logits (S, V)."""
        pooled = global_mean_pool(embedding, data.batch)
        focus = F.one_hot(data.focus, self.max_sites).float()
        graph = F.relu(self.graph(torch.cat([data.cell, focus], -1)))
        return self.action(torch.cat([pooled, graph], -1))


class PlainPolicy(nn.Module):
    """Network of the paper for PyG's batches."""

    def __init__(
        self,
        network: str,
        n_elements: int,
        max_sites: int,
        *,
        hidden: int = 256,
        size_h: int = 128,
        layers: int = 4,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.encoder = PlainEncoder(network, n_elements + 1, hidden, size_h, layers, **settings)
        self.readout = PlainReadout(self.encoder.size, n_elements, max_sites)

    def forward(self, data: Any) -> Tensor:
        """Return the logits of the next element for S graphs, (S, V)."""
        return self.readout(data, self.encoder(data))
