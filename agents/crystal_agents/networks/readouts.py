"""From site embeddings to the logits of the next element."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_gym.errors import CrystalGymError


class GraphReadout(nn.Module):
    r"""The paper's readout: a mean over sites beside the graph's own features.

    .. math::
        t = \text{mean}_v\, e_v, \qquad
        y = \text{ReLU}(W_y [l, \alpha, f]), \qquad
        a = W_a [t, y]

    with the lattice lengths :math:`l` in Å, angles :math:`\alpha` in degrees and the focus
    :math:`f`. The paper sets it in bold as it does :math:`l` and :math:`\alpha`, a vector: one-hot
    over the N sites of the largest cell. What else it may have meant is the bare number.

    Args:
        size: channels D of the site embeddings.
        n_elements: V.
        max_sites: N.
        focus_as_index: the focus is its site's number as a share of N.

    Shapes: embeddings (K, s, D) and focus (K, S) to logits (K, S, V).
    """

    needs_focus = True

    def __init__(
        self, size: int, n_elements: int, max_sites: int, *, focus_as_index: bool = False
    ) -> None:
        super().__init__()
        self.max_sites = max_sites
        self.focus_as_index = focus_as_index
        self.graph = nn.Linear(6 + (1 if focus_as_index else max_sites), 8)
        self.action = nn.Linear(size + 8, n_elements)

    def forward(self, batch: SkeletonBatch, embedding: Tensor, focus: Tensor) -> Tensor:
        pooled = batch.mean_over_sites(embedding)
        cell = batch.parameters.expand(len(focus), -1, -1)
        if self.focus_as_index:
            told = focus[..., None].to(cell.dtype) / self.max_sites
        else:
            told = F.one_hot(focus, self.max_sites).to(cell.dtype)
        graph = F.relu(self.graph(torch.cat([cell, told], -1)))
        return self.action(torch.cat([pooled, graph], -1))

    def every_site(self, embedding: Tensor) -> Tensor:
        """Refused: this readout is told one site at a time."""
        raise CrystalGymError(
            "A network with a graph readout cannot read all sites at once; give it a focus "
            "(recipes: traversals='expert')."
        )


class SiteReadout(nn.Module):
    r"""Reads the site in focus: :math:`a = \text{MLP}(e_f)`.

    The network in front of it does not know the focus, so states with the same filling share one
    pass, and every empty site can be read at once.

    Shapes: embeddings (K, s, D) and focus (K, S) to logits (K, S, V).
    """

    needs_focus = False

    def __init__(self, size: int, n_elements: int, max_sites: int) -> None:
        super().__init__()
        self.action = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, n_elements))

    def forward(self, batch: SkeletonBatch, embedding: Tensor, focus: Tensor) -> Tensor:
        site = batch.flat_focus(focus)[..., None].expand(-1, -1, embedding.shape[-1])
        return self.action(embedding.gather(1, site))

    def every_site(self, embedding: Tensor) -> Tensor:
        """Logits at all sites, (K, s, V)."""
        return self.action(embedding)
