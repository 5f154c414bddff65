"""The network ``egnn-paper``: EGNN on the edges inside the cell, with the paper's readout."""

import itertools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.networks.message_edges import MessageEdges
from crystal_agents.networks.readouts import GraphReadout


def _linear(layers: nn.Sequential, index: int) -> nn.Linear:
    return cast(nn.Linear, layers[index])


class EGNNConv(nn.Module):
    r"""The equivariant layer of Satorras, Hoogeboom & Welling (2021), equations 3 to 6.

    .. math::
        m_{ij} &= \phi_e(h_i, h_j, |x_i - x_j|^2) \\
        x_i &\leftarrow x_i + \text{mean}_j\, (x_i - x_j)\, \phi_x(m_{ij}) \\
        h_i &\leftarrow \phi_h(h_i, \textstyle\sum_j m_{ij})

    The products of :math:`h_i` and :math:`h_j` with the first weights of :math:`\phi_e` and
    :math:`\phi_h` are the same for all edges of a site, so they are computed once per site.
    ``site_terms`` returns the weights of these three products; ``pass_messages`` uses the products.

    Args:
        size_in: Channels of h in the input.
        hidden: Channels of the messages.
        size_out: Channels of h in the output.
        dgl: Whether to follow DGL's ``EGNNConv``, which divides :math:`x_i - x_j` in the second
            equation by the distance and gives all weights PyTorch's initial values.

    Shapes:
        - **input:** h (K, s, size_in), x (K, s, 3) in Å, m edges
        - **output:** h (K, s, size_out), x (K, s, 3)
    """

    def __init__(self, size_in: int, hidden: int, size_out: int, *, dgl: bool = False) -> None:
        super().__init__()
        self.size_in = size_in
        self.dgl = dgl
        self.phi_e = nn.Sequential(
            nn.Linear(2 * size_in + 1, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.phi_x = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.phi_x_last = nn.Linear(hidden, 1, bias=False)
        self.phi_h = nn.Sequential(
            nn.Linear(size_in + hidden, hidden), nn.SiLU(), nn.Linear(hidden, size_out)
        )
        if not dgl:
            # The gain of Satorras et al.; large displacements would move the sites far apart.
            nn.init.xavier_uniform_(self.phi_x_last.weight, gain=0.001)

    def forward(self, h: Tensor, x: Tensor, edges: MessageEdges) -> tuple[Tensor, Tensor]:
        inner, x = self.pass_messages(F.linear(h, *self.site_terms()), x, edges)
        return self.phi_h[2](inner), x

    def site_terms(self) -> tuple[Tensor, Tensor]:
        r"""Return the linear layer that computes the three terms of each site from h.

        A site contributes one term to the messages of the edges of which it is the target, one to
        those of which it is the source, and one to its own update.

        Returns:
            Weight (3 hidden, size_in) and bias (3 hidden,).
        """
        edge, update = _linear(self.phi_e, 0), _linear(self.phi_h, 0)
        target, source, _ = edge.weight.split([self.size_in, self.size_in, 1], 1)
        weight = torch.cat([target, source, update.weight[:, : self.size_in]])
        # Each edge has one target, so the target's term can include the bias of phi_e.
        return weight, torch.cat([edge.bias, torch.zeros_like(edge.bias), update.bias])

    def pass_messages(
        self, terms: Tensor, x: Tensor, edges: MessageEdges, shift: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Compute the hidden layer of :math:`\phi_h` and the new positions from the site terms.

        Args:
            terms: Products of ``site_terms`` and h, (K, s, 3 hidden).
            x: Positions in Å, (K, s, 3).
            edges: The m edges of the messages.
            shift: Vectors from the cell of the source to the cell of the target in Å, (m, 3)
                (default: all edges are inside one cell).

        Returns:
            The hidden layer, (K, s, hidden), and x, (K, s, 3).
        """
        target_term, source_term, update_term = terms.chunk(3, -1)
        vectors = edges.at_target(x) - edges.at_source(x)
        if shift is not None:
            vectors = vectors + shift
        # In place, because the arrays of messages are the largest of the network.
        sites = edges.at_target(target_term)
        sites += edges.at_source(source_term)
        # No matrix product, because mixed precision would round the distances to 16 bits.
        square = vectors.square().sum(-1, keepdim=True)
        square_weight = _linear(self.phi_e, 0).weight[:, -1]
        message = self.phi_e[1:](torch.addcmul(sites, square, square_weight))
        if self.dgl:
            # The vectors of padding edges are zero.
            vectors = vectors * square.clamp_min(1e-12).rsqrt()
        move = edges.sum_at_target(vectors * self.phi_x_last(self.phi_x(message)))
        x = x + move / edges.in_degree.clamp_min(1)[:, None]
        gathered = edges.sum_at_target(message)
        update = F.linear(gathered, _linear(self.phi_h, 0).weight[:, self.size_in :])
        return F.silu(update_term + update), x


class EGNNPaper(Encoder):
    """The paper's network: four ``EGNNConv`` layers on the edges inside the cell.

    The other settings are changes to the network of the paper's text.

    Args:
        n_elements: V; sites are one-hot over V + 1 codes, 0 for an empty site.
        hidden: Channels of the inner layers and of all messages.
        size_h: Channels of h in the output of the last layer.
        layers: Number of layers.
        inner: Channels of h between the layers (default: ``hidden``).
        dgl: Whether the layers follow DGL's ``EGNNConv``; see ``EGNNConv``.
        periodic: Also pass messages along the edges that cross faces of the cell.
        coordinates: Concatenate the positions x to h for the readout.
        focus_as_index: Encode the focus as one number in the readout; see ``GraphReadout``.

    Shapes:
        - **input:** codes (K, s)
        - **output:** embeddings [h, x] (K, s, size_h + 3), x in Å; only h without ``coordinates``
    """

    Readout = GraphReadout

    def __init__(
        self,
        n_elements: int,
        *,
        hidden: int = 256,
        size_h: int = 128,
        layers: int = 4,
        inner: int | None = None,
        dgl: bool = False,
        periodic: bool = False,
        coordinates: bool = True,
        focus_as_index: bool = False,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.coordinates = coordinates
        self.focus_as_index = focus_as_index
        sizes = [n_elements + 1, *[inner or hidden] * (layers - 1), size_h]
        self.layers = nn.ModuleList(
            [EGNNConv(a, hidden, b, dgl=dgl) for a, b in itertools.pairwise(sizes)]
        )
        self.size = size_h + (3 if coordinates else 0)

    def make_readout(self, n_elements: int, max_sites: int) -> GraphReadout:
        return GraphReadout(self.size, n_elements, max_sites, focus_as_index=self.focus_as_index)

    def geometry(self, batch: SkeletonBatch) -> tuple[MessageEdges, Tensor | None]:
        """Return the edges of the messages, and their shifts in Å, (m, 3), if they are periodic."""
        return batch.periodic_messages() if self.periodic else (batch.in_cell_messages(), None)

    def forward(
        self,
        batch: SkeletonBatch,
        elements: Tensor,
        geometry: tuple[MessageEdges, Tensor | None] | None = None,
    ) -> Tensor:
        # One additional site, at which the padding edges start and end.
        elements = F.pad(elements, (0, 1))
        x = F.pad(batch.positions, (0, 0, 0, 1)).expand(len(elements), -1, -1)
        edges, shift = geometry or self.geometry(batch)
        first, *others = cast(list[EGNNConv], list(self.layers))
        weight, bias = first.site_terms()
        # The product with one-hot rows selects columns of the weight.
        inner, x = first.pass_messages(F.embedding(elements, weight.T) + bias, x, edges, shift)
        last = _linear(first.phi_h, 2)
        for layer in others:
            # Two consecutive linear layers are merged: only the last layer needs h itself.
            weight, bias = layer.site_terms()
            terms = F.linear(inner, weight @ last.weight, bias + weight @ last.bias)
            inner, x = layer.pass_messages(terms, x, edges, shift)
            last = _linear(layer.phi_h, 2)
        h = last(inner)[:, :-1]
        return torch.cat([h, x[:, :-1]], -1) if self.coordinates else h
