"""The network ``egnn-indexed``: ``egnn`` with the index of each site as an input."""

import torch
from torch import Tensor

from crystal_agents.networks.egnn import EGNN
from crystal_agents.networks.graph_batch import SkeletonBatch

# Number of wavelengths in the encoding of a site's index: 4, 8, …, 128 sites.
_WAVES = 6


class EGNNIndexed(EGNN):
    r"""EGNN with an encoding of each site's index as an additional input.

    .. math:: \text{index}(n) = [\sin(2\pi n/2^k),\ \cos(2\pi n/2^k)]_{k = 2, \ldots, 7}

    The network depends on the order of the sites and can exploit conventions of the dataset: in
    CDVAE's files of Perov-5, the odd anion is always on X1 and never on the equivalent site X2.

    Args:
        n_elements: V.
        hidden, vectors, geometry_layers, crystal, crystal_layers, filling_layers, site_blocks,
            site, dropout: See ``EGNN``.

    Shapes:
        - **input:** codes (K, s)
        - **output:** embeddings (K, s, D), see ``EGNN``
    """

    index_size = 2 * _WAVES

    def index(self, batch: SkeletonBatch) -> Tensor:
        """Return sines and cosines of the site indices, (s, 12)."""
        wave = 2 * torch.pi / 2 ** torch.arange(2, 2 + _WAVES, device=batch.index.device)
        phase = batch.index[:, None] * wave.to(batch.lattice.dtype)
        return torch.cat([phase.sin(), phase.cos()], -1)
