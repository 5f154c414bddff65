"""Edges of a crystal within a cutoff, with the angles at both ends."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonBatch, cartesian, first_items
from crystal_agents.networks.pair_features import Cells, reduced_cells

# Maximum number of images of pairs whose distances are computed together, about 100 MB.
_CHUNK = 2**21
# Highest order of the angular moments.
ORDERS = 4
# Centers of the radial weights of the angular moments, in units of the cube root of the volume per
# site, and their common width.
_CENTERS, _CENTER_WIDTH = (0.8, 1.2, 1.6), 0.25
N_ANGULAR = ORDERS * len(_CENTERS)


class _Images(NamedTuple):
    """The images that are searched.

    Attributes:
        cells: Reduced cells.
        reach: Number of cells on each side along each axis, int64 (S, 3).
        radius: Maximum distance in Å, (S,).
    """

    cells: Cells
    reach: Tensor
    radius: Tensor


class PeriodicEdges(NamedTuple):
    """Directed edges between sites and images of sites, ordered by source.

    Attributes:
        source: Site indices, int64 (m,).
        target: Site indices, int64 (m,).
        vector: Vectors from source to target in Å, (m, 3).
        distance: Their lengths in Å, (m,).
        relative: Distances in units of the cube root of the volume per site, (m,).
        fade: 1 for short edges, decreasing smoothly to 0 at the cutoff, (m,).
    """

    source: Tensor
    target: Tensor
    vector: Tensor
    distance: Tensor
    relative: Tensor
    fade: Tensor


@torch.no_grad()
def periodic_edges(batch: SkeletonBatch, cutoff: float) -> PeriodicEdges:
    """Compute all edges up to a cutoff.

    Args:
        batch: The skeletons.
        cutoff: Maximum length in units of the cube root of the volume per site. The sphere of this
            radius contains 4/3 π cutoff³ sites on average.
    """
    cells = reduced_cells(batch)
    radius = cutoff * cells.unit
    a, b, c = cells.lattice.unbind(-2)
    faces = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a)], -2)
    faces = torch.cat([faces, torch.linalg.cross(a, b)[:, None]], -2).norm(dim=-1)
    heights = batch.volume[:, None] / faces
    # Offsets of the nearest image are at most 1/2 along each axis.
    reach = (radius[:, None] / heights + 0.5 + 1e-6).floor().long()
    n_images = (2 * reach + 1).prod(-1)
    n_partners = batch.n_sites[batch.owner]
    source = torch.arange(len(batch.owner), device=reach.device).repeat_interleave(n_partners)
    target = torch.arange(len(source), device=reach.device)
    target = target - first_items(n_partners)[source]
    target = target + batch.first[batch.owner[source]]
    size = n_images[batch.owner[source]]
    part = size.cumsum(0).div(_CHUNK, rounding_mode="floor")
    lengths = torch.unique_consecutive(part, return_counts=True)[1].tolist()
    parts = [
        _edges_of_pairs(batch, _Images(cells, reach, radius), *pair)
        for pair in zip(source.split(lengths), target.split(lengths), strict=True)
    ]
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    source, target, vector, distance = columns
    relative = distance / cells.unit[batch.owner[source]]
    return PeriodicEdges(source, target, vector, distance, relative, cosine_fade(relative / cutoff))


def cosine_fade(x: Tensor) -> Tensor:
    """Return a function that decreases smoothly from 1 at 0 to 0 at 1, any shape."""
    return (1 + torch.cos(math.pi * x.clamp(0, 1))) / 2


def _edges_of_pairs(
    batch: SkeletonBatch, images: _Images, i: Tensor, j: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return source, target, vector and distance of the edges of some pairs of sites."""
    cells, reach, radius = images
    owner = batch.owner[i]
    shift = cartesian(batch.frac_coords[j] - batch.frac_coords[i], cells.transform[owner])
    shift = shift - shift.round()
    sides = 2 * reach[owner] + 1
    count = sides.prod(-1)
    pair = torch.arange(len(i), device=i.device).repeat_interleave(count)
    number = torch.arange(len(pair), device=i.device) - first_items(count)[pair]
    side = sides[pair]
    image = torch.stack(
        [
            number // (side[:, 1] * side[:, 2]),
            number // side[:, 2] % side[:, 1],
            number % side[:, 2],
        ],
        -1,
    )
    image = image - reach[owner][pair]
    vector = cartesian(shift[pair] + image, cells.lattice[owner][pair])
    distance = vector.norm(dim=-1)
    near = (distance < radius[owner][pair]) & (distance > 1e-3)
    pair = pair[near]
    return i[pair], j[pair], vector[near], distance[near]


def angular_moments(edges: PeriodicEdges, n_sites: int) -> Tensor:
    r"""Compute the angular environment of the source of each edge, as seen along the edge.

    .. math:: a_{ij}^{nl} = \frac{\sum_k w_n(r_{ik}) P_l(\cos\theta_{jik})}{\sum_k w_n(r_{ik}) + 1}

    where :math:`P_l` are Legendre polynomials of order 1 to 4 and :math:`w_n` are radial weights.
    The sums run over all edges of the site :math:`i`. They are sums of products of monomials in the
    components of the directions, so that the cost is linear in the number of edges.

    Args:
        edges: The edges.
        n_sites: Number of sites.

    Returns:
        Moments, (m, ``N_ANGULAR``).
    """
    direction = edges.vector / edges.distance[:, None]
    centers = torch.tensor(_CENTERS, dtype=direction.dtype, device=direction.device)
    weight = (-((edges.relative[:, None] - centers) / _CENTER_WIDTH).square() / 2).exp()
    weight = weight * edges.fade[:, None]
    total = direction.new_zeros(n_sites, len(centers)).index_add(0, edges.source, weight)
    scale = (1 / (total + 1)).index_select(0, edges.source)
    powers = []
    for order in range(1, ORDERS + 1):
        monomials = _monomials(direction, order)
        summed = direction.new_zeros(n_sites, len(centers), monomials.shape[1])
        summed = summed.index_add(0, edges.source, weight[..., None] * monomials[:, None])
        seen = summed.index_select(0, edges.source) * monomials[:, None]
        powers.append(seen.sum(-1) * scale)
    zeroth = total.index_select(0, edges.source) * scale
    first, second, third, fourth = powers
    return torch.cat(
        [
            first,
            (3 * second - zeroth) / 2,
            (5 * third - 3 * first) / 2,
            (35 * fourth - 30 * second + 3 * zeroth) / 8,
        ],
        -1,
    )


def _monomials(direction: Tensor, order: int) -> Tensor:
    """Return monomials whose dot products are powers of the cosine between two directions.

    Args:
        direction: Unit vectors, (m, 3).
        order: The power.

    Returns:
        Monomials x^a y^b z^c with a + b + c = order, each times the square root of its multinomial
        coefficient, (m, (order + 1) (order + 2) / 2).
    """
    x, y, z = direction.unbind(-1)
    columns = []
    for a in range(order + 1):
        for b in range(order + 1 - a):
            c = order - a - b
            coefficient = math.factorial(order) / math.prod(map(math.factorial, (a, b, c)))
            columns.append(math.sqrt(coefficient) * x**a * y**b * z**c)
    return torch.stack(columns, -1)
