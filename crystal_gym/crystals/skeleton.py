"""Crystal skeletons: the geometry of a unit cell without its elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS, atomic_number
from crystal_gym.crystals.neighbors import breadth_first, in_cell, neighbor_edges
from crystal_gym.errors import BadCrystalError, CrystalGymError

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Sites closer than this (Å) are one site written twice; the shortest bond, H-H, has 0.74 Å.
SHORTEST_DISTANCE = 0.5
# Fractional coordinates closer than this count as equal when sites are put in order.
_ORDER_DECIMALS = 8


def lattice_matrix(parameters: np.ndarray) -> np.ndarray:
    """Row vectors of cells in the standard orientation: c along z, a in the xz plane.

    Args:
        parameters: lengths a, b, c in Å and angles alpha, beta, gamma in degrees, (..., 6).

    Returns:
        float64 (..., 3, 3) in Å.
    """
    parameters = np.asarray(parameters, np.float64)
    a, b, c = np.moveaxis(parameters[..., :3], -1, 0)
    alpha, beta, gamma = np.moveaxis(parameters[..., 3:], -1, 0)
    # Exact zeros for right angles: a cubic cell has no 1e-16 off its diagonal.
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
    """Fractional coordinates moved into [0, 1); what lies within 1e-9 of a face goes to 0."""
    wrapped = np.mod(np.asarray(frac_coords, np.float64), 1.0)
    return np.where((wrapped < 1e-9) | (wrapped > 1 - 1e-9), 0.0, wrapped)


def geometric_order(frac_coords: np.ndarray) -> np.ndarray:
    """The order of sites by their wrapped coordinates, x before y before z: a permutation (n,)."""
    rounded = np.round(wrap(frac_coords), _ORDER_DECIMALS)
    return np.lexsort(rounded.T[::-1])


@dataclass(frozen=True, eq=False)
class Skeleton:
    """The sites of a unit cell and their neighbors; nothing of the elements.

    The cell is kept by its parameters, so that crystals which differ by a rotation have the same
    skeleton (and mirror images too); ``lattice`` gives row vectors in the standard orientation.

    Attributes:
        parameters: lengths a, b, c in Å and angles alpha, beta, gamma in degrees, float64 (6,).
        frac_coords: fractional coordinates in [0, 1), float64 (n, 3).
        edges: directed neighbor edges ``(source, target, i, j, k)``, int16 (m, 5), closed under
            reversal; see ``crystal_gym.crystals.neighbors.neighbor_edges``.
    """

    parameters: np.ndarray
    frac_coords: np.ndarray
    edges: np.ndarray

    @classmethod
    def from_structure(
        cls, structure: "Structure", order: np.ndarray | None = None, max_sites: int | None = None
    ) -> "Skeleton":
        """The skeleton of a pymatgen ``Structure``; ``split_structure`` tells more, and the elements."""
        return split_structure(structure, order, max_sites)[0]

    @property
    def n_sites(self) -> int:
        """Number of sites n."""
        return len(self.frac_coords)

    @cached_property
    def lattice(self) -> np.ndarray:
        """Row vectors in Å, float64 (3, 3)."""
        return lattice_matrix(self.parameters)

    @cached_property
    def cartesian_coords(self) -> np.ndarray:
        """Site positions in Å, float64 (n, 3)."""
        return self.frac_coords @ self.lattice

    @property
    def edge_vectors(self) -> np.ndarray:
        """Vectors in Å from each edge's source to its target's image, float64 (m, 3)."""
        source, target = self.edges[:, 0], self.edges[:, 1]
        return (
            self.frac_coords[target] + self.edges[:, 2:] - self.frac_coords[source]
        ) @ self.lattice

    @property
    def in_cell_edges(self) -> np.ndarray:
        """The edges that stay inside the cell, the paper's simple graph, int16 (l, 5)."""
        return in_cell(self.edges)

    def traversal(self, start_site: int = 0) -> np.ndarray:
        """Sites in breadth-first order from ``start_site``, int16 (n,)."""
        if not 0 <= start_site < self.n_sites:
            raise CrystalGymError(f"Start site {start_site} is none of the {self.n_sites} sites.")
        return breadth_first(self.edges, self.n_sites, start_site)

    def fill(self, elements: Sequence[str | int] | np.ndarray) -> "Structure":
        """The pymatgen ``Structure`` with these elements (symbols or atomic numbers), n of them."""
        from pymatgen.core import Lattice, Structure

        if len(elements) != self.n_sites:
            raise CrystalGymError(f"{len(elements)} elements for {self.n_sites} sites.")
        numbers = [atomic_number(element) for element in elements]
        return Structure(
            Lattice(self.lattice), [SYMBOLS[number - 1] for number in numbers], self.frac_coords
        )

    def __eq__(self, other: object) -> bool:
        """Equal bit for bit."""
        return isinstance(other, Skeleton) and all(
            np.array_equal(mine, theirs)
            for mine, theirs in (
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
    """Take a structure apart into its skeleton and its elements: the only way in from chemistry.

    Args:
        structure: an ordered pymatgen ``Structure``.
        order: a permutation (n,): site ``order[s]`` of the structure becomes site s. By default
            sites are sorted by their coordinates, since the order in a file (grouped by element,
            say) would give elements away.
        max_sites: refuse larger cells.

    Returns:
        The skeleton, and the atomic numbers in its site order, int64 (n,).

    Raises:
        BadCrystalError: no sites, too many, partial occupancy or disorder, no real elements,
            coordinates that are no numbers, a flat cell, or overlapping sites.
    """
    n = len(structure)
    if n == 0:
        raise BadCrystalError("The crystal has no sites.")
    if max_sites is not None and n > max_sites:
        raise BadCrystalError(f"The crystal has {n} sites; at most {max_sites} are allowed.")
    for index, site in enumerate(structure):
        if not site.is_ordered:
            raise BadCrystalError(
                f"Site {index} is disordered or partly occupied ({site.species_string}); "
                "only ordered crystals can be filled. Order it first."
            )
    from pymatgen.core import DummySpecies

    for index, site in enumerate(structure):
        if isinstance(site.specie, DummySpecies):
            raise BadCrystalError(f"Site {index} carries no element but {site.species_string!r}.")
    numbers = np.array([site.specie.Z for site in structure], np.int64)
    # Rounding keeps right angles right and rotated copies alike.
    parameters = np.round(np.array(structure.lattice.parameters, np.float64), 10)
    if not (np.isfinite(parameters).all() and np.isfinite(structure.frac_coords).all()):
        raise BadCrystalError("The lattice or a coordinate is not a finite number.")
    lattice = lattice_matrix(parameters)
    if abs(np.linalg.det(lattice)) < 1e-3 * np.prod(parameters[:3]):
        raise BadCrystalError(f"The cell is flat: lattice parameters {parameters.tolist()}.")
    frac_coords = wrap(structure.frac_coords)
    order = geometric_order(frac_coords) if order is None else np.asarray(order)
    if sorted(order.tolist()) != list(range(n)):
        raise CrystalGymError(f"The site order {order.tolist()} is no permutation of {n} sites.")
    frac_coords = frac_coords[order]
    _refuse_overlaps(lattice, frac_coords, order)
    skeleton = Skeleton(parameters, frac_coords, neighbor_edges(lattice, frac_coords))
    return skeleton, numbers[order]


def _refuse_overlaps(lattice: np.ndarray, frac_coords: np.ndarray, order: np.ndarray) -> None:
    from pymatgen.core import Lattice

    cell = Lattice(lattice)
    # The shortest lattice vector is among the neighbors of a reduced cell.
    images = np.array(list(np.ndindex(3, 3, 3))[14:]) - 1
    shortest = np.linalg.norm(images @ cell.get_lll_reduced_lattice().matrix, axis=1).min()
    if shortest < SHORTEST_DISTANCE:
        raise BadCrystalError(
            f"The cell is too small: each site overlaps its own image, {shortest:.3f} Å away, "
            f"less than {SHORTEST_DISTANCE} Å."
        )
    distances = cell.get_all_distances(frac_coords, frac_coords)
    first, second = np.triu_indices(len(frac_coords), 1)
    close = np.flatnonzero(distances[first, second] < SHORTEST_DISTANCE)
    if close.size:
        a, b = first[close[0]], second[close[0]]
        raise BadCrystalError(
            f"Sites {order[a]} and {order[b]} overlap: {distances[a, b]:.3f} Å apart, "
            f"less than {SHORTEST_DISTANCE} Å."
        )
