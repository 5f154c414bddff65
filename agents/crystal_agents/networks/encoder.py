"""What every network is."""

import abc
from typing import ClassVar

from torch import Tensor, nn

from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.networks.readouts import GraphReadout, SiteReadout


class Encoder(nn.Module, abc.ABC):
    """A network from fillings of skeletons to embeddings of their sites.

    Its keyword arguments are its settings; a subclass is made known in ``ENCODERS``.

    Attributes:
        size: channels D of the embeddings.
        Readout: the kind of what stands behind it.
    """

    size: int
    Readout: ClassVar[type[GraphReadout] | type[SiteReadout]]

    def make_readout(self, n_elements: int, max_sites: int) -> GraphReadout | SiteReadout:
        """What stands behind it, with fresh weights; settings may have a say in it.

        Args:
            n_elements: V.
            max_sites: N, sites of the largest cell.
        """
        return self.Readout(self.size, n_elements, max_sites)

    @abc.abstractmethod
    def forward(self, batch: SkeletonBatch, elements: Tensor) -> Tensor:
        """Embeddings (K, s, D) of K fillings (K, s), in codes: 0 empty, 1 to V."""
