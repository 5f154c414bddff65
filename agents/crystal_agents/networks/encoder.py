"""The base class of all networks."""

import abc
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crystal_agents.networks.graph_batch import GraphStore, SkeletonBatch, SkeletonStore
from crystal_agents.networks.readouts import GraphReadout, SiteReadout
from crystal_gym.errors import CrystalGymError

# Number of skeletons whose graphs are computed together.
_CHUNK = 256


class Encoder(nn.Module, abc.ABC):
    """A network that maps fillings of skeletons to embeddings of their sites.

    The keyword arguments of a subclass are its settings. To use a new subclass by name, add it to
    ``crystal_agents.networks.registry.ENCODERS``.

    Attributes:
        size: Channels D of the embeddings.
        n_targets: T, the number of labels that can be requested; 0: the network is unconditional.
        Readout: Class of the readout that follows the encoder.
    """

    size: int
    n_targets: int = 0
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

    def graph_store(self, parts: Sequence[Any], n_sites: Tensor) -> GraphStore:
        """Return a store of graphs, for encoders that override ``graph``.

        Args:
            parts: Results of ``graph`` for consecutive skeletons.
            n_sites: Number of sites of each skeleton, int64 (C,).
        """
        raise NotImplementedError

    @abc.abstractmethod
    def geometry(self, batch: SkeletonBatch) -> Any:
        """Return what ``forward`` computes from the skeletons alone.

        A roll-out computes it once and passes it to ``forward`` in every step.

        Args:
            batch: The skeletons.
        """

    def geometry_modules(self) -> Sequence[nn.Module]:
        """Return the modules whose weights only ``geometry`` uses.

        A frozen geometry is computed once for each skeleton and stored.
        """
        return ()

    def geometry_parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights that the geometry depends on."""
        for module in self.geometry_modules():
            yield from module.parameters()

    def condition(self, batch: SkeletonBatch, geometry: Any, target: Tensor) -> Any:
        """Return the geometry together with the embedding of a target, for ``forward``.

        Without this step, ``forward`` is unconditional.

        Args:
            batch: S skeletons.
            geometry: Result of ``geometry`` for the batch.
            target: Requested values of T labels, standardized, (S, T) or (K, S, T); NaN where a
                label is not requested.

        Raises:
            CrystalGymError: If the network is unconditional.
        """
        raise self._unconditional()

    def weights_for_target(self, target: Tensor) -> dict[str, Tensor]:
        """Return the weights of the unconditional network with the outputs for one target.

        Args:
            target: Requested values of T labels, standardized, (T,); NaN where a label is not
                requested.

        Returns:
            The state of a network with ``n_targets=0``, whose outputs in evaluation mode are those
            of this network under the ``condition``.

        Raises:
            CrystalGymError: If the network is unconditional.
        """
        raise self._unconditional()

    def _unconditional(self) -> CrystalGymError:
        return CrystalGymError(
            "Expected a conditional network, got one without targets. Train a policy with "
            "`crystal-gym train COLLECTION --target LABEL`."
        )

    def at_sites(
        self, batch: SkeletonBatch, elements: Tensor, sites: Tensor, geometry: Any = None
    ) -> Tensor:
        """Embed one site of each skeleton in K fillings.

        By default, all sites are embedded. Encoders whose last layer can be restricted to some
        sites override this method.

        Args:
            batch: S skeletons, with s sites in total.
            elements: Codes, int64 (K, s): 0 for an empty site, 1 to V for an element.
            sites: The site of each skeleton, numbered within the batch, int64 (K, S).
            geometry: Result of ``geometry`` for the batch (default: it is computed).

        Returns:
            Embeddings, (K, S, D).
        """
        embedding = self(batch, elements, geometry)
        return embedding.gather(1, sites[..., None].expand(-1, -1, embedding.shape[-1]))

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


def attach_graphs(store: SkeletonStore, encoder: Encoder) -> None:
    """Compute what an encoder computes without weights, once for all batches of a store.

    Encoders without such a part leave the store as it is.

    Args:
        store: The skeletons.
        encoder: The encoder that will embed them.
    """
    if type(encoder).graph is Encoder.graph:
        return
    rows = torch.arange(len(store), device=store.n_sites.device)
    parts = [encoder.graph(store.batch(chunk)) for chunk in rows.split(_CHUNK)]
    store.graphs = encoder.graph_store(parts, store.n_sites)
