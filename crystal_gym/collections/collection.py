"""Crystal collections: named sets of crystals with splits, stored as padded arrays."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from crystal_gym.crystals.breadth_first import SMALL_CELL, padded_orders
from crystal_gym.crystals.elements import SYMBOLS, Vocabulary
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError, UnknownCrystalError, UnknownNameError
from crystal_gym.utils import ragged

if TYPE_CHECKING:
    from pymatgen.core import Structure

SPLITS = ("train", "val", "test")
# Number of crystals whose padded edges are hashed together, which bounds the memory.
_HASHED_TOGETHER = 256


class CollectionArrays(TypedDict):
    """The arrays of a ``CrystalCollection``, without its labels."""

    ids: np.ndarray
    splits: np.ndarray
    n_sites: np.ndarray
    atomic_numbers: np.ndarray
    parameters: np.ndarray
    frac_coords: np.ndarray
    n_edges: np.ndarray
    flat_edges: np.ndarray


ARRAYS: tuple[str, ...] = tuple(CollectionArrays.__annotations__)


@dataclass(frozen=True, eq=False)
class CrystalCollection:
    """C crystals with at most N sites and E edges, as a struct of arrays.

    Load a collection with ``crystal_gym.load_collection``, or create one from structures with
    ``crystal_gym.collection_from_structures``.

    Attributes:
        name: A name such as ``perov-5`` or ``goldschmidt``, or the name of a file or folder.
        ids: Identifiers at the origin, str (C,).
        splits: ``train``, ``val`` or ``test``, str (C,).
        n_sites: Number of sites, int32 (C,).
        atomic_numbers: True elements, int16 (C, N), padded with 0.
        parameters: Lattice lengths in Å and angles in degrees, float64 (C, 6).
        frac_coords: Fractional coordinates, float64 (C, N, 3), padded with 0.
        n_edges: Number of edges, int32 (C,).
        flat_edges: The edges of all crystals, one after the other, ``(source, target, i, j, k)``,
            int16 (M, 5).
        labels: Properties of the crystals by name, float64 (C,), NaN if unknown.
        description: A sentence on the crystals and their origin.
        max_edges: E, the number of edges of the largest cell, also of a part of a collection.
        excluded: Place and reason of each crystal of the origin that was left out.
    """

    name: str
    ids: np.ndarray
    splits: np.ndarray
    n_sites: np.ndarray
    atomic_numbers: np.ndarray
    parameters: np.ndarray
    frac_coords: np.ndarray
    n_edges: np.ndarray
    flat_edges: np.ndarray
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    description: str = ""
    max_edges: int = 0
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        largest = max(self.max_edges, int(self.n_edges.max(initial=0)))
        object.__setattr__(self, "max_edges", largest)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {len(self.in_split(split)):,}" for split in SPLITS)
        return f"CrystalCollection({self.name!r}, {len(self):,} crystals: {counts})"

    @property
    def max_sites(self) -> int:
        """N, the number of sites of the largest cell."""
        return self.atomic_numbers.shape[1]

    @property
    def edges(self) -> np.ndarray:
        """A new array with the edges of all crystals, int16 (C, E, 5), padded with -1."""
        return ragged.pad(self.flat_edges, self.n_edges, self.max_edges, -1)

    @cached_property
    def _first_edge(self) -> np.ndarray:
        return ragged.starts(self.n_edges)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The elements of all splits, ordered by atomic number."""
        present = np.unique(self.atomic_numbers)
        return Vocabulary.from_elements(present[present > 0].tolist())

    @cached_property
    def _index_of_id(self) -> dict[str, int]:
        return {str(crystal): index for index, crystal in enumerate(self.ids)}

    def index(self, crystal: str | int) -> int:
        """Return the row of a crystal.

        Args:
            crystal: The id (str) or the row (int).

        Raises:
            UnknownCrystalError: If there is no such crystal.
        """
        if isinstance(crystal, str):
            if crystal not in self._index_of_id:
                raise UnknownCrystalError(crystal, self.name, self.ids)
            return self._index_of_id[crystal]
        if not 0 <= crystal < len(self):
            raise UnknownCrystalError(crystal, self.name, self.ids)
        return int(crystal)

    def in_split(self, split: str) -> np.ndarray:
        """Return the rows of a split, or of ``all`` crystals, int64 (S,), in ascending order.

        Raises:
            UnknownNameError: If there is no such split.
        """
        if split == "all":
            return np.arange(len(self))
        if split not in SPLITS:
            raise UnknownNameError("split", split, (*SPLITS, "all"))
        return np.flatnonzero(self.splits == split)

    def codes(self, vocabulary: Vocabulary | None = None) -> np.ndarray:
        """Return the codes of the true elements, int32 (C, N): 1 to V, padded with -1.

        Args:
            vocabulary: Vocabulary of the codes (default: that of the collection).

        Raises:
            CrystalGymError: If the vocabulary lacks an element of a crystal.
        """
        codes = (vocabulary or self.vocabulary).encode(self.atomic_numbers)
        codes[np.arange(self.max_sites) >= self.n_sites[:, None]] = -1
        return codes

    def skeleton(self, crystal: str | int) -> Skeleton:
        """Return the skeleton of a crystal, given by its id or row."""
        row = self.index(crystal)
        n = self.n_sites[row]
        first = self._first_edge[row]
        edges = self.flat_edges[first : first + self.n_edges[row]]
        return Skeleton(self.parameters[row].copy(), self.frac_coords[row, :n].copy(), edges.copy())

    def structure(self, crystal: str | int) -> "Structure":
        """Return a true crystal as a pymatgen ``Structure`` in the site order of the skeleton."""
        row = self.index(crystal)
        return self.skeleton(row).fill(self.atomic_numbers[row, : self.n_sites[row]])

    def formula(self, crystal: str | int) -> str:
        """Return the formula of a true crystal in site order, such as ``SrTiO3``."""
        row = self.index(crystal)
        return formula(self.atomic_numbers[row])

    def fingerprint(self) -> str:
        """Return the SHA-256 of the crystals, their order and their splits."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for key in ("ids", "splits", "n_sites", "atomic_numbers", "parameters", "frac_coords"):
            digest.update(np.ascontiguousarray(getattr(self, key)).tobytes())
        # Edges and breadth-first orders are hashed as padded arrays, because the fingerprints in
        # published results are such hashes.
        ends = np.cumsum(self.n_edges)
        for first in range(0, len(self), _HASHED_TOGETHER):
            counts = self.n_edges[first : first + _HASHED_TOGETHER]
            flat = self.flat_edges[ends[first] - counts[0] : ends[first + len(counts) - 1]]
            digest.update(ragged.pad(flat, counts, self.max_edges, -1).tobytes())
        # Larger cells have too many orders, which add no information.
        if self.max_sites <= SMALL_CELL:
            parts = self.flat_edges, self.n_edges, self.n_sites, self.max_sites
            for orders in padded_orders(*parts):
                digest.update(orders.tobytes())
        return digest.hexdigest()

    def labels_fingerprint(self, names: Sequence[str]) -> str | None:
        """Return the SHA-256 of the labels with these names, or ``None`` without names."""
        if not names:
            return None
        digest = hashlib.sha256()
        for name in sorted(names):
            values = np.ascontiguousarray(self.labels.get(name, np.zeros(0)), np.float64)
            digest.update(f"{name} {len(values)} ".encode() + values.tobytes())
        return digest.hexdigest()

    def take(self, rows: Sequence[int] | np.ndarray) -> "CrystalCollection":
        """Return the collection of these rows; the array sizes N and E do not change."""
        rows = np.asarray(rows)
        changes = {name: getattr(self, name)[rows] for name in ARRAYS if name != "flat_edges"}
        changes["flat_edges"] = ragged.take(self.flat_edges, self.n_edges, rows)
        labels = {name: values[rows] for name, values in self.labels.items()}
        return dataclasses.replace(self, **changes, labels=labels)

    def split_by_composition(self) -> "CrystalCollection":
        """Return the same crystals in new splits, so that each composition is in one split."""
        keys = np.array([str(sorted(row[row > 0].tolist())) for row in self.atomic_numbers])
        return self.split_by_group(
            keys, "composition", "all crystals with one composition are in the same split."
        )

    def split_by_group(self, keys: np.ndarray, kind: str, rule: str) -> "CrystalCollection":
        """Return the same crystals in new splits, so that each group of crystals is in one split.

        The groups are ranked by a hash and assigned in this order to train, val and test, until
        each split has about as many crystals as before. The splits depend only on the keys and the
        sizes of the splits.

        Args:
            keys: The group of each crystal, str (C,).
            kind: Name of the groups, which becomes a part of the name of the collection.
            rule: The rule of the splits, as a sentence without its first capital letter.
        """
        distinct, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
        digests = [hashlib.sha256(key.encode()).hexdigest() for key in distinct]
        ranked = np.argsort(digests)
        filled = np.cumsum(counts[ranked]) - counts[ranked] / 2
        limits = np.cumsum([len(self.in_split(split)) for split in SPLITS])
        split_of_group = np.empty(len(distinct), self.splits.dtype)
        split_of_group[ranked] = np.array(SPLITS)[
            np.minimum(np.searchsorted(limits, filled), len(SPLITS) - 1)
        ]
        return self.with_splits(split_of_group[group], kind, f"Split by {kind}: {rule}")

    def split_at_random(self, seed: int) -> "CrystalCollection":
        """Return the same crystals in random splits with as many crystals as before.

        The crystals are ranked by a hash of the seed and their id and assigned in this order to
        train, val and test. The splits depend only on the seed, the ids and the sizes of the
        splits: neither on the order of the crystals nor on the version of NumPy.

        Args:
            seed: The seed, at least 0.

        Raises:
            CrystalGymError: If the seed is below 0, or all crystals are in one split.
        """
        if seed < 0:
            raise CrystalGymError(f"Expected a seed of at least 0, got {seed}.")
        sizes = [len(self.in_split(split)) for split in SPLITS]
        if max(sizes) == len(self):
            raise CrystalGymError(
                f"Expected crystals in two or more splits of {self.name!r}, whose sizes random "
                "splits have, got all crystals in one. Assign splits with a split file."
            )
        digests = [hashlib.sha256(f"{seed} {crystal}".encode()).hexdigest() for crystal in self.ids]
        splits = np.empty(len(self), np.array(SPLITS).dtype)
        splits[np.argsort(digests)] = np.repeat(SPLITS, sizes)
        return self.with_splits(
            splits,
            f"random-{seed}",
            f"Random splits with seed {seed}, of the sizes of the origin's splits.",
        )

    def with_splits(self, splits: np.ndarray, kind: str, rule: str) -> "CrystalCollection":
        """Return the same crystals in given splits.

        Args:
            splits: ``train``, ``val`` or ``test`` for each crystal, str (C,).
            kind: Kind of the splits, which becomes a part of the name of the collection: datasets
                and policies of different splits have different names.
            rule: The rule of the splits, as a sentence.
        """
        return dataclasses.replace(
            self,
            name=f"{self.name}-by-{kind}",
            # Equal splits have equal bytes, and so one fingerprint, whatever their origin.
            splits=np.asarray(splits, np.array(SPLITS).dtype),
            description=f"{self.description} {rule}".strip(),
        )


def hash_splits(ids: Sequence[str], shares: Sequence[float] = (0.8, 0.1, 0.1)) -> list[str]:
    """Assign splits to ids, which are ranked by a hash.

    Args:
        ids: C identifiers.
        shares: Shares of train, val and test, which sum to 1.

    Returns:
        C names of splits; they do not depend on the order of the ids.
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
    """Return a formula with the elements in order of first appearance, such as ``SrTiO3``.

    Args:
        atomic_numbers: Atomic numbers, (n,); 0 is skipped.
    """
    counts: dict[str, int] = {}
    for number in np.asarray(atomic_numbers).tolist():
        if number > 0:
            symbol = SYMBOLS[number - 1]
            counts[symbol] = counts.get(symbol, 0) + 1
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts.items())
