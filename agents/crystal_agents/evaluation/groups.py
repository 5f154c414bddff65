"""Metrics by group of sites or crystals: element, class of the element, size, crystal system."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.crystals.prototype import space_group_number
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.errors import UnknownNameError

# Number of the first space group of each crystal system.
_SYSTEMS = {
    1: "triclinic",
    3: "monoclinic",
    16: "orthorhombic",
    75: "tetragonal",
    143: "trigonal",
    168: "hexagonal",
    195: "cubic",
}


@dataclass(frozen=True)
class GroupMetrics:
    """Metrics of the sites of one group.

    Attributes:
        n_sites: Number of sites.
        n_crystals: Number of crystals with such sites.
        metrics: Means over the sites by name; intervals are over the crystals.
    """

    n_sites: int
    n_crystals: int
    metrics: dict[str, MeanWithCI]


def group_labels(collection: CrystalCollection, crystals: np.ndarray, name: str) -> np.ndarray:
    """Return the group of each site.

    Args:
        collection: The crystals.
        crystals: Rows of the collection, (S,).
        name: A key of ``GROUPINGS``.

    Returns:
        Labels, str (S, N), empty on padding.

    Raises:
        UnknownNameError: If there is no such grouping.
    """
    if name not in GROUPINGS:
        raise UnknownNameError("grouping", name, GROUPINGS)
    labels = np.full((len(crystals), collection.max_sites), "", object)
    for site_labels, row in zip(labels, crystals.tolist(), strict=True):
        n = int(collection.n_sites[row])
        site_labels[:n] = GROUPINGS[name](collection, row)
    return labels.astype(np.str_)


def metrics_by_group(
    values: Mapping[str, np.ndarray], labels: np.ndarray
) -> dict[str, GroupMetrics]:
    """Average values of sites over each group.

    Args:
        values: Values of the sites by metric, float (S, N), NaN on padding and kept sites.
        labels: Groups, str (S, N), empty on padding.

    Returns:
        The metrics by label, in natural order.
    """
    first = next(iter(values.values()))
    found = np.unique(labels[(labels != "") & ~np.isnan(first)]).tolist()
    groups = {}
    for label in sorted(found, key=lambda text: (len(text), text) if text.isdigit() else (0, text)):
        selected = (labels == label) & ~np.isnan(first)
        count = selected.sum(1)
        rows = count > 0
        groups[label] = GroupMetrics(
            int(count.sum()),
            int(rows.sum()),
            {
                name: MeanWithCI.of_ratio(
                    np.where(selected, value, 0.0).sum(1)[rows], count[rows].astype(np.float64)
                )
                for name, value in values.items()
            },
        )
    return groups


def _symbols(collection: CrystalCollection, row: int) -> list[str]:
    numbers = collection.atomic_numbers[row, : collection.n_sites[row]]
    return [SYMBOLS[number - 1] for number in numbers.tolist()]


def _n_sites(collection: CrystalCollection, row: int) -> str:
    return str(int(collection.n_sites[row]))


def _crystal_system(collection: CrystalCollection, row: int) -> str:
    n = int(collection.n_sites[row])
    number = space_group_number(
        lattice_matrix(collection.parameters[row]),
        collection.frac_coords[row, :n],
        collection.atomic_numbers[row, :n],
    )
    systems = [system for first, system in _SYSTEMS.items() if first <= number]
    return systems[-1] if systems else "undetermined"


def _classes(collection: CrystalCollection, row: int) -> Sequence[str]:
    classes = element_classes(collection.formula(row))
    return [classes[symbol] for symbol in _symbols(collection, row)]


@lru_cache(maxsize=100_000)
def element_classes(formula: str) -> dict[str, str]:
    """Return whether each element of a composition is an anion, a cation or a metal.

    In a composition of metals alone, all elements are metals. Otherwise, the signs are those of
    pymatgen's most probable charge-neutral oxidation states
    (``Composition.oxi_state_guesses``). Elements without a sign, and compositions without such
    states, are ``undetermined``.

    Args:
        formula: The formula, such as ``SrTiO3``.
    """
    from pymatgen.core import Composition

    composition = Composition(formula)
    elements = composition.elements
    if all(element.is_metal for element in elements):
        return {element.symbol: "metal" for element in elements}
    # Noble gases have neither oxidation states nor an electronegativity.
    has_states = all(element.symbol not in ("He", "Ne", "Ar") for element in elements)
    guesses = composition.oxi_state_guesses(max_sites=-1) if has_states else ()
    states = guesses[0] if guesses else {}

    def class_of(symbol: str) -> str:
        state = states.get(symbol, 0)
        return "anion" if state < 0 else "cation" if state > 0 else "undetermined"

    return {element.symbol: class_of(element.symbol) for element in elements}


# The group or groups of the sites of one crystal, by name.
GROUPINGS: dict[str, Callable[[CrystalCollection, int], str | Sequence[str]]] = {
    "element": _symbols,
    "class": _classes,
    "n_sites": _n_sites,
    "crystal_system": _crystal_system,
}
