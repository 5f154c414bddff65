"""The elements that a structure keeps when the other sites are filled."""

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS, Vocabulary, atomic_number
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from pymatgen.core import Structure


def read_kept_codes(
    structure: "Structure | None",
    n_sites: int,
    vocabulary: Vocabulary,
    keep: Iterable[int],
    keep_elements: Iterable[str | int],
) -> np.ndarray:
    """Return the codes of the kept sites of a structure, int32 (n,), 0 for the sites to fill.

    Args:
        structure: The structure with n sites; ``None`` if the elements are unknown.
        n_sites: n.
        vocabulary: The elements of the action space.
        keep: Sites to keep.
        keep_elements: Elements to keep on all their sites.

    Raises:
        CrystalGymError: If a site or an element is not in the structure, a kept site has no element
            of the vocabulary, or no other site remains.
    """
    if isinstance(keep_elements, str):
        keep_elements = [keep_elements]
    sites = _check_sites(keep, n_sites)
    numbers = [atomic_number(element) for element in keep_elements]
    codes = np.zeros(n_sites, np.int32)
    if not sites and not numbers:
        return codes
    if structure is None:
        raise CrystalGymError(
            "Expected a structure with elements to keep, got a skeleton, whose elements are "
            "unknown. Pass the structure itself."
        )
    symbols = [getattr(site.specie, "symbol", str(site.specie)) for site in structure]
    for number in numbers:
        found = [site for site, symbol in enumerate(symbols) if symbol == SYMBOLS[number - 1]]
        if not found:
            raise CrystalGymError(
                f"Expected keep_elements to be elements of the structure, got "
                f"{SYMBOLS[number - 1]}. Its elements are {', '.join(dict.fromkeys(symbols))}."
            )
        sites |= set(found)
    for site in sorted(sites):
        if symbols[site] not in vocabulary.symbols:
            raise CrystalGymError(
                "Expected kept sites with elements of the policy's vocabulary "
                f"({' '.join(vocabulary.symbols)}), got {symbols[site]} on site {site}. Keep other "
                "sites or use another policy."
            )
        codes[site] = vocabulary.symbols.index(symbols[site]) + 1
    if len(sites) == n_sites:
        raise CrystalGymError(
            f"Expected at least one site to fill, got {n_sites} kept sites of {n_sites}. Keep "
            "fewer sites."
        )
    return codes


def _check_sites(keep: Iterable[int], n_sites: int) -> set[int]:
    try:
        sites = {operator.index(site) for site in keep}
    except TypeError:
        sites = {-1}
    if any(not 0 <= site < n_sites for site in sites):
        raise CrystalGymError(
            f"Expected keep to be a list of sites from 0 to {n_sites - 1}, got {keep!r}."
        )
    return sites
