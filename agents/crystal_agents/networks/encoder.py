"""The base class of all networks."""

import abc
from typing import Any, ClassVar

from torch import Tensor, nn

from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.networks.readouts import GraphReadout, SiteReadout


class Encoder(nn.Module, abc.ABC):
    """A network that maps fillings of skeletons to embeddings of their sites.

    The keyword arguments of a subclass are its settings. To use a new subclass by name, add it to
    ``crystal_agents.networks.registry.ENCODERS``.

    Attributes:
        size: Channels D of the embeddings.
        Readout: Class of the readout that follows the encoder.
    """

    size: int
    Readout: ClassVar[type[GraphReadout] | type[SiteReadout]]

    def make_readout(self, n_elements: int, max_sites: int) -> GraphReadout | SiteReadout:
        """Return a new readout for the embeddings of this encoder.

        Args:
            n_elements: V, the number of elements of the vocabulary.
            max_sites: N, the number of sites of the largest cell.
        """
        return self.Readout(self.size, n_elements, max_sites)

    def graph(self, batch: SkeletonBatch) -> Any:
        """Return what ``geometry`` computes without weights, or ``None``.

        The training computes it once for each skeleton and passes it as ``batch.graph``.

        Args:
            batch: The skeletons.
        """
        del batch

    def geometry(self, batch: SkeletonBatch) -> Any:
        """Return what ``forward`` computes from the skeletons alone, or ``None``.

        A roll-out computes it once and passes it to ``forward`` in every step.

        Args:
            batch: The skeletons.
        """
        del batch

    @abc.abstractmethod
    def forward(self, batch: SkeletonBatch, elements: Tensor, geometry: Any = None) -> Tensor:
        """Embed the sites of K fillings.

        Args:
            batch: The skeletons, with s sites in total.
            elements: Codes, int64 (K, s): 0 for an empty site, 1 to V for an element.
            geometry: Result of ``geometry`` for the batch (default: it is computed).

        Returns:
            Embeddings, (K, s, D).
        """
