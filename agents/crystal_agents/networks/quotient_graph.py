"""Quotient graphs: symmetry-equivalent sites and edges of a crystal, merged.

A message-passing network on distances computes equal embeddings for sites with equal environments.
It needs to compute them only once for each orbit, with each distinct edge counted with its
multiplicity. Crystals of databases are symmetric: the quotient graphs of MP-20 have 0.44 orbits per
site and a quarter of the edges.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonBatch, first_items, items_of
from crystal_agents.networks.periodic_graph import (
    PeriodicEdges,
    angular_moments,
    cosine_fade,
    periodic_edges,
)

# Distances of one crystal are equal if no gap between consecutive ones exceeds this value in Å.
_TOLERANCE = 1e-3
# Number of rounds of color refinement, which determine the orbits.
_ROUNDS = 4


class QuotientGraph(NamedTuple):
    """The quotient graphs of S crystals with s sites, o orbits, q edges and p pairs in total.

    Attributes:
        n_orbits: Number of orbits of each crystal, int64 (S,).
        n_edges: Number of edges of each crystal, int64 (S,).
        n_pairs: Number of pairs of each crystal, int64 (S,).
        orbit: Orbit of each site, int64 (s,).
        share: Fraction of the sites of its crystal that are in each orbit, (o,).
        source: Orbit at the start of each edge, int64 (q,).
        target: Orbit at the end of each edge, int64 (q,).
        distance: Length in Å, (q,).
        multiplicity: Number of such edges per site of the source, (q,).
        angular: Angular moments at the source and at the target, averaged over the merged edges,
            (q, 2 ``N_ANGULAR``).
        pair_source: First site of each pair of different neighboring sites, int64 (p,).
        pair_target: Second site of each pair, int64 (p,).
        pair_edge: The edge between the nearest images of a pair, int64 (p,).
        pair_weight: Sum of the fades of all edges of a pair, (p,).
    """

    n_orbits: Tensor
    n_edges: Tensor
    n_pairs: Tensor
    orbit: Tensor
    share: Tensor
    source: Tensor
    target: Tensor
    distance: Tensor
    multiplicity: Tensor
    angular: Tensor
    pair_source: Tensor
    pair_target: Tensor
    pair_edge: Tensor
    pair_weight: Tensor


@torch.no_grad()
def quotient_graph(batch: SkeletonBatch, cutoff: float, pair_cutoff: float) -> QuotientGraph:
    """Compute the quotient graphs of all skeletons of a batch.

    Args:
        batch: The skeletons.
        cutoff: Maximum length of the edges, in units of the cube root of the volume per site.
        pair_cutoff: The same for pairs of sites, at most ``cutoff``.
    """
    edges = periodic_edges(batch, cutoff)
    n_sites = len(batch.owner)
    label, length = _equal_distances(batch.owner[edges.source], edges.distance)
    orbit = _orbits(batch.owner, edges, label)
    n_orbits_total = int(orbit.max()) + 1
    orbit_owner = batch.owner.new_zeros(n_orbits_total).index_copy(0, orbit, batch.owner)
    size = torch.bincount(orbit, minlength=n_orbits_total)
    ends = orbit[edges.source], orbit[edges.target]
    # Keys of edges from the first to the second orbit, and of the reversed edges.
    forward = (ends[0] * n_orbits_total + ends[1]) * len(length) + label
    keys, merged, count = torch.unique(forward, return_inverse=True, return_counts=True)
    label_of = keys % len(length)
    source = keys.div(len(length), rounding_mode="floor")
    source, target = source.div(n_orbits_total, rounding_mode="floor"), source % n_orbits_total
    moments = angular_moments(edges, n_sites)
    moments = moments.new_zeros(len(keys), moments.shape[1]).index_add(0, merged, moments)
    moments = moments / count[:, None]
    reverse = torch.searchsorted(keys, (target * n_orbits_total + source) * len(length) + label_of)
    pairs = _pairs(edges, n_sites, merged, pair_cutoff)

    def per_crystal(owner: Tensor) -> Tensor:
        return torch.bincount(owner, minlength=len(batch))

    return QuotientGraph(
        n_orbits=per_crystal(orbit_owner),
        n_edges=per_crystal(orbit_owner[source]),
        n_pairs=per_crystal(batch.owner[pairs[0]]),
        orbit=orbit,
        share=size.to(length.dtype) / batch.n_sites[orbit_owner],
        source=source,
        target=target,
        distance=length[label_of],
        multiplicity=count.to(length.dtype) / size[source],
        angular=torch.cat([moments, moments[reverse]], -1),
        pair_source=pairs[0],
        pair_target=pairs[1],
        pair_edge=pairs[2],
        pair_weight=pairs[3],
    )


def _equal_distances(owner: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Assign numbers to the distinct distances of all crystals.

    Args:
        owner: Crystal of each edge, int64 (m,).
        distance: Length of each edge in Å, (m,).

    Returns:
        The number of each edge's distance, int64 (m,), and the mean distances, (d,).
    """
    order = distance.argsort()
    order = order[owner[order].argsort(stable=True)]
    gap = distance[order].diff() > _TOLERANCE
    starts = gap | (owner[order].diff() != 0)
    number = torch.cat([starts.new_zeros(min(1, len(owner))), starts]).cumsum(0)
    label = torch.empty_like(number).index_copy(0, order, number)
    count = torch.bincount(label)
    return label, distance.new_zeros(len(count)).index_add(0, label, distance) / count


def _mix(x: Tensor) -> Tensor:
    """Return pseudo-random integers, a function of each integer; int64 overflow wraps."""
    x = x * -7046029254386353131
    x = (x ^ (x >> 29)) * -4658895280553007687
    return x ^ (x >> 32)


def _orbits(owner: Tensor, edges: PeriodicEdges, label: Tensor) -> Tensor:
    """Partition sites into orbits by color refinement.

    Two sites have equal colors after a round if they had equal colors before, and if their
    neighbors at each distance had equal colors.

    Args:
        owner: Crystal of each site, int64 (s,).
        edges: The edges.
        label: Number of the distance of each edge, int64 (m,).

    Returns:
        Number of each site's orbit, int64 (s,), in the order of the crystals.
    """
    color = torch.zeros_like(owner)
    distance = _mix(label + 1)
    for _ in range(_ROUNDS):
        # Sums of integers do not depend on the order of the neighbors.
        neighbor = _mix(distance + color[edges.target])
        color = _mix(color + torch.zeros_like(color).index_add(0, edges.source, neighbor))
    color = torch.unique(color, return_inverse=True)[1]
    return torch.unique(owner * len(owner) + color, return_inverse=True)[1]


def _pairs(
    edges: PeriodicEdges, n_sites: int, merged: Tensor, cutoff: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pairs of different sites up to a cutoff: source, target, edge and weight."""
    near = (edges.relative < cutoff) & (edges.source != edges.target)
    source, target = edges.source[near], edges.target[near]
    keys, pair = torch.unique(source * n_sites + target, return_inverse=True)
    fade = cosine_fade(edges.relative[near] / cutoff)
    weight = fade.new_zeros(len(keys)).index_add(0, pair, fade)
    # The edge of the nearest image is written last.
    order = edges.distance[near].argsort(descending=True, stable=True)
    order = order[pair[order].argsort(stable=True)]
    last = torch.bincount(pair, minlength=len(keys)).cumsum(0) - 1
    nearest = merged[near][order[last]]
    return keys.div(n_sites, rounding_mode="floor"), keys % n_sites, nearest, weight


class QuotientGraphStore:
    """The quotient graphs of all skeletons of a store, from which batches are gathered.

    Args:
        parts: Graphs of consecutive crystals.
        n_sites: Number of sites of each crystal, int64 (C,).
    """

    def __init__(self, parts: Sequence[QuotientGraph], n_sites: Tensor) -> None:
        first_site = first_items(n_sites)
        columns: dict[str, list[Tensor]] = {name: [] for name in QuotientGraph._fields}
        done = 0
        for graph in parts:
            crystals = slice(done, done + len(graph.n_orbits))
            done = crystals.stop
            orbits, edges = first_items(graph.n_orbits), first_items(graph.n_edges)
            sites = first_site[crystals] - first_site[crystals.start]
            shifts = {
                "orbit": orbits.repeat_interleave(n_sites[crystals]),
                "source": orbits.repeat_interleave(graph.n_edges),
                "target": orbits.repeat_interleave(graph.n_edges),
                "pair_source": sites.repeat_interleave(graph.n_pairs),
                "pair_target": sites.repeat_interleave(graph.n_pairs),
                "pair_edge": edges.repeat_interleave(graph.n_pairs),
            }
            # Indices within a crystal and 16-bit moments need half of the memory.
            compact = {
                name: (getattr(graph, name) - shift).to(torch.int32)
                for name, shift in shifts.items()
            }
            if graph.angular.dtype == torch.float32:
                compact["angular"] = graph.angular.half()
            for name, values in graph._replace(**compact)._asdict().items():
                columns[name].append(values)
        self.graph = QuotientGraph(**{name: torch.cat(part) for name, part in columns.items()})
        self.n_sites = n_sites

    def batch(self, rows: Tensor) -> QuotientGraph:
        """Return the graphs of some crystals.

        Args:
            rows: Rows of the store, int64 (S,).
        """
        whole = self.graph
        counts = {
            "site": self.n_sites,
            "orbit": whole.n_orbits,
            "edge": whole.n_edges,
            "pair": whole.n_pairs,
        }
        index = {kind: items_of(rows, count) for kind, count in counts.items()}
        start = {kind: first_items(count[rows]) for kind, count in counts.items()}

        def indices(values: Tensor, kind: str, into: str) -> Tensor:
            shift = start[into].repeat_interleave(counts[kind][rows])
            return values[index[kind]].long() + shift

        return QuotientGraph(
            n_orbits=whole.n_orbits[rows],
            n_edges=whole.n_edges[rows],
            n_pairs=whole.n_pairs[rows],
            orbit=indices(whole.orbit, "site", "orbit"),
            share=whole.share[index["orbit"]],
            source=indices(whole.source, "edge", "orbit"),
            target=indices(whole.target, "edge", "orbit"),
            distance=whole.distance[index["edge"]],
            multiplicity=whole.multiplicity[index["edge"]],
            angular=whole.angular[index["edge"]].to(whole.distance.dtype),
            pair_source=indices(whole.pair_source, "pair", "site"),
            pair_target=indices(whole.pair_target, "pair", "site"),
            pair_edge=indices(whole.pair_edge, "pair", "edge"),
            pair_weight=whole.pair_weight[index["pair"]],
        )
