"""Search for a crystal among those of a collection, by composition and structure."""

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.collections.collection import CrystalCollection

if TYPE_CHECKING:
    from pymatgen.core import Structure


class KnownCrystals:
    """The crystals of a split, in which a structure is searched.

    Example::

        known = KnownCrystals(load_collection("mp-20"))
        known.matches(structure)  # ids of the same crystal in train

    Args:
        collection: The crystals.
        split: ``train``, ``val``, ``test`` or ``all``.
    """

    def __init__(self, collection: CrystalCollection, split: str = "train") -> None:
        self.collection = collection
        self._rows: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
        for row in collection.in_split(split).tolist():
            self._rows[reduced_composition(collection.atomic_numbers[row])].append(row)

    def has_composition(self, structure: "Structure") -> bool:
        """Return whether a crystal of the split has the reduced composition of a structure."""
        return self._key(structure) in self._rows

    def matches(self, structure: "Structure") -> list[str]:
        """Return the ids of the crystals that are the same as a structure.

        Two crystals are the same if pymatgen's ``StructureMatcher`` with its default tolerances
        matches them. It compares primitive cells, scaled to the same volume.
        """
        from pymatgen.analysis.structure_matcher import StructureMatcher

        matcher = StructureMatcher()
        rows = self._rows.get(self._key(structure), [])
        return [
            str(self.collection.ids[row])
            for row in rows
            if matcher.fit(structure, self.collection.structure(row))
        ]

    @staticmethod
    def _key(structure: "Structure") -> tuple[tuple[int, int], ...]:
        return reduced_composition(np.array(structure.atomic_numbers))


def reduced_composition(atomic_numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return the atomic numbers of a crystal with their amounts, divided by a common factor.

    Args:
        atomic_numbers: Atomic numbers, int (n,); 0 is padding.
    """
    numbers, counts = np.unique(atomic_numbers[atomic_numbers > 0], return_counts=True)
    counts = counts // np.gcd.reduce(counts)
    return tuple(zip(numbers.tolist(), counts.tolist(), strict=True))
