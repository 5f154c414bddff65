"""Pairs of sites, described by smooth averages over their periodic images."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonBatch, cartesian

# All lengths below in units of the cube root of the volume per site.
# Width of the Gaussian by which images count: an image as much nearer leads by e^(1/2).
_WIDTH = 0.45
# Mean distance from which a pair fades, and at which it ends.
_FADES, _ENDS = 1.6, 2.0
# Pairs whose images are laid out at once: 27 each, about 100 MB.
_CHUNK = 2**18
# Rounds of reduction of a cell; the most skew cells of databases need three.
_SWEEPS = 8


class Pairs(NamedTuple):
    r"""The p pairs of different sites that lie near each other, each once, source before target.

    With the images :math:`r_k` of the target seen from the source, and
    :math:`w_k \propto \exp(-|r_k|^2 / 2\sigma^2)` that sum to one, where :math:`\sigma` is a fixed
    share of the distance between sites:

    Attributes:
        source: site indices, int64 (p,).
        target: site indices, int64 (p,).
        offset: :math:`\sum_k w_k r_k` in Å, (p, 3): nought where the target is surrounded evenly.
        distance: :math:`\sum_k w_k |r_k|` in Å, (p,).
        spread: standard deviation of the :math:`|r_k|` in Å, (p,).
        images: how many images count, :math:`1 / \sum_k w_k^2`, (p,).
        fade: 1 for near pairs, 0 where they end, (p,).

    All of it changes smoothly with the coordinates: no image enters or leaves at once, as edges do.
    """

    source: Tensor
    target: Tensor
    offset: Tensor
    distance: Tensor
    spread: Tensor
    images: Tensor
    fade: Tensor


@torch.no_grad()
def near_pairs(batch: SkeletonBatch) -> Pairs:
    """The pairs of every skeleton of a batch, ordered by source and target.

    Images are sought in the 27 cells around the nearest by the fractional coordinates of a reduced
    cell, in which all that count lie.
    """
    device = batch.owner.device
    partners = batch.n_sites[batch.owner]
    source = torch.arange(len(batch.owner), device=device).repeat_interleave(partners)
    before = (partners.cumsum(0) - partners)[source]
    target = batch.first[batch.owner[source]] + torch.arange(len(source), device=device) - before
    other = source < target
    source, target = source[other], target[other]
    cells = _reduced(batch)
    parts = [
        _describe(batch, cells, i, j)
        for i, j in zip(source.split(_CHUNK), target.split(_CHUNK), strict=True)
    ]
    return parts[0] if len(parts) == 1 else Pairs(*map(torch.cat, zip(*parts, strict=True)))


class _Cells(NamedTuple):
    """Reduced cells.

    ``lattice``: (S, 3, 3) in Å; ``into``: the change of fractional coordinates, (S, 3, 3);
    ``unit``: cube root of the volume per site in Å, (S,).
    """

    lattice: Tensor
    into: Tensor
    unit: Tensor


def _reduced(batch: SkeletonBatch) -> _Cells:
    change = _reduction(batch.lattice)
    return _Cells(
        _product(change, batch.lattice),
        torch.linalg.inv(change).round(),
        (batch.volume / batch.n_sites).pow(1 / 3),
    )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Products of small matrices, in full precision whatever automatic mixed precision says."""
    return (a[..., None] * b[..., None, :, :]).sum(-2)


def _reduction(lattice: Tensor) -> Tensor:
    """Unimodular (S, 3, 3) that take lattices to others with short vectors at wide angles."""
    change = torch.eye(3, device=lattice.device, dtype=lattice.dtype).repeat(len(lattice), 1, 1)
    for _ in range(_SWEEPS):
        before = change.clone()
        for i, j in itertools.permutations(range(3), 2):
            vectors = _product(change, lattice)
            along = (vectors[:, i] * vectors[:, j]).sum(-1) / vectors[:, j].square().sum(-1)
            # A tie, as of a hexagonal cell, stays as it is.
            times = torch.where(along.abs() > 0.5 + 1e-4, along.round(), 0.0)
            change[:, i] -= times[:, None] * change[:, j]
        if torch.equal(change, before):
            break
    return change


def _describe(batch: SkeletonBatch, cells: _Cells, source: Tensor, target: Tensor) -> Pairs:
    owner = batch.owner[source]
    unit = cells.unit[owner]
    shift = batch.frac_coords[target] - batch.frac_coords[source]
    shift = cartesian(shift, cells.into[owner])
    step = torch.tensor([-1.0, 0.0, 1.0], device=shift.device, dtype=shift.dtype)
    shift = (shift - shift.round())[:, None] + torch.cartesian_prod(step, step, step)
    vectors = cartesian(shift.flatten(0, 1), cells.lattice[owner].repeat_interleave(27, 0))
    vectors = vectors.view(-1, 27, 3)
    squares = vectors.square().sum(-1)
    weight = (-squares / (2 * (_WIDTH * unit[:, None]).square())).softmax(1)
    lengths = squares.sqrt()
    distance = (weight * lengths).sum(1)
    beyond = (distance / unit - _FADES) / (_ENDS - _FADES)
    fade = (1 + torch.cos(torch.pi * beyond.clamp(0, 1))) / 2
    near = beyond < 1
    variance = (weight * (lengths - distance[:, None]).square()).sum(1)
    return Pairs(
        source[near],
        target[near],
        (weight[..., None] * vectors).sum(1)[near],
        distance[near],
        variance.sqrt()[near],
        (1 / weight.square().sum(1))[near],
        fade[near],
    )
