"""A cache of what an encoder computes from skeletons alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch


class _Encoded(NamedTuple):
    """The last batch of skeletons.

    Attributes:
        keys: Keys of the S skeletons, (S, d).
        batch: The skeletons.
        geometry: Their geometry.
        weights: Memory address and version of each weight of the encoder. Every change of a weight
            in place increases its version.
    """

    keys: Tensor
    batch: SkeletonBatch
    geometry: Any
    weights: list[tuple[int, int]]


class GeometryCache:
    """The skeletons of the last batch with their geometry.

    In a roll-out, most skeletons are the same as at the step before. Only new skeletons are
    encoded, and all of them after a change of the weights.

    Args:
        encoder: The encoder, in evaluation mode.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._last: _Encoded | None = None

    @torch.no_grad()
    def __call__(
        self, keys: Tensor, make_batch: Callable[[], SkeletonBatch]
    ) -> tuple[SkeletonBatch, Any]:
        """Return a batch of S skeletons and its geometry, without gradients.

        Args:
            keys: Equal for equal skeletons and different for different ones, (S, d).
            make_batch: Returns the skeletons; called only if they differ from the last ones.
        """
        last = self._last
        weights = [
            (weight.data_ptr(), weight._version)  # noqa: SLF001 - no public name
            for weight in self.encoder.parameters()
        ]
        same_weights = last is not None and weights == last.weights
        if last is not None and keys.device == last.keys.device and torch.equal(keys, last.keys):
            batch = last.batch
            geometry = last.geometry if same_weights else self.encoder.geometry(batch)
        else:
            batch = make_batch()
            if last is None or not same_weights or keys.shape[1] != last.keys.shape[1]:
                geometry = self.encoder.geometry(batch)
            else:
                rows = _find(keys, last.keys)
                geometry = self.encoder.update_geometry(batch, rows, last.batch, last.geometry)
                if len(keys) < len(last.keys) and bool((rows >= 0).all()):
                    # A part of the last batch, such as one finished episode, does not replace it.
                    return batch, geometry
        self._last = _Encoded(keys, batch, geometry, weights)
        return batch, geometry


def _find(keys: Tensor, known: Tensor) -> Tensor:
    """Return the index of each key among the known ones, int64 (S,); -1: not among them."""
    _, group = torch.unique(torch.cat([known, keys]), dim=0, return_inverse=True)
    index = torch.full_like(group, -1)
    index[group[: len(known)]] = torch.arange(len(known), device=group.device)
    return index[group[len(known) :]]
