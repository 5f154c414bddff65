"""A cache of what an encoder computes from skeletons alone."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.graph_batch import SkeletonBatch

# Memory of the skeletons that a cache with `keep_all` stores at most, in bytes. One takes about
# 6 kB with `egnn` on Perov-5 and 60 kB with `mpnn` on MP-20.
_MAX_BYTES = 2**31


@runtime_checkable
class DivisibleGeometry(Protocol):
    """A geometry that is a concatenation over skeletons."""

    def join(self, other: Self) -> Self:
        """Append the geometry of other skeletons."""
        ...

    def take(self, rows: Tensor, n_sites: Tensor) -> Self:
        """Return the geometry of some of the skeletons.

        Args:
            rows: Indices of skeletons in any order, int64 (R,).
            n_sites: Number of sites of each skeleton, int64 (S,).
        """
        ...


class _Last(NamedTuple):
    """The last batch of skeletons.

    Attributes:
        keys: Keys of the S skeletons, (S, d).
        batch: The skeletons.
        geometry: Their geometry.
    """

    keys: Tensor
    batch: SkeletonBatch
    geometry: Any


class _Known(NamedTuple):
    """Skeletons with a known geometry.

    Attributes:
        rows: Index of each skeleton by its key as bytes.
        n_sites: Number of sites of each skeleton, int64 (S,).
        geometry: Their geometry.
    """

    rows: dict[bytes, int]
    n_sites: Tensor
    geometry: DivisibleGeometry


class GeometryCache:
    """Skeletons with their geometry.

    In a roll-out, most skeletons are the same as at the step before. Only new skeletons are
    encoded, and all of them after a change of the weights that the geometry depends on.

    Args:
        encoder: The encoder, in evaluation mode.
        keep_all: Store all skeletons, up to 2 GiB, not only those of the last batch. This suits an
            encoder whose geometry is not trained.
    """

    def __init__(self, encoder: Encoder, *, keep_all: bool = False) -> None:
        self.encoder = encoder
        self.keep_all = keep_all
        self._last: _Last | None = None
        self._known: _Known | None = None
        self._weights: list[tuple[int, int]] = []

    @torch.no_grad()
    def __call__(
        self, keys: Tensor, make_batch: Callable[[], SkeletonBatch]
    ) -> tuple[SkeletonBatch, Any]:
        """Return a batch of S skeletons and its geometry, without gradients.

        Args:
            keys: Equal for equal skeletons and different for different ones, (S, d).
            make_batch: Returns the skeletons; called only if they differ from the last ones.
        """
        # Memory address and version: every change of a weight in place increases its version.
        weights = [
            (weight.data_ptr(), weight._version)  # noqa: SLF001 - no public name
            for weight in self.encoder.geometry_parameters()
        ]
        last, is_stale = self._last, weights != self._weights
        if is_stale:
            self._weights, self._known = weights, None
        if last is not None and keys.device == last.keys.device and torch.equal(keys, last.keys):
            if is_stale:
                last = last._replace(geometry=self._geometry(keys, last.batch))
                self._last = last
            return last.batch, last.geometry
        batch = make_batch()
        geometry = self._geometry(keys, batch)
        self._last = _Last(keys, batch, geometry)
        return batch, geometry

    def _geometry(self, keys: Tensor, batch: SkeletonBatch) -> Any:
        """Return the geometry of a batch; encode the skeletons that are not known."""
        names = [row.tobytes() for row in np.ascontiguousarray(keys.cpu().numpy())]
        known = self._known
        # The first place of each new skeleton in the batch.
        new: dict[bytes, int] = {}
        for i, name in enumerate(names):
            if known is None or name not in known.rows:
                new.setdefault(name, i)
        is_full = known is not None and bool(new) and _n_bytes(known.geometry) > _MAX_BYTES
        if known is None or is_full or (len(new) == len(batch) and not self.keep_all):
            geometry = self.encoder.geometry(batch)
            if isinstance(geometry, DivisibleGeometry):
                rows = {name: i for i, name in enumerate(names)}
                self._known = _Known(rows, batch.n_sites, geometry)
            return geometry
        if new:
            known = self._append(known, new, batch)
        index = torch.tensor([known.rows[name] for name in names], device=keys.device)
        geometry = known.geometry.take(index, known.n_sites)
        if self.keep_all:
            self._known = known
        elif new:
            # A part of the last batch, such as one finished episode, does not replace it.
            rows = {name: i for i, name in enumerate(names)}
            self._known = _Known(rows, batch.n_sites, geometry)
        return geometry

    def _append(self, known: _Known, new: dict[bytes, int], batch: SkeletonBatch) -> _Known:
        """Encode new skeletons of a batch and append them to the known ones."""
        part = batch.take(torch.tensor(list(new.values()), device=batch.n_sites.device))
        geometry = known.geometry.join(self.encoder.geometry(part))
        n_known = len(known.n_sites)
        rows = known.rows if self.keep_all else dict(known.rows)
        rows.update({name: n_known + i for i, name in enumerate(new)})
        return _Known(rows, torch.cat([known.n_sites, part.n_sites]), geometry)


def _n_bytes(geometry: Any) -> int:
    """Return the memory of all tensors of a geometry in bytes."""
    if isinstance(geometry, Tensor):
        return geometry.numel() * geometry.element_size()
    return sum(map(_n_bytes, geometry))
