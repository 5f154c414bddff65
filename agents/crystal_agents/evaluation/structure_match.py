"""Whether filled crystals match the true ones by pymatgen's ``StructureMatcher``."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.episode import EpisodeTable

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher

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
    from pymatgen.core import Lattice, Structure

    n = elements.shape[2]
    true = table.true_elements[crystals, :n]
    matches = (elements == true).all(2)
    same_composition = (np.sort(elements, 2) == np.sort(true, 1)).all(2)
    for k, s in np.argwhere(same_composition & ~matches).tolist():
        row = crystals[s]
        lattice = Lattice(lattice_matrix(table.collection.parameters[row]))
        coords = table.collection.frac_coords[row, :n]
        filled, known = (
            Structure(lattice, table.vocabulary.decode(codes).tolist(), coords)
            for codes in (elements[k, s], true[s])
        )
        matches[k, s] = structure_matcher().fit(filled, known)
    return matches
