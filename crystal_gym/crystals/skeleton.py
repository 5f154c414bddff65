"""Crystal skeletons: the geometry of a unit cell without its elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.crystals.breadth_first import breadth_first
from crystal_gym.crystals.elements import SYMBOLS, atomic_number
from crystal_gym.crystals.neighbors import in_cell, neighbor_edges
from crystal_gym.errors import BadCrystalError, CrystalGymError

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Sites closer than this in Å are duplicates; the shortest bond, H-H, is 0.74 Å long.
SHORTEST_DISTANCE = 0.5
# Fractional coordinates that are equal to this many decimals count as equal in the site order.
_ORDER_DECIMALS = 8


def lattice_matrix(parameters: np.ndarray) -> np.ndarray:
    """Compute the row vectors of cells in the standard orientation: c along z, a in the xz plane.

    Args:
        parameters: Lengths a, b, c in Å and angles alpha, beta, gamma in degrees, (..., 6).

    Returns:
        Row vectors in Å, float64 (..., 3, 3).
    """
    parameters = np.asarray(parameters, np.float64)
    a, b, c = np.moveaxis(parameters[..., :3], -1, 0)
    alpha, beta, gamma = np.moveaxis(parameters[..., 3:], -1, 0)
    # Exact zeros for right angles keep rounding errors such as 1e-16 out of cubic cells.
    cos_alpha, cos_beta, cos_gamma = (
        np.where(x == 90, 0.0, np.cos(np.radians(x))) for x in (alpha, beta, gamma)
    )
    sin_alpha, sin_beta = np.sin(np.radians(alpha)), np.sin(np.radians(beta))
    cos_gamma_star = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)
    sin_gamma_star = np.sqrt(np.maximum(1 - cos_gamma_star**2, 0))
    zero = np.zeros_like(a)
    rows = [
        np.stack([a * sin_beta, zero, a * cos_beta], -1),
        np.stack(
            [-b * sin_alpha * cos_gamma_star, b * sin_alpha * sin_gamma_star, b * cos_alpha], -1
        ),
        np.stack([zero, zero, c], -1),
    ]
    return np.stack(rows, -2)


def wrap(frac_coords: np.ndarray) -> np.ndarray:
    """Move fractional coordinates into [0, 1); those within 1e-9 of a face become 0."""
    wrapped = np.mod(np.asarray(frac_coords, np.float64), 1.0)
    return np.where((wrapped < 1e-9) | (wrapped > 1 - 1e-9), 0.0, wrapped)


def geometric_order(frac_coords: np.ndarray) -> np.ndarray:
    """Sort sites by their wrapped coordinates x, then y, then z; return a permutation (n,)."""
    rounded = np.round(wrap(frac_coords), _ORDER_DECIMALS)
    return np.lexsort(rounded.T[::-1])


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The sites of a unit cell and their neighbors, without elements.

    The lattice parameters define the cell, so crystals that differ by a rotation or a reflection
    of the lattice have the same skeleton. ``lattice`` has the standard orientation.

    Attributes:
        parameters: Lengths a, b, c in Å and angles alpha, beta, gamma in degrees, float64 (6,).
        frac_coords: Fractional coordinates in [0, 1), float64 (n, 3).
        edges: Directed edges to neighbors, ``(source, target, i, j, k)``, int16 (m, 5), each with
            its reverse; see ``crystal_gym.crystals.neighbors.neighbor_edges``.
    """

    parameters: np.ndarray
    frac_coords: np.ndarray
    edges: np.ndarray

    @classmethod
    def from_structure(
        cls, structure: "Structure", order: np.ndarray | None = None, max_sites: int | None = None
    ) -> "Skeleton":
        """Return the skeleton of a pymatgen ``Structure``, whose sites can have dummy species.

        See ``split_structure`` for the arguments and errors.
        """
        return _skeleton_and_order(structure, order, max_sites)[0]

    @property
    def n_sites(self) -> int:
        """The number of sites n."""
        return len(self.frac_coords)

    @cached_property
    def lattice(self) -> np.ndarray:
        """The row vectors of the cell in Å, float64 (3, 3)."""
        return lattice_matrix(self.parameters)

    @cached_property
    def cartesian_coords(self) -> np.ndarray:
        """The positions of the sites in Å, float64 (n, 3)."""
        return self.frac_coords @ self.lattice

    @property
    def edge_vectors(self) -> np.ndarray:
        """The vector in Å of each edge, from its source to its target image, float64 (m, 3)."""
        source, target = self.edges[:, 0], self.edges[:, 1]
        return (
            self.frac_coords[target] + self.edges[:, 2:] - self.frac_coords[source]
        ) @ self.lattice

    @property
    def in_cell_edges(self) -> np.ndarray:
        """The edges within the cell, which are the graph of the paper, int16 (l, 5)."""
        return in_cell(self.edges)

    def traversal(self, start_site: int = 0) -> np.ndarray:
        """Return the sites in breadth-first order from the start site, int16 (n,).

        Raises:
            CrystalGymError: If the start site is not a site of the skeleton.
        """
        if not 0 <= start_site < self.n_sites:
            raise CrystalGymError(
                f"Expected a start site from 0 to {self.n_sites - 1}, got {start_site}."
            )
        return breadth_first(self.edges, self.n_sites, start_site)

    def fill(self, elements: Sequence[str | int] | np.ndarray) -> "Structure":
        """Return the pymatgen ``Structure`` with the given elements.

        Args:
            elements: Symbols or atomic numbers, (n,).

        Raises:
            CrystalGymError: If the number of elements is not n, or an element does not exist.
        """
        from pymatgen.core import Lattice, Structure

        if len(elements) != self.n_sites:
            raise CrystalGymError(
                f"Expected {self.n_sites} elements, one for each site, got {len(elements)}."
            )
        numbers = [atomic_number(element) for element in elements]
        return Structure(
            Lattice(self.lattice), [SYMBOLS[number - 1] for number in numbers], self.frac_coords
        )

    def __eq__(self, other: object) -> bool:
        """Return whether all arrays are exactly equal."""
        return isinstance(other, Skeleton) and all(
            np.array_equal(array, other_array)
            for array, other_array in (
                (self.parameters, other.parameters),
                (self.frac_coords, other.frac_coords),
                (self.edges, other.edges),
            )
        )

    def __hash__(self) -> int:
        return hash((self.parameters.tobytes(), self.frac_coords.tobytes(), self.edges.tobytes()))


def split_structure(
    structure: "Structure", order: np.ndarray | None = None, max_sites: int | None = None
) -> tuple[Skeleton, np.ndarray]:
    """Split a structure into its skeleton and its elements.

    All conversions from structures to arrays use this function.

    Args:
        structure: An ordered pymatgen ``Structure``.
        order: A permutation (n,): site ``order[s]`` of the structure becomes site s. By default,
            sites are sorted by their coordinates, because the order in a file, which is often
            grouped by element, reveals elements.
        max_sites: Reject larger cells.

    Returns:
        The skeleton, and the atomic numbers in its site order, int64 (n,).

    Raises:
        BadCrystalError: If the structure has no sites, too many sites, partial occupancy or
            disorder, dummy species, coordinates that are not finite, a flat cell, or overlapping
            sites.
        CrystalGymError: If ``order`` is not a permutation of the sites.
    """
    from pymatgen.core import DummySpecies

    skeleton, order = _skeleton_and_order(structure, order, max_sites)
    for index, site in enumerate(structure):
        if isinstance(site.specie, DummySpecies):
            raise BadCrystalError(
                f"Expected an element on site {index}, got the dummy species "
                f"{site.species_string!r}."
            )
    return skeleton, np.array([site.specie.Z for site in structure], np.int64)[order]


def _skeleton_and_order(
    structure: "Structure", order: np.ndarray | None, max_sites: int | None
) -> tuple[Skeleton, np.ndarray]:
    """Return the skeleton of a structure and its site order, int64 (n,); ignore its elements."""
    n = len(structure)
    if n == 0:
        raise BadCrystalError("Expected at least one site, got no sites.")
    if max_sites is not None and n > max_sites:
        raise BadCrystalError(f"Expected at most {max_sites} sites, got {n}.")
    for index, site in enumerate(structure):
        if not site.is_ordered:
            raise BadCrystalError(
                f"Site {index} is disordered or partly occupied ({site.species_string}). Use an "
                "ordered crystal, with one element on each site."
            )
    # Rounding makes right angles exact and rotated copies equal.
    parameters = np.round(np.array(structure.lattice.parameters, np.float64), 10)
    if not (np.isfinite(parameters).all() and np.isfinite(structure.frac_coords).all()):
        raise BadCrystalError("Expected finite lattice parameters and coordinates, got NaN or inf.")
    lattice = lattice_matrix(parameters)
    if abs(np.linalg.det(lattice)) < 1e-3 * np.prod(parameters[:3]):
        raise BadCrystalError(
            f"The cell is flat: its lattice parameters are {parameters.tolist()}."
        )
    frac_coords = wrap(structure.frac_coords)
    order = geometric_order(frac_coords) if order is None else np.asarray(order)
    if sorted(order.tolist()) != list(range(n)):
        raise CrystalGymError(
            f"Expected a permutation of the {n} sites as the site order, got {order.tolist()}."
        )
    frac_coords = frac_coords[order]
    _reject_overlaps(lattice, frac_coords, order)
    return Skeleton(parameters, frac_coords, neighbor_edges(lattice, frac_coords)), order


def _reject_overlaps(lattice: np.ndarray, frac_coords: np.ndarray, order: np.ndarray) -> None:
    """Raise a ``BadCrystalError`` if a site overlaps another site or its own image."""
    from pymatgen.core import Lattice

    cell = Lattice(lattice)
    # The shortest lattice vector leads to one of the 26 cells around a reduced cell.
    images = np.array(list(np.ndindex(3, 3, 3))[14:]) - 1
    shortest = np.linalg.norm(images @ cell.get_lll_reduced_lattice().matrix, axis=1).min()
    if shortest < SHORTEST_DISTANCE:
        raise BadCrystalError(
            f"The cell is too small: each site overlaps its own image, {shortest:.3f} Å away. "
            f"Expected at least {SHORTEST_DISTANCE} Å."
        )
    distances = cell.get_all_distances(frac_coords, frac_coords)
    first, second = np.triu_indices(len(frac_coords), 1)
    close = np.flatnonzero(distances[first, second] < SHORTEST_DISTANCE)
    if close.size:
        a, b = first[close[0]], second[close[0]]
        raise BadCrystalError(
            f"Sites {order[a]} and {order[b]} overlap: {distances[a, b]:.3f} Å apart. Expected at "
            f"least {SHORTEST_DISTANCE} Å."
        )
