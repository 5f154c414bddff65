"""Transitions whose batches have fixed shapes, as CUDA graphs and compiled code require."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import (
    SkeletonBatch,
    cartesian,
    lattice_vectors,
    padded_size,
)
from crystal_agents.networks.message_edges import FixedDegreeEdges
from crystal_gym.errors import CrystalGymError


@dataclass(frozen=True)
class FixedShapeBatch(SkeletonBatch):
    """S skeletons with n sites each, and their edges in a table of fixed size.

    Attributes:
        messages: The edges between the sites and one additional site, at which the padding edges
            start and end.
        periodic: Whether they are all edges, not only those inside the cell.
    """

    messages: FixedDegreeEdges
    periodic: bool

    def in_cell_messages(self) -> FixedDegreeEdges:
        """Return the edges inside the cell."""
        if self.periodic:
            raise ValueError("Expected edges inside the cell, got all edges.")
        return self.messages

    def periodic_messages(self) -> tuple[FixedDegreeEdges, Tensor]:
        """Return all edges and their shifts in Å, (m, 3)."""
        if not self.periodic:
            raise ValueError("Expected all edges, got those inside the cell.")
        # The images of the padding edges are zero.
        owner = torch.nn.functional.pad(self.owner, (0, 1))
        return self.messages, cartesian(self.edge_image, self.lattice[owner[self.edge_source]])


@dataclass(frozen=True)
class FixedShapeStates:
    """A batch of S states.

    Attributes:
        skeletons: The skeletons of the states.
        elements: Codes before the action, int64 (1, S n).
        focus: Site in focus, numbered within its skeleton, int64 (1, S).
        action: Action of the expert, int64 (1, S).
    """

    skeletons: FixedShapeBatch
    elements: Tensor
    focus: Tensor
    action: Tensor


class FixedShapeStore:
    """Transitions on one device, from which batches of one size are gathered.

    All tensors of a batch have shapes that depend on the batch size only, and gathering one neither
    synchronizes with the host nor reads values there.

    Args:
        arrays: ``frac_coords`` (C, n, 3), ``lattice`` (C, 6), ``edges`` (C, E, 5) padded with -1
            and ``n_sites`` (C,) of the skeletons; ``skeleton`` (T,), ``elements`` (T, n), ``focus``
            (T,) and ``action`` (T,) of the transitions, as in ``Transitions``.
        batch_size: S.
        device: The device of the tensors.
        periodic: Whether the batches have all edges instead of those inside the cell.

    Attributes:
        n_skeletons: C.
        skeleton_on_cpu: Skeleton of each transition, int64 (T,), on the CPU.
        edge_counts: Number of these edges of each transition's skeleton, int64 (T,), on the CPU.
        filler: A transition with few edges, which fills up the last batch of an epoch.
        max_edges: Number of edges for which a batch has room.

    Raises:
        CrystalGymError: If the skeletons have different numbers of sites.
    """

    def __init__(
        self,
        arrays: dict[str, Any],
        batch_size: int,
        device: torch.device | str = "cpu",
        *,
        periodic: bool = False,
    ) -> None:
        n_sites = torch.as_tensor(arrays["n_sites"])
        self.n = int(n_sites[0])
        if not bool((n_sites == self.n).all()):
            raise CrystalGymError(
                "Expected skeletons with one number of sites for batches of fixed shapes, got "
                f"{int(n_sites.min())} to {int(n_sites.max())} sites. Train without fixed shapes."
            )
        self.batch_size, self.periodic = batch_size, periodic
        edges = torch.as_tensor(arrays["edges"])
        local, counts, incoming, outgoing = _edge_tables(edges, self.n, periodic=periodic)
        skeleton = torch.as_tensor(arrays["skeleton"], dtype=torch.int64)
        self.edge_counts = counts[skeleton]
        self.filler = int(self.edge_counts.argmin())
        # Eight standard deviations above the mean of a random batch, but no more than possible.
        counted = self.edge_counts.double()
        spread = 8 * counted.std(correction=0).item() * batch_size**0.5
        mean, most = counted.mean().item() * batch_size, int(counts.max()) * batch_size
        self.max_edges = padded_size(min(most, int(mean + spread) + 1))

        def on_device(values: Any, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(values).to(device=device, dtype=dtype)

        n = self.n
        self.skeleton_on_cpu, self.n_skeletons = skeleton, len(n_sites)
        self.skeleton = skeleton.to(device)
        self.elements = on_device(arrays["elements"], torch.int64)[:, :n].contiguous()
        self.focus = on_device(arrays["focus"], torch.int64)
        self.action = on_device(arrays["action"], torch.int64)
        self.parameters = on_device(arrays["lattice"], torch.float32)
        self.lattice = lattice_vectors(self.parameters)
        self.frac_coords = on_device(arrays["frac_coords"], torch.float32)[:, :n].contiguous()
        local = local if periodic else local[..., :2].contiguous()
        self.local_edges, self.counts = local.to(device), counts.to(device)
        self.incoming, self.outgoing = incoming.to(device), outgoing.to(device)
        sites = torch.arange(batch_size * n, device=device)
        self.owner, self.index = sites // n, sites % n
        self.first = torch.arange(batch_size, device=device) * n
        self.all_n_sites = torch.full((batch_size,), n, device=device)
        self.no_images = torch.zeros(self.max_edges + 1, 3, device=device)

    def __len__(self) -> int:
        return len(self.focus)

    def check_order(self, order: Tensor) -> None:
        """Check that every batch of an epoch has room for its edges.

        Args:
            order: Transitions in the order of the epoch, int64 (T,), on the CPU.

        Raises:
            CrystalGymError: If a batch has more than ``max_edges`` edges.
        """
        counts = self.edge_counts[order]
        batches = -(-len(order) // self.batch_size)
        filling = counts.new_full(
            (batches * self.batch_size - len(order),), int(self.edge_counts[self.filler])
        )
        total = torch.cat([counts, filling]).view(batches, -1).sum(1)
        if bool((total > self.max_edges).any()):
            raise CrystalGymError(
                f"Expected at most {self.max_edges} edges in a batch, got {int(total.max())}. "
                "Train without fixed shapes."
            )

    def batch(self, rows: Tensor) -> FixedShapeStates:
        """Return the transitions with these indices, int64 (S,)."""
        skeleton = self.skeleton[rows]
        parameters = self.parameters[skeleton]
        messages, images = self._messages(skeleton)
        skeletons = FixedShapeBatch(
            n_sites=self.all_n_sites,
            first=self.first,
            owner=self.owner,
            index=self.index,
            parameters=parameters,
            lattice=self.lattice[skeleton],
            frac_coords=self.frac_coords[skeleton].flatten(0, 1),
            edge_source=messages.source,
            edge_target=messages.target,
            edge_image=images,
            messages=messages,
            periodic=self.periodic,
        )
        return FixedShapeStates(
            skeletons,
            self.elements[rows].flatten()[None],
            self.focus[rows][None],
            self.action[rows][None],
        )

    def _messages(self, skeleton: Tensor) -> tuple[FixedDegreeEdges, Tensor]:
        """Concatenate the edges of S skeletons, (S,), in a table of m edges, with images (m, 3)."""
        n_total, m = len(skeleton) * self.n, self.max_edges
        counts = self.counts[skeleton]
        offset = counts.cumsum(0) - counts
        local = self.local_edges[skeleton]
        slot = torch.arange(local.shape[1], device=local.device)
        # Entries that are no edges are written to the additional position m.
        position = torch.where(slot < counts[:, None], offset[:, None] + slot, m).flatten()
        sites = (local[..., :2] + self.first[:, None, None]).flatten(0, 1)
        table = torch.full((m + 1, 2), n_total, device=local.device)
        table = table.index_copy(0, position, sites)[:m]
        images = self.no_images
        if self.periodic:
            images = images.index_copy(0, position, local[..., 2:].flatten(0, 1).to(images.dtype))

        def slots(of_site: Tensor) -> Tensor:
            edges = of_site[skeleton]
            found = torch.where(edges >= 0, offset[:, None, None] + edges, m).flatten(0, 1)
            return torch.nn.functional.pad(found, (0, 0, 0, 1), value=m)

        messages = FixedDegreeEdges(
            table[:, 0].contiguous(),
            table[:, 1].contiguous(),
            n_total + 1,
            incoming=slots(self.incoming),
            outgoing=slots(self.outgoing),
        )
        return messages, images[:m]


def _edge_tables(edges: Tensor, n: int, *, periodic: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select the edges of C skeletons.

    Args:
        edges: Edges, (C, E, 5), padded with -1.
        n: Number of sites of each skeleton.
        periodic: Whether to select all edges instead of those inside the cell.

    Returns:
        The selected edges, int64 (C, L, 5), padded with 0; their numbers, int64 (C,); and the
        edges to and from each site, int64 (C, n, D), padded with -1.
    """
    edges = edges.to(torch.int64)
    selected = edges[..., 0] >= 0
    if not periodic:
        selected &= (edges[..., 2:] == 0).all(-1)
    counts = selected.sum(1)
    rows, _ = selected.nonzero(as_tuple=True)
    first = counts.cumsum(0) - counts
    number = torch.arange(len(rows)) - first[rows]
    local = torch.zeros(len(edges), int(counts.max()), 5, dtype=torch.int64)
    local[rows, number] = edges[selected]
    tables = []
    for end in (1, 0):
        site = edges[selected][:, end]
        key = rows * n + site
        order = key.argsort(stable=True)
        degree = torch.bincount(key, minlength=len(edges) * n)
        place = torch.arange(len(key)) - (degree.cumsum(0) - degree)[key[order]]
        table = torch.full((len(edges) * n, int(degree.max())), -1)
        table[key[order], place] = number[order]
        tables.append(table.view(len(edges), n, -1))
    return local, counts, tables[0], tables[1]
