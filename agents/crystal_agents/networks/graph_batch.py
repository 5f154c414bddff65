"""Skeletons as tensors: one store for a data set, and flat batches gathered from it.

A batch holds S skeletons with all their sites and edges laid end to end: no padding, no Python per
graph. States of the same skeletons are a leading axis K on top: fillings are ``(K, sites)``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def sum_at(values: Tensor, index: Tensor, length: int, dim: int) -> Tensor:
    """Sums of ``values`` with the same ``index`` along ``dim``, which becomes ``length`` long."""
    shape = list(values.shape)
    shape[dim] = length
    return values.new_zeros(shape).index_add(dim, index, values)


def cartesian(frac: Tensor, lattice: Tensor) -> Tensor:
    """Fractional (m, 3) to Cartesian (m, 3); lattices (m, 3, 3).

    Written without a matrix product: automatic mixed precision would take it in 16 bits, and what
    tells elements apart are hundredths of an Å.
    """
    return (frac[:, :, None] * lattice).sum(1)


def lattice_vectors(parameters: Tensor) -> Tensor:
    """Row vectors of cells in the standard orientation, as ``crystal_gym.crystals.skeleton.lattice_matrix``.

    Args:
        parameters: lengths in Å and angles in degrees, (..., 6).

    Returns:
        (..., 3, 3) in Å.
    """
    a, b, c = parameters[..., :3].unbind(-1)
    radians = torch.deg2rad(parameters[..., 3:])
    right = parameters[..., 3:] == 90
    cos = torch.where(right, 0.0, torch.cos(radians))
    sin = torch.where(right, 1.0, torch.sin(radians))
    (cos_a, cos_b, cos_g), (sin_a, sin_b, _) = cos.unbind(-1), sin.unbind(-1)
    cos_star = (cos_a * cos_b - cos_g) / (sin_a * sin_b)
    sin_star = (1 - cos_star**2).clamp_min(0).sqrt()
    zero = torch.zeros_like(a)
    rows = [
        torch.stack([a * sin_b, zero, a * cos_b], -1),
        torch.stack([-b * sin_a * cos_star, b * sin_a * sin_star, b * cos_a], -1),
        torch.stack([zero, zero, c], -1),
    ]
    return torch.stack(rows, -2)


@dataclass(frozen=True)
class SkeletonBatch:
    """S skeletons end to end: s sites and m edges in all.

    Attributes:
        n_sites: sites of each skeleton, int64 (S,).
        first: index of each skeleton's first site, int64 (S,).
        owner: the skeleton of each site, int64 (s,).
        index: each site's number within its skeleton, int64 (s,).
        parameters: lattice lengths in Å and angles in degrees, (S, 6).
        lattice: row vectors in Å, (S, 3, 3).
        frac_coords: fractional coordinates, (s, 3).
        edge_source: index of each edge's source among all sites, int64 (m,); edges are ordered by
            source and target.
        edge_target: index of its target, int64 (m,).
        edge_image: the target's cell relative to the source's, (m, 3).
        max_sites: N, the padded size of the observations that the batch came from.
    """

    n_sites: Tensor
    first: Tensor
    owner: Tensor
    index: Tensor
    parameters: Tensor
    lattice: Tensor
    frac_coords: Tensor
    edge_source: Tensor
    edge_target: Tensor
    edge_image: Tensor
    max_sites: int

    def __len__(self) -> int:
        return len(self.n_sites)

    @property
    def edge_vectors(self) -> Tensor:
        """From each edge's source to its target's image, in Å, (m, 3)."""
        shift = (
            self.frac_coords[self.edge_target]
            + self.edge_image
            - self.frac_coords[self.edge_source]
        )
        return cartesian(shift, self.lattice[self.owner[self.edge_source]])

    @property
    def in_cell_edges(self) -> Tensor:
        """Indices of the edges that do not cross the cell's faces, (2, l): the paper's graph."""
        inside = (self.edge_image == 0).all(-1)
        return torch.stack([self.edge_source[inside], self.edge_target[inside]])

    @property
    def positions(self) -> Tensor:
        """Cartesian site positions in Å, (s, 3)."""
        return cartesian(self.frac_coords, self.lattice[self.owner])

    @property
    def volume(self) -> Tensor:
        """Of each cell, in Å³, (S,)."""
        a, b, c = self.lattice.unbind(-2)
        return (torch.linalg.cross(a, b) * c).sum(-1).abs()

    def flat(self, padded: Tensor) -> Tensor:
        """Per-site values (..., S, N) as (..., s), padding dropped."""
        return padded[..., self.owner, self.index]

    def flat_focus(self, focus: Tensor) -> Tensor:
        """Site numbers (..., S) within their skeletons as indices among all sites."""
        return self.first + focus

    def mean_over_sites(self, values: Tensor) -> Tensor:
        """Mean over each skeleton's sites: (..., s, d) to (..., S, d)."""
        return sum_at(values, self.owner, len(self), -2) / self.n_sites[:, None]


class SkeletonStore:
    """Skeletons of one data set on one device, from which batches are gathered.

    Args:
        arrays: ``n_sites`` (C,), ``frac_coords`` (C, N, 3), ``parameters`` (C, 6) and ``edges``
            (C, E, 5) padded with -1, as in a ``CrystalCollection`` or a batch of observations.
        device: where the tensors live.
        dtype: floating-point type of coordinates and lattices.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray | Tensor],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        def tensor(key: str, kind: torch.dtype) -> Tensor:
            return torch.as_tensor(arrays[key]).to(device=device, dtype=kind)

        self.n_sites = tensor("n_sites", torch.int64)
        self.frac_coords = tensor("frac_coords", dtype)
        self.parameters = tensor("parameters", dtype)
        self.edges = tensor("edges", torch.int16)

    def __len__(self) -> int:
        return len(self.n_sites)

    @property
    def max_sites(self) -> int:
        """N, the sites of the largest cell."""
        return self.frac_coords.shape[1]

    def batch(self, rows: Tensor | None = None) -> SkeletonBatch:
        """The skeletons of these rows (S,), in this order; all of them by default."""
        rows = torch.arange(len(self), device=self.n_sites.device) if rows is None else rows
        n_sites = self.n_sites[rows]
        first = n_sites.cumsum(0) - n_sites
        sites = torch.arange(self.max_sites, device=rows.device) < n_sites[:, None]
        owner, index = sites.nonzero(as_tuple=True)
        edges = self.edges[rows]
        kept = edges[..., 0] >= 0
        edges = edges[kept].to(torch.int64)
        offset = first[kept.nonzero(as_tuple=True)[0]]
        parameters = self.parameters[rows]
        frac_coords = self.frac_coords[rows][owner, index]
        return SkeletonBatch(
            n_sites=n_sites,
            first=first,
            owner=owner,
            index=index,
            parameters=parameters,
            lattice=lattice_vectors(parameters),
            frac_coords=frac_coords,
            edge_source=edges[:, 0] + offset,
            edge_target=edges[:, 1] + offset,
            edge_image=edges[:, 2:].to(frac_coords.dtype),
            max_sites=self.max_sites,
        )
