"""The paper's network: EGNN on the edges inside the cell, read out as a mean over sites."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import MessagePassing

from crystal_agents.encoders.encoder import Encoder
from crystal_agents.graphs import SkeletonBatch
from crystal_agents.readouts import GraphReadout


class EGNNConv(MessagePassing):
    r"""The equivariant layer of Satorras, Hoogeboom & Welling (2021), equations 3 to 6.

    .. math::
        m_{ij} &= \phi_e(h_i, h_j, |x_i - x_j|^2) \\
        x_i &\leftarrow x_i + \text{mean}_j\, (x_i - x_j)\, \phi_x(m_{ij}) \\
        h_i &\leftarrow \phi_h(h_i, \textstyle\sum_j m_{ij})

    Args:
        size_in: channels of h before the layer.
        hidden: channels of the messages.
        size_out: channels of h behind it.

    Shapes:
        - **input:** h (K, s, size_in), x (K, s, 3) in Å, edge indices (2, m)
        - **output:** h (K, s, size_out), x (K, s, 3)
    """

    def __init__(self, size_in: int, hidden: int, size_out: int) -> None:
        super().__init__(aggr="sum", node_dim=-2)
        self.phi_e = nn.Sequential(
            nn.Linear(2 * size_in + 1, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.phi_x = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.phi_x_last = nn.Linear(hidden, 1, bias=False)
        self.phi_h = nn.Sequential(
            nn.Linear(size_in + hidden, hidden), nn.SiLU(), nn.Linear(hidden, size_out)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial weights, but a small last layer of the position update."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        # A large first move would throw the sites apart: the authors' own choice of gain.
        nn.init.xavier_uniform_(self.phi_x_last.weight, gain=0.001)

    def forward(self, h: Tensor, x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        gathered = self.propagate(edges, h=h, x=x)
        message, move = gathered[..., :-4], gathered[..., -4:]
        # The last channel counts the neighbours: a mean of the moves beside a sum of the messages.
        x = x + move[..., :3] / move[..., 3:].clamp_min(1)
        return self.phi_h(torch.cat([h, message], -1)), x

    def message(self, h_i: Tensor, h_j: Tensor, x_i: Tensor, x_j: Tensor) -> Tensor:
        apart = x_i - x_j
        message = self.phi_e(torch.cat([h_i, h_j, apart.square().sum(-1, keepdim=True)], -1))
        move = apart * self.phi_x_last(self.phi_x(message))
        return torch.cat([message, move, torch.ones_like(move[..., :1])], -1)


class EGNNPaper(Encoder):
    """Four equivariant layers, hidden 256, output 128, on the edges inside the cell.

    Args:
        n_elements: V; sites are one-hot over V + 1 (0: empty).
        hidden: channels of the inner layers and of all messages.
        size_h: channels of h behind the last layer.
        layers: number of layers.

    Shapes: codes (K, s) to embeddings [h, x] (K, s, size_h + 3), x in Å.
    """

    Readout = GraphReadout

    def __init__(
        self, n_elements: int, *, hidden: int = 256, size_h: int = 128, layers: int = 4
    ) -> None:
        super().__init__()
        self.n_codes = n_elements + 1
        sizes = [self.n_codes, *[hidden] * (layers - 1), size_h]
        self.layers = nn.ModuleList([EGNNConv(a, hidden, b) for a, b in itertools.pairwise(sizes)])
        self.size = size_h + 3

    def forward(self, batch: SkeletonBatch, elements: Tensor) -> Tensor:
        x = batch.positions.expand(len(elements), -1, -1)
        h = F.one_hot(elements, self.n_codes).to(x.dtype)
        edges = batch.in_cell_edges
        for layer in self.layers:
            h, x = layer(h, x, edges)
        return torch.cat([h, x], -1)
