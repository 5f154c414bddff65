"""Our network, told each site's number as the paper's network is through its focus vector."""

import torch
from torch import Tensor

from crystal_agents.networks.egnn import EGNN
from crystal_agents.networks.graph_batch import SkeletonBatch

# Wavelengths of the sines and cosines of a site's number: 4 to 128 sites.
_WAVES = 6


class EGNNIndexed(EGNN):
    """EGNN whose sites know their index in the order of the source.

    It can use what a source's convention gives away: in CDVAE's files of Perov-5 the odd anion
    stands on X1, never on its mirror image X2. The order of the sites matters to it.

    Args:
        n_elements: V.
        hidden, vectors, geometry_layers, crystal, crystal_layers, filling_layers, dropout: as of
            ``EGNN``.

    Shapes: codes (K, s) to embeddings (K, s, hidden).
    """

    index_size = 2 * _WAVES

    def index(self, batch: SkeletonBatch) -> Tensor:
        """Sines and cosines of the sites' numbers, (s, 12)."""
        wave = 2 * torch.pi / 2 ** torch.arange(2, 2 + _WAVES, device=batch.index.device)
        phase = batch.index[:, None] * wave.to(batch.lattice.dtype)
        return torch.cat([phase.sin(), phase.cos()], -1)
