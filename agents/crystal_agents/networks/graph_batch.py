"""Skeletons as tensors: a store of skeletons, and batches gathered from it.

A batch has the sites and edges of S skeletons concatenated, without padding and without a Python
loop over graphs. Several states of the same skeletons are a leading axis K: fillings are (K, s).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crystal_agents.networks.message_edges import MessageEdges, sum_at


def padded_size(n: int) -> int:
    """Round a number up to seven significant bits.

    Numbers below 128 do not change; others increase by at most 1.6 %.
    """
    step = 1 << max(0, n.bit_length() - 7)
    return -(-n // step) * step


def first_items(counts: Tensor) -> Tensor:
    """Return the index of the first item of each group of consecutive items, int64 (G,)."""
    return counts.cumsum(0) - counts


def items_of(groups: Tensor, counts: Tensor) -> Tensor:
    """Return the indices of the items of some groups, where each group has consecutive items.

    Args:
        groups: Indices of groups in any order, int64 (g,).
        counts: Number of items of each group, int64 (G,).

    Returns:
        Indices of the items, int64 (m,), group by group.
    """
    chosen = counts[groups]
    shift = first_items(counts)[groups] - first_items(chosen)
    shift = shift.repeat_interleave(chosen)
    return shift + torch.arange(len(shift), device=shift.device)


def cartesian(frac: Tensor, lattice: Tensor) -> Tensor:
    """Convert fractional to Cartesian coordinates.

    The code avoids matrix products, which automatic mixed precision would round to 16 bits:
    differences of 0.01 Å distinguish elements.

    Args:
        frac: Fractional coordinates, (m, 3).
        lattice: Row vectors in Å, (m, 3, 3).

    Returns:
        Cartesian coordinates in Å, (m, 3).
    """
    return (frac[:, :, None] * lattice).sum(1)


def lattice_vectors(parameters: Tensor) -> Tensor:
    """Compute the row vectors of cells in the standard orientation.

    The result equals that of ``crystal_gym.crystals.skeleton.lattice_matrix``.

    Args:
        parameters: Lengths in Å and angles in degrees, (..., 6).

    Returns:
        Row vectors in Å, (..., 3, 3).
    """
    a, b, c = parameters[..., :3].unbind(-1)
    radians = torch.deg2rad(parameters[..., 3:])
    is_right_angle = parameters[..., 3:] == 90
    cos = torch.where(is_right_angle, 0.0, torch.cos(radians))
    sin = torch.where(is_right_angle, 1.0, torch.sin(radians))
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
    """S skeletons, with s sites and m edges in total.

    Attributes:
        n_sites: Number of sites of each skeleton, int64 (S,).
        first: Index of the first site of each skeleton among all sites, int64 (S,).
        owner: Skeleton of each site, int64 (s,).
        index: Index of each site within its skeleton, int64 (s,).
        parameters: Lattice lengths in Å and angles in degrees, (S, 6).
        lattice: Row vectors in Å, (S, 3, 3).
        frac_coords: Fractional coordinates, (s, 3).
        edge_source: Index of the source of each edge among all sites, int64 (m,). The edges are
            ordered by source and target.
        edge_target: Index of the target of each edge among all sites, int64 (m,).
        edge_image: Cell of the target relative to that of the source, (m, 3).
        graph: Result of the encoder's ``graph`` for these skeletons, if it was computed before.
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
    graph: Any = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.n_sites)

    def take(self, rows: Tensor) -> "SkeletonBatch":
        """Return a batch of some of the skeletons.

        Args:
            rows: Indices of skeletons in any order, int64 (R,).
        """
        n_sites = self.n_sites[rows]
        first = first_items(n_sites)
        sites = items_of(rows, self.n_sites)
        n_edges = torch.bincount(self.owner[self.edge_source], minlength=len(self))
        edges = items_of(rows, n_edges)
        offset = (first - self.first[rows]).repeat_interleave(n_edges[rows])
        return SkeletonBatch(
            n_sites=n_sites,
            first=first,
            owner=torch.arange(len(rows), device=rows.device).repeat_interleave(n_sites),
            index=self.index[sites],
            parameters=self.parameters[rows],
            lattice=self.lattice[rows],
            frac_coords=self.frac_coords[sites],
            edge_source=self.edge_source[edges] + offset,
            edge_target=self.edge_target[edges] + offset,
            edge_image=self.edge_image[edges],
        )

    @property
    def edge_vectors(self) -> Tensor:
        """The vector of each edge from its source to its target image in Å, (m, 3)."""
        shift = (
            self.frac_coords[self.edge_target]
            + self.edge_image
            - self.frac_coords[self.edge_source]
        )
        return cartesian(shift, self.lattice[self.owner[self.edge_source]])

    @property
    def in_cell_edges(self) -> Tensor:
        """Sources and targets of the edges inside the cell, the graph of the paper, (2, l)."""
        inside = (self.edge_image == 0).all(-1)
        return torch.stack([self.edge_source[inside], self.edge_target[inside]])

    def in_cell_messages(self) -> MessageEdges:
        """Return the edges inside the cell between the sites and one additional site.

        Edges from the additional site to itself pad the number of edges to one of a few sizes.
        Without padding, each training step would allocate tensors of slightly different sizes,
        which fragments the heap: in long training on a CPU, it grows to four times its size.
        """
        return self._messages(self.in_cell_edges)

    def periodic_messages(self) -> tuple[MessageEdges, Tensor]:
        """Return all edges as ``in_cell_messages`` does, and their shifts in Å, (m, 3)."""
        shift = cartesian(self.edge_image, self.lattice[self.owner[self.edge_source]])
        edges = self._messages(torch.stack([self.edge_source, self.edge_target]))
        return edges, F.pad(shift, (0, 0, 0, len(edges.source) - len(shift)))

    def _messages(self, edges: Tensor) -> MessageEdges:
        n_sites, n_edges = len(self.owner), edges.shape[1]
        source, target = F.pad(edges, (0, padded_size(n_edges) - n_edges), value=n_sites)
        return MessageEdges(source, target, n_sites + 1)

    @property
    def positions(self) -> Tensor:
        """The positions of the sites in Å, (s, 3)."""
        return cartesian(self.frac_coords, self.lattice[self.owner])

    @property
    def volume(self) -> Tensor:
        """The volume of each cell in Å³, (S,)."""
        a, b, c = self.lattice.unbind(-2)
        return (torch.linalg.cross(a, b) * c).sum(-1).abs()

    def flat(self, padded: Tensor) -> Tensor:
        """Remove the padding of values of the sites, (..., S, N) to (..., s)."""
        return padded[..., self.owner, self.index]

    def flat_focus(self, focus: Tensor) -> Tensor:
        """Convert site indices within the skeletons, (..., S), to indices among all sites."""
        return self.first + focus

    def mean_over_sites(self, values: Tensor) -> Tensor:
        """Average values over the sites of each skeleton, (..., s, d) to (..., S, d)."""
        return sum_at(values, self.owner, len(self), -2) / self.n_sites[:, None]


class GraphStore(Protocol):
    """What an encoder computes without weights for the skeletons of a store."""

    def batch(self, rows: Tensor) -> Any:
        """Return the graphs of some rows of the store, int64 (S,)."""


class SkeletonStore:
    """Skeletons on one device, from which batches are gathered.

    Attributes:
        graphs: If set, batches have these graphs, see ``encoder.attach_graphs``.

    Args:
        arrays: ``n_sites`` (C,), ``frac_coords`` (C, N, 3), ``parameters`` (C, 6) and ``edges``
            (C, E, 5) padded with -1, as in a ``CrystalCollection`` or a batch of observations.
        device: The device of the tensors.
        dtype: Floating-point type of coordinates and lattices.
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
        self.graphs: GraphStore | None = None

    @classmethod
    def from_cells(
        cls,
        n_sites: np.ndarray | Tensor,
        frac_coords: np.ndarray | Tensor,
        lattice: np.ndarray | Tensor,
        edges: np.ndarray | Tensor,
        *,
        device: torch.device | str = "cpu",
    ) -> "SkeletonStore":
        """Return the store of C skeletons, given as in an ``EpisodeTable`` or observations.

        Args:
            n_sites: (C,).
            frac_coords: (C, N, 3).
            lattice: Lengths in Å and angles in degrees, (C, 6).
            edges: (C, E, 5), padded with -1.
            device: The device of the tensors.
        """
        arrays = {
            "n_sites": n_sites,
            "frac_coords": frac_coords,
            "parameters": lattice,
            "edges": edges,
        }
        return cls(arrays, device)

    def __len__(self) -> int:
        return len(self.n_sites)

    @property
    def max_sites(self) -> int:
        """N, the padded number of sites."""
        return self.frac_coords.shape[1]

    def batch(self, rows: Tensor | None = None) -> SkeletonBatch:
        """Gather a batch of skeletons.

        Args:
            rows: Rows of the store in the order of the batch, (S,) (default: all).
        """
        rows = torch.arange(len(self), device=self.n_sites.device) if rows is None else rows
        n_sites = self.n_sites[rows]
        first = first_items(n_sites)
        sites = torch.arange(self.max_sites, device=rows.device) < n_sites[:, None]
        owner, index = sites.nonzero(as_tuple=True)
        edges = self.edges[rows]
        is_edge = edges[..., 0] >= 0
        edges = edges[is_edge].to(torch.int64)
        offset = first[is_edge.nonzero(as_tuple=True)[0]]
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
            graph=None if self.graphs is None else self.graphs.batch(rows),
        )
