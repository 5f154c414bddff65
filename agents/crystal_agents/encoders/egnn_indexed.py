"""Our network, told each site's number as the paper's network is through its focus vector."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from crystal_agents.encoders.egnn import EGNN, Pairs
from crystal_agents.graphs import SkeletonBatch

# Wavelengths of the sines and cosines of a site's number: 4 to 128 sites.
_WAVES = 6


class EGNNIndexed(EGNN):
    """EGNN whose sites know their index in the order of the source.

    It can use what a source's convention gives away: in CDVAE's files of Perov-5 the odd anion
    stands on X1, never on its mirror image X2. The order of the sites matters to it.

    Args:
        n_elements: V.
        hidden, vectors, geometry_layers, filling_layers, dropout: as of ``EGNN``.

    Shapes: codes (K, s) to embeddings (K, s, hidden).
    """

    @functools.wraps(EGNN.__init__)  # the same settings, found by the signature
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.index = nn.Linear(2 * _WAVES, self.size, bias=False)

    def geometry(self, batch: SkeletonBatch) -> tuple[Tensor, Tensor, Pairs]:
        """As of ``EGNN``, with the index added to the scalars of the sites."""
        sites, pair_scalars, pairs = super().geometry(batch)
        wave = 2 * torch.pi / 2 ** torch.arange(2, 2 + _WAVES, device=sites.device)
        phase = batch.index[:, None] * wave.to(batch.lattice.dtype)
        return sites + self.index(torch.cat([phase.sin(), phase.cos()], -1)), pair_scalars, pairs
