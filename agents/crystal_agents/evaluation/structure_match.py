"""Whether filled crystals match the true ones by pymatgen's ``StructureMatcher``."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.episode import EpisodeTable
from crystal_gym.utils.parallel import map_in_order

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

# Number of fillings that one process compares in one call.
_CHUNK = 32
# Up to this number of fillings, one process is faster than starting worker processes.
SERIAL_LIMIT = 256

# Lattice vectors in Å, (3, 3), fractional coordinates, (n, 3), and the atomic numbers of the
# filling and of the true crystal, (n,).
_Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

# Tolerances of CDVAE (Xie et al., ICLR 2022).
_TOLERANCES = {"ltol": 0.3, "stol": 0.5, "angle_tol": 10}


@lru_cache(maxsize=1)
def structure_matcher() -> "StructureMatcher":
    """Return pymatgen's matcher with the tolerances of CDVAE (Xie et al., ICLR 2022)."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(**_TOLERANCES)


def structure_matches(
    table: EpisodeTable, crystals: np.ndarray, elements: np.ndarray
) -> np.ndarray:
    """Return whether fillings match the true crystals.

    A filling has the sites of the true crystal. It matches without a search if its elements are the
    true ones, and it does not match if its composition is another one.

    Args:
        table: The crystals.
        crystals: Rows of the table with the same number n of sites, (S,).
        elements: Codes of the fillings, (K, S, n).

    Returns:
        bool (K, S).
    """
    n = elements.shape[2]
    true = table.true_elements[crystals, :n]
    matches = (elements == true).all(2)
    same_composition = (np.sort(elements, 2) == np.sort(true, 1)).all(2)
    places = np.argwhere(same_composition & ~matches).tolist()
    pairs = [
        (
            lattice_matrix(table.collection.parameters[crystals[s]]),
            table.collection.frac_coords[crystals[s], :n],
            table.vocabulary.decode(elements[k, s]),
            table.vocabulary.decode(true[s]),
        )
        for k, s in places
    ]
    for (k, s), found in zip(places, _compare(pairs), strict=True):
        matches[k, s] = found
    return matches


def _compare(pairs: Sequence[_Pair]) -> list[bool]:
    """Return whether the fillings match, computed in parallel if there are many."""
    if len(pairs) <= SERIAL_LIMIT:
        return _compare_chunk(pairs)
    chunks = ((pairs[i : i + _CHUNK],) for i in range(0, len(pairs), _CHUNK))
    return [found for part in map_in_order(_compare_chunk, chunks) for found in part]


def _compare_chunk(pairs: Sequence[_Pair]) -> list[bool]:
    from pymatgen.core import Lattice, Structure

    return [
        bool(
            structure_matcher().fit(
                Structure(Lattice(lattice), filled.tolist(), coords),
                Structure(Lattice(lattice), known.tolist(), coords),
            )
        )
        for lattice, coords, filled, known in pairs
    ]
