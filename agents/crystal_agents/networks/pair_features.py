"""Pairs of sites, described by smooth averages over periodic images."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonBatch, cartesian, first_items, items_of

# Lengths are in units of the cube root of the volume per site.
# Standard deviation of the Gaussian weight of an image.
_WIDTH = 0.45
# Mean distances at which a pair starts to fade and at which its fade is 0.
_FADE_START, _FADE_END = 1.6, 2.0
# Maximum number of pairs whose images are computed together; 27 images each, about 100 MB.
_CHUNK = 2**18
# Maximum number of rounds of cell reduction; the most skewed cells in databases need three.
_ROUNDS = 8


class Pairs(NamedTuple):
    r"""The p pairs of different nearby sites, each listed once with source < target.

    :math:`r_k` are the vectors from the source to the images k of the target. Their weights
    :math:`w_k \propto \exp(-|r_k|^2 / 2\sigma^2)` have sum 1; :math:`\sigma` is proportional to the
    cube root of the volume per site. All features change smoothly with the coordinates, because
    the weights of images change gradually, whereas edges appear and disappear abruptly.

    Attributes:
        source: Site indices, int64 (p,).
        target: Site indices, int64 (p,).
        offset: Mean vector :math:`\sum_k w_k r_k` in Å, (p, 3); zero if the images of the target
            surround the source symmetrically.
        distance: Mean distance :math:`\sum_k w_k |r_k|` in Å, (p,).
        spread: Standard deviation of the distances :math:`|r_k|` in Å, (p,).
        images: Effective number of images, :math:`1 / \sum_k w_k^2`, (p,).
        fade: 1 for near pairs, decreasing smoothly to 0 at the cutoff, (p,).
        n_pairs: Number of pairs of each skeleton, int64 (S,).
    """

    source: Tensor
    target: Tensor
    offset: Tensor
    distance: Tensor
    spread: Tensor
    images: Tensor
    fade: Tensor
    n_pairs: Tensor


@torch.no_grad()
def near_pairs(batch: SkeletonBatch) -> Pairs:
    """Compute the near pairs of all skeletons of a batch, ordered by source and target.

    The images are those in the 27 cells around the nearest image in a reduced cell, which include
    all images with a significant weight.

    Args:
        batch: The skeletons.
    """
    device = batch.owner.device
    n_partners = batch.n_sites[batch.owner]
    source = torch.arange(len(batch.owner), device=device).repeat_interleave(n_partners)
    first_pair = first_items(n_partners)[source]
    partner = torch.arange(len(source), device=device) - first_pair
    target = batch.first[batch.owner[source]] + partner
    ordered = source < target
    source, target = source[ordered], target[ordered]
    cells = reduced_cells(batch)
    parts = [
        _describe(batch, cells, i, j)
        for i, j in zip(source.split(_CHUNK), target.split(_CHUNK), strict=True)
    ]
    columns = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
    source, *others = columns
    n_pairs = torch.bincount(batch.owner[source], minlength=len(batch))
    return Pairs._make([source, *others, n_pairs])


class PairStore:
    """The near pairs of all skeletons of a store, from which batches are gathered.

    Args:
        parts: Pairs of consecutive skeletons.
        n_sites: Number of sites of each skeleton, int64 (C,).
    """

    def __init__(self, parts: Sequence[Pairs], n_sites: Tensor) -> None:
        self.n_sites = n_sites
        self.n_pairs = torch.cat([pairs.n_pairs for pairs in parts])
        ends, done = [], 0
        for pairs in parts:
            first = first_items(n_sites[done : done + len(pairs.n_pairs)])
            done += len(pairs.n_pairs)
            shift = first.repeat_interleave(pairs.n_pairs)
            # Indices within a skeleton need half of the memory.
            ends.append((torch.stack([pairs.source, pairs.target]) - shift).to(torch.int32))
        self.ends = torch.cat(ends, 1)
        self.offset = torch.cat([pairs.offset for pairs in parts])
        self.scalars = torch.cat(
            [
                torch.stack([pairs.distance, pairs.spread, pairs.images, pairs.fade])
                for pairs in parts
            ],
            1,
        )

    def batch(self, rows: Tensor) -> Pairs:
        """Return the pairs of some skeletons.

        Args:
            rows: Rows of the store, int64 (S,).
        """
        n_pairs = self.n_pairs[rows]
        chosen = items_of(rows, self.n_pairs)
        shift = first_items(self.n_sites[rows]).repeat_interleave(n_pairs)
        source, target = self.ends.index_select(1, chosen) + shift
        distance, spread, images, fade = self.scalars.index_select(1, chosen)
        offset = self.offset.index_select(0, chosen)
        return Pairs(source, target, offset, distance, spread, images, fade, n_pairs)


class Cells(NamedTuple):
    """Reduced cells.

    Attributes:
        lattice: Row vectors in Å, (S, 3, 3).
        transform: Matrices from fractional coordinates to those of the reduced cell, (S, 3, 3).
        unit: Cube root of the volume per site in Å, (S,).
    """

    lattice: Tensor
    transform: Tensor
    unit: Tensor


def reduced_cells(batch: SkeletonBatch) -> Cells:
    """Reduce the cells of all skeletons."""
    change = _reduction(batch.lattice)
    return Cells(
        _product(change, batch.lattice),
        torch.linalg.inv(change).round(),
        (batch.volume / batch.n_sites).pow(1 / 3),
    )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply small matrices in full precision, even under automatic mixed precision."""
    return (a[..., None] * b[..., None, :, :]).sum(-2)


def _reduction(lattice: Tensor) -> Tensor:
    """Compute unimodular matrices (S, 3, 3) that reduce lattices to short row vectors."""
    change = torch.eye(3, device=lattice.device, dtype=lattice.dtype).repeat(len(lattice), 1, 1)
    for _ in range(_ROUNDS):
        previous = change.clone()
        for i, j in itertools.permutations(range(3), 2):
            vectors = _product(change, lattice)
            projection = (vectors[:, i] * vectors[:, j]).sum(-1) / vectors[:, j].square().sum(-1)
            # Ties, as in hexagonal cells, do not change the cell.
            multiple = torch.where(projection.abs() > 0.5 + 1e-4, projection.round(), 0.0)
            change[:, i] -= multiple[:, None] * change[:, j]
        if torch.equal(change, previous):
            break
    return change


def _describe(
    batch: SkeletonBatch, cells: Cells, source: Tensor, target: Tensor
) -> tuple[Tensor, ...]:
    """Compute the first seven attributes of q pairs and keep the pairs within the cutoff."""
    owner = batch.owner[source]
    unit = cells.unit[owner]
    shift = batch.frac_coords[target] - batch.frac_coords[source]
    shift = cartesian(shift, cells.transform[owner])
    cells_along_axis = torch.tensor([-1.0, 0.0, 1.0], device=shift.device, dtype=shift.dtype)
    images = torch.cartesian_prod(*[cells_along_axis] * 3)
    shift = (shift - shift.round())[:, None] + images
    vectors = cartesian(shift.flatten(0, 1), cells.lattice[owner].repeat_interleave(27, 0))
    vectors = vectors.view(-1, 27, 3)
    squares = vectors.square().sum(-1)
    weight = (-squares / (2 * (_WIDTH * unit[:, None]).square())).softmax(1)
    lengths = squares.sqrt()
    distance = (weight * lengths).sum(1)
    progress = (distance / unit - _FADE_START) / (_FADE_END - _FADE_START)
    fade = (1 + torch.cos(torch.pi * progress.clamp(0, 1))) / 2
    near = progress < 1
    variance = (weight * (lengths - distance[:, None]).square()).sum(1)
    return (
        source[near],
        target[near],
        (weight[..., None] * vectors).sum(1)[near],
        distance[near],
        variance.sqrt()[near],
        (1 / weight.square().sum(1))[near],
        fade[near],
    )
