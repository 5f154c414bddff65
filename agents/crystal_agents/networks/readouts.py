"""Readouts, which map embeddings of the sites to logits of the next element."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_gym.errors import CrystalGymError


class GraphReadout(nn.Module):
    r"""The paper's readout: the mean over the sites, concatenated with features of the graph.

    .. math::
        t &= \text{mean}_v\, e_v \\
        y &= \text{ReLU}(W_y [l, \alpha, f]) \\
        a &= W_a [t, y]

    where :math:`l` are the lattice lengths in Å, :math:`\alpha` the angles in degrees and :math:`f`
    the focus. The paper prints :math:`f` in bold, as it does the vectors :math:`l` and
    :math:`\alpha`, so it is one-hot over the N sites of the largest cell. The other
    interpretation, a single number, is an option.

    Args:
        size: Channels D of the site embeddings.
        n_elements: V.
        max_sites: N, the number of sites of the largest cell.
        focus_as_index: Use the index of the site in focus divided by N instead of a one-hot vector.

    Shapes:
        - **input:** embeddings (K, s, D), focus (K, S)
        - **output:** logits (K, S, V)
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
            encoded = focus[..., None].to(cell.dtype) / self.max_sites
        else:
            encoded = F.one_hot(focus, self.max_sites).to(cell.dtype)
        graph = F.relu(self.graph(torch.cat([cell, encoded], -1)))
        return self.action(torch.cat([pooled, graph], -1))

    def every_site(self, embedding: Tensor) -> Tensor:
        """Raise an error, because the logits depend on the focus.

        Raises:
            CrystalGymError: Always.
        """
        raise CrystalGymError(
            "Expected a focus, which a network with a graph readout requires, got none. Pass a "
            "focus; in a recipe, set traversals='expert'."
        )


class SiteReadout(nn.Module):
    r"""A readout of the site in focus.

    .. math:: a = \text{MLP}(e_f)

    The embeddings do not depend on the focus. States with the same filling therefore share one
    pass of the encoder, and the logits of all sites can be computed at once.

    Args:
        size: Channels D of the site embeddings.
        n_elements: V.
        max_sites: Unused; makes the readouts interchangeable.

    Shapes:
        - **input:** embeddings (K, s, D), focus (K, S)
        - **output:** logits (K, S, V)
    """

    needs_focus = False

    def __init__(self, size: int, n_elements: int, max_sites: int) -> None:
        super().__init__()
        self.action = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, n_elements))

    def forward(self, batch: SkeletonBatch, embedding: Tensor, focus: Tensor) -> Tensor:
        site = batch.flat_focus(focus)[..., None].expand(-1, -1, embedding.shape[-1])
        return self.action(embedding.gather(1, site))

    def every_site(self, embedding: Tensor) -> Tensor:
        """Return the logits of all sites, (K, s, V)."""
        return self.action(embedding)
