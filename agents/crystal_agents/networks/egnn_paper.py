"""The paper's network: EGNN on the edges inside the cell, read out as a mean over sites."""

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch, cartesian, sum_at
from crystal_agents.networks.readouts import GraphReadout


def padded_size(n: int) -> int:
    """Round up to seven significant bits: as it is below 128, else by 1.6 % at most."""
    step = 1 << max(0, n.bit_length() - 7)
    return -(-n // step) * step


def _linear(layers: nn.Sequential, index: int) -> nn.Linear:
    return cast(nn.Linear, layers[index])


class EGNNConv(nn.Module):
    r"""The equivariant layer of Satorras, Hoogeboom & Welling (2021), equations 3 to 6.

    .. math::
        m_{ij} &= \phi_e(h_i, h_j, |x_i - x_j|^2) \\
        x_i &\leftarrow x_i + \text{mean}_j\, (x_i - x_j)\, \phi_x(m_{ij}) \\
        h_i &\leftarrow \phi_h(h_i, \textstyle\sum_j m_{ij})

    What the first linear layers of :math:`\phi_e` and :math:`\phi_h` make of :math:`h_i` and
    :math:`h_j` is the same on all edges of a site. ``site_terms`` are these three products, made
    once for each site; ``pass_messages`` goes on from them.

    Args:
        size_in: channels of h before the layer.
        hidden: channels of the messages.
        size_out: channels of h behind it.

    Shapes:
        - **input:** h (K, s, size_in), x (K, s, 3) in Å, edge indices (2, m)
        - **output:** h (K, s, size_out), x (K, s, 3)
    """

    def __init__(self, size_in: int, hidden: int, size_out: int) -> None:
        super().__init__()
        self.size_in = size_in
        self.phi_e = nn.Sequential(
            nn.Linear(2 * size_in + 1, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.phi_x = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.phi_x_last = nn.Linear(hidden, 1, bias=False)
        self.phi_h = nn.Sequential(
            nn.Linear(size_in + hidden, hidden), nn.SiLU(), nn.Linear(hidden, size_out)
        )
        # A large first move would throw the sites apart: the authors' own choice of gain.
        nn.init.xavier_uniform_(self.phi_x_last.weight, gain=0.001)

    def forward(self, h: Tensor, x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        inner, x = self.pass_messages(F.linear(h, *self.site_terms()), x, edges)
        return self.phi_h[2](inner), x

    def site_terms(self) -> tuple[Tensor, Tensor]:
        r"""The linear layer from h to what it adds to each edge's target, source and own update.

        Returns:
            Weight (3 hidden, size_in) and bias (3 hidden,).
        """
        edge, update = _linear(self.phi_e, 0), _linear(self.phi_h, 0)
        target, source, _ = edge.weight.split([self.size_in, self.size_in, 1], 1)
        weight = torch.cat([target, source, update.weight[:, : self.size_in]])
        # An edge has one target, so phi_e's bias may come with it.
        return weight, torch.cat([edge.bias, torch.zeros_like(edge.bias), update.bias])

    def pass_messages(
        self, terms: Tensor, x: Tensor, edges: Tensor, shift: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""From the site terms to the hidden layer of :math:`\phi_h` and the new positions.

        Args:
            terms: (K, s, 3 hidden).
            x: positions in Å, (K, s, 3).
            edges: indices of source and target, (2, m).
            shift: from the source's cell to the target's in Å, (m, 3); all in one cell without it.

        Returns:
            (K, s, hidden) and x.
        """
        source, target = edges
        n_sites = x.shape[-2]
        of_target, of_source, of_update = terms.chunk(3, -1)
        apart = x.index_select(1, target) - x.index_select(1, source)
        if shift is not None:
            apart = apart + shift
        sites = of_target.index_select(1, target) + of_source.index_select(1, source)
        # The distance enters by no matrix product: mixed precision would take it in 16 bits.
        square = apart.square().sum(-1, keepdim=True)
        by_distance = _linear(self.phi_e, 0).weight[:, -1]
        message = self.phi_e[1:](torch.addcmul(sites, square, by_distance))
        move = sum_at(apart * self.phi_x_last(self.phi_x(message)), target, n_sites, 1)
        x = x + move / torch.bincount(target, minlength=n_sites).clamp_min(1)[:, None]
        gathered = sum_at(message, target, n_sites, 1)
        update = F.linear(gathered, _linear(self.phi_h, 0).weight[:, self.size_in :])
        return F.silu(of_update + update), x


class EGNNPaper(Encoder):
    """Four equivariant layers, hidden 256, output 128, on the edges inside the cell.

    The last three settings depart from the paper, one thing each.

    Args:
        n_elements: V; sites are one-hot over V + 1 (0: empty).
        hidden: channels of the inner layers and of all messages.
        size_h: channels of h behind the last layer.
        layers: number of layers.
        periodic: messages also pass along the edges that cross the cell's faces.
        coordinates: the readout sees x beside h.
        focus_as_index: the readout is told the focus as a number; see ``GraphReadout``.

    Shapes: codes (K, s) to embeddings [h, x] (K, s, size_h + 3), x in Å; without coordinates h.
    """

    Readout = GraphReadout

    def __init__(
        self,
        n_elements: int,
        *,
        hidden: int = 256,
        size_h: int = 128,
        layers: int = 4,
        periodic: bool = False,
        coordinates: bool = True,
        focus_as_index: bool = False,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.coordinates = coordinates
        self.focus_as_index = focus_as_index
        self.n_codes = n_elements + 1
        sizes = [self.n_codes, *[hidden] * (layers - 1), size_h]
        self.layers = nn.ModuleList([EGNNConv(a, hidden, b) for a, b in itertools.pairwise(sizes)])
        self.size = size_h + (3 if coordinates else 0)

    def make_readout(self, n_elements: int, max_sites: int) -> GraphReadout:
        return GraphReadout(self.size, n_elements, max_sites, focus_as_index=self.focus_as_index)

    def forward(self, batch: SkeletonBatch, elements: Tensor) -> Tensor:
        # One site more, at which the edges end that are there for their number alone.
        elements = F.pad(elements, (0, 1))
        x = F.pad(batch.positions, (0, 0, 0, 1)).expand(len(elements), -1, -1)
        edges, shift = self._edges(batch)
        first, *others = cast(list[EGNNConv], list(self.layers))
        weight, bias = first.site_terms()
        # A product with one-hot rows picks columns of the weight.
        inner, x = first.pass_messages(F.embedding(elements, weight.T) + bias, x, edges, shift)
        last = _linear(first.phi_h, 2)
        for layer in others:
            # Two linear layers on end are one: h itself is needed behind the last layer alone.
            weight, bias = layer.site_terms()
            terms = F.linear(inner, weight @ last.weight, bias + weight @ last.bias)
            inner, x = layer.pass_messages(terms, x, edges, shift)
            last = _linear(layer.phi_h, 2)
        h = last(inner)[:, :-1]
        return torch.cat([h, x[:, :-1]], -1) if self.coordinates else h

    def _edges(self, batch: SkeletonBatch) -> tuple[Tensor, Tensor | None]:
        """Those that messages pass along, (2, m), and their shifts in Å, (m, 3).

        Padded by edges from site s, behind the last, to itself: training batches, whose edges
        differ by a few in number, would ask for memory of another size at each step, and the heap
        of a long training on the CPU would break into pieces until it is four times as large.
        """
        edges, shift = batch.in_cell_edges, None
        if self.periodic:
            cells = batch.lattice[batch.owner[batch.edge_source]]
            edges = torch.stack([batch.edge_source, batch.edge_target])
            shift = cartesian(batch.edge_image, cells)
        n_edges = edges.shape[1]
        added = padded_size(n_edges) - n_edges
        edges = F.pad(edges, (0, added), value=len(batch.owner))
        return edges, None if shift is None else F.pad(shift, (0, 0, 0, added))
