"""Crystal collections: named sets of crystals with splits, held as padded arrays."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS, Vocabulary
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import UnknownCrystalError, UnknownNameError

if TYPE_CHECKING:
    from pymatgen.core import Structure

SPLITS = ("train", "val", "test")


class CollectionArrays(TypedDict):
    """The arrays of a ``CrystalCollection``, which tells their shapes; labels stand apart."""

    ids: np.ndarray
    splits: np.ndarray
    n_sites: np.ndarray
    atomic_numbers: np.ndarray
    parameters: np.ndarray
    frac_coords: np.ndarray
    edges: np.ndarray
    traversals: np.ndarray


ARRAYS: tuple[str, ...] = tuple(CollectionArrays.__annotations__)


@dataclass(frozen=True, eq=False)
class CrystalCollection:
    """C crystals of at most N sites and E edges, as one struct of arrays.

    Load one by name with ``crystal_gym.load_collection``, or make one from structures with
    ``crystal_gym.collection_from_structures``.

    Attributes:
        name: ``perov-5``, ``goldschmidt``, a file's name, …
        ids: the source's identifiers, str (C,).
        splits: ``train``, ``val`` or ``test`` of each crystal, str (C,).
        n_sites: int32 (C,).
        atomic_numbers: the true elements, int16 (C, N), padded with 0.
        parameters: lattice lengths in Å and angles in degrees, float64 (C, 6).
        frac_coords: fractional coordinates, float64 (C, N, 3), padded with 0.
        edges: ``(source, target, i, j, k)``, int16 (C, E, 5), padded with -1.
        traversals: breadth-first orders, int16 (C, N, N), padded with -1; ``traversals[c, s]``
            starts at site s.
        labels: per-crystal properties by name, float64 (C,), NaN where unknown.
        description: a sentence on what these crystals are and where they come from.
    """

    name: str
    ids: np.ndarray
    splits: np.ndarray
    n_sites: np.ndarray
    atomic_numbers: np.ndarray
    parameters: np.ndarray
    frac_coords: np.ndarray
    edges: np.ndarray
    traversals: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    description: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {len(self.in_split(split)):,}" for split in SPLITS)
        return f"CrystalCollection({self.name!r}, {len(self):,} crystals: {counts})"

    @property
    def max_sites(self) -> int:
        """N, the sites of the largest cell."""
        return self.atomic_numbers.shape[1]

    @property
    def max_edges(self) -> int:
        """E, the edges of the cell with most."""
        return self.edges.shape[1]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The elements that occur in any split, ordered by atomic number."""
        present = np.unique(self.atomic_numbers)
        return Vocabulary.from_elements(present[present > 0].tolist())

    @cached_property
    def _index_of_id(self) -> dict[str, int]:
        return {str(crystal): index for index, crystal in enumerate(self.ids)}

    def index(self, crystal: str | int) -> int:
        """Row of a crystal given by its id (str) or by its row (int).

        Raises:
            CrystalGymError: there is no such crystal.
        """
        if isinstance(crystal, str):
            if crystal not in self._index_of_id:
                raise UnknownCrystalError(crystal, self.name, self.ids)
            return self._index_of_id[crystal]
        if not 0 <= crystal < len(self):
            raise UnknownCrystalError(crystal, self.name, self.ids)
        return int(crystal)

    def in_split(self, split: str) -> np.ndarray:
        """Rows of a split (or of ``all``), int64, ascending.

        Raises:
            UnknownNameError: no such split.
        """
        if split == "all":
            return np.arange(len(self))
        if split not in SPLITS:
            raise UnknownNameError("split", split, (*SPLITS, "all"))
        return np.flatnonzero(self.splits == split)

    def codes(self, vocabulary: Vocabulary | None = None) -> np.ndarray:
        """The true elements in a vocabulary's codes, int32 (C, N): 1 to V, padded with -1.

        Raises:
            CrystalGymError: a crystal holds an element that the vocabulary lacks.
        """
        codes = (vocabulary or self.vocabulary).encode(self.atomic_numbers)
        codes[np.arange(self.max_sites) >= self.n_sites[:, None]] = -1
        return codes

    def skeleton(self, crystal: str | int) -> Skeleton:
        """The skeleton of one crystal."""
        row = self.index(crystal)
        n = self.n_sites[row]
        edges = self.edges[row]
        return Skeleton(
            self.parameters[row].copy(), self.frac_coords[row, :n].copy(), edges[edges[:, 0] >= 0]
        )

    def structure(self, crystal: str | int) -> "Structure":
        """The true crystal as a pymatgen ``Structure``, in the skeleton's site order."""
        row = self.index(crystal)
        return self.skeleton(row).fill(self.atomic_numbers[row, : self.n_sites[row]])

    def formula(self, crystal: str | int) -> str:
        """Elements in site order with their counts, like ``SrTiO3``."""
        row = self.index(crystal)
        return formula(self.atomic_numbers[row])

    def fingerprint(self) -> str:
        """SHA-256 of the crystals, their order and their splits: what a data set is made from."""
        digest = hashlib.sha256()
        for key in ARRAYS:
            digest.update(np.ascontiguousarray(getattr(self, key)).tobytes())
        return digest.hexdigest()

    def labels_fingerprint(self, names: Sequence[str]) -> str | None:
        """SHA-256 of labels: what rewards that look them up are made from; ``None`` of none."""
        if not names:
            return None
        digest = hashlib.sha256()
        for name in sorted(names):
            values = np.ascontiguousarray(self.labels.get(name, np.zeros(0)), np.float64)
            digest.update(f"{name} {len(values)} ".encode() + values.tobytes())
        return digest.hexdigest()

    def take(self, rows: Sequence[int] | np.ndarray) -> "CrystalCollection":
        """A smaller collection of these rows; array sizes N and E stay."""
        rows = np.asarray(rows)
        changes = {name: getattr(self, name)[rows] for name in ARRAYS}
        labels = {name: values[rows] for name, values in self.labels.items()}
        return dataclasses.replace(self, **changes, labels=labels)

    def split_by_composition(self) -> "CrystalCollection":
        """The same crystals, split anew so that no composition stands in two splits.

        Compositions are ranked by a hash of their formula and dealt out until each split has the
        share of crystals that it has now; the outcome depends on nothing but the data.
        """
        keys = np.array([str(sorted(row[row > 0].tolist())) for row in self.atomic_numbers])
        distinct, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
        digests = [hashlib.sha256(key.encode()).hexdigest() for key in distinct]
        ranked = np.argsort(digests)
        filled = np.cumsum(counts[ranked]) - counts[ranked] / 2
        limits = np.cumsum([len(self.in_split(split)) for split in SPLITS])
        split_of_group = np.empty(len(distinct), self.splits.dtype)
        split_of_group[ranked] = np.array(SPLITS)[
            np.minimum(np.searchsorted(limits, filled), len(SPLITS) - 1)
        ]
        # Another name: data sets and policies of the two splits must not be mixed up.
        return dataclasses.replace(
            self,
            name=f"{self.name}-by-composition",
            splits=split_of_group[group],
            description=(
                f"{self.description} Split anew: all crystals of one composition share a split."
            ).strip(),
        )


def hash_splits(ids: Sequence[str], shares: Sequence[float] = (0.8, 0.1, 0.1)) -> list[str]:
    """A split for each id where the source has none: ranked by a hash of the id, then dealt out.

    Args:
        ids: C identifiers.
        shares: of train, val and test; they sum to 1.

    Returns:
        C names of splits, the same whatever the order of the ids.
    """
    rank = {
        crystal: position
        for position, crystal in enumerate(
            sorted(ids, key=lambda crystal: hashlib.sha256(crystal.encode()).digest())
        )
    }
    limits = np.round(np.cumsum(shares) * len(ids))
    return [SPLITS[np.searchsorted(limits, rank[crystal], side="right")] for crystal in ids]


def formula(atomic_numbers: np.ndarray) -> str:
    """Elements in order of first appearance with their counts; 0 is skipped. ``SrTiO3``."""
    counts: dict[str, int] = {}
    for number in np.asarray(atomic_numbers).tolist():
        if number > 0:
            symbol = SYMBOLS[number - 1]
            counts[symbol] = counts.get(symbol, 0) + 1
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts.items())
