"""Instance generators: the crystal of an episode and the order in which its sites are filled."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from crystal_gym.collections import COLLECTIONS, canonical_origin, load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.utils.identity import require_same_crystals

if TYPE_CHECKING:
    from crystal_gym.collections.registry import CollectionLike

TRAVERSALS = ("breadth-first", "index", "random")
RESET_OPTIONS = ("crystal", "start_site")


class InstanceKeywords(TypedDict, total=False):
    """Keyword arguments of ``InstanceGenerator``, which both environments accept."""

    collection: "CollectionLike"
    split: str
    split_by: str
    vocabulary: Vocabulary | Sequence[str] | None
    traversal: str
    start_site: int | None
    max_sites: int | None
    on_error: str
    collection_sha256: str | None


class InstanceGenerator:
    """A generator that draws a crystal and an order of its sites for each episode.

    Args:
        collection: A ``CrystalCollection`` or an argument of ``crystal_gym.load_collection``: a
            name, the path of a file or folder, a structure, or a list of paths and structures.
        split: ``train``, ``val``, ``test`` or ``all``: the split from which crystals are drawn.
        split_by: ``origin`` or ``composition``, see ``crystal_gym.load_collection``.
        vocabulary: Elements of the action space, in this order (default: all elements of the
            collection).
        traversal: Order in which sites are filled, beginning with the start site:
            ``breadth-first`` along the neighbor edges, ``index`` (ascending site numbers) or
            ``random``.
        start_site: First site of every episode (default: drawn).
        max_sites: N, the number of sites in an observation (default: the number in the largest
            cell of the collection).
        on_error: ``raise`` or ``skip``, see ``crystal_gym.load_collection``.
        collection_sha256: Expected ``CrystalCollection.fingerprint()`` of the collection, as in the
            environment of a dataset (default: any).

    Attributes:
        table: The crystals, as arrays of the observation's types.
        rows: Rows of the table that are in the split, int64, ascending.

    Raises:
        CollectionMismatchError: If the collection has another fingerprint than the expected one.
        CrystalGymError: If an argument is invalid.
    """

    def __init__(
        self,
        collection: "CollectionLike" = "goldschmidt",
        *,
        split: str = "train",
        split_by: str = "origin",
        vocabulary: Vocabulary | Sequence[str] | None = None,
        traversal: str = "breadth-first",
        start_site: int | None = None,
        max_sites: int | None = None,
        on_error: str = "raise",
        collection_sha256: str | None = None,
    ) -> None:
        if traversal not in TRAVERSALS:
            raise UnknownNameError("traversal", traversal, TRAVERSALS)
        if max_sites is not None and not isinstance(max_sites, int | np.integer):
            raise CrystalGymError(f"Expected max_sites to be an integer, got {max_sites!r}.")
        self.table = _make_table(
            collection, split_by, on_error, _as_vocabulary(vocabulary), max_sites
        )
        if collection_sha256 is not None:
            _require_fingerprint(self.table.collection, collection, collection_sha256)
        self.rows = self.table.collection.in_split(split)
        self.split = split
        self.traversal = traversal
        self.start_site = start_site
        if not self.rows.size:
            raise CrystalGymError(
                f"Split {split!r} of {self.table.collection.name!r} is empty. "
                "Choose another split, or 'all'."
            )
        if start_site is not None:
            if not isinstance(start_site, int | np.integer):
                raise CrystalGymError(
                    f"Expected start_site to be a site number, got {start_site!r}."
                )
            self._check_start_sites(np.asarray(start_site), self.rows)

    def draw(
        self, rng: np.random.Generator, size: int | None = None, options: Mapping | None = None
    ) -> tuple[Any, np.ndarray]:
        """Draw the crystal and the order of its sites, for one episode or for a batch.

        A batch of B consumes the same random numbers as B single draws in sequence. The options do
        not change how many random numbers are consumed.

        Args:
            rng: Random number generator.
            size: B, or ``None`` for a single episode.
            options: Fixed values in place of drawn ones: ``crystal`` (an id as str or a row as int,
                of any split) and ``start_site``. For a batch, give one value or B values.

        Returns:
            Rows of the table, an int or int64 (B,), and sites in the order of filling, int64 (N,)
            or (B, N), padded with -1. The first site is the start site.

        Raises:
            CrystalGymError: If an option is invalid, or a crystal or a site does not exist.
        """
        # One number for the crystal, one for the start site, and one for each site of a random
        # order.
        n_keys = self.table.max_sites if self.traversal == "random" else 0
        if size is None:
            first, second = rng.random(), rng.random()
            keys = rng.random(n_keys) if n_keys else None
        else:
            uniform = rng.random((size, 2 + n_keys))
            first, second = uniform[:, 0], uniform[:, 1]
            keys = uniform[:, 2:] if n_keys else None
        crystal = self.rows[_scale(first, len(self.rows))]
        start_site = (
            None if self.start_site is None else np.broadcast_to(self.start_site, crystal.shape)
        )
        if options:
            crystal, start_site = self._apply_options(crystal, start_site, options)
        if start_site is None:
            start_site = _scale(second, self.table.n_sites[crystal])
        return crystal, self._order_sites(crystal, start_site, keys)

    def _order_sites(self, crystal: Any, start_site: Any, keys: np.ndarray | None) -> np.ndarray:
        if self.traversal == "breadth-first":
            return self.table.breadth_first(crystal, start_site)
        sites = np.arange(self.table.max_sites)
        padding = sites >= np.asarray(self.table.n_sites[crystal])[..., None]
        keys = np.where(padding, np.inf, sites if keys is None else keys)
        # All keys are at least 0, so -1 moves the start site to the front.
        keys = np.where(sites == np.asarray(start_site)[..., None], -1, keys)
        order = np.argsort(keys, axis=-1)
        return np.where(padding, -1, order)

    def _apply_options(
        self, crystal: np.ndarray, start_site: np.ndarray | None, options: Mapping
    ) -> tuple[np.ndarray, np.ndarray | None]:
        for name in options:
            if name not in RESET_OPTIONS:
                raise UnknownNameError("reset option", name, RESET_OPTIONS)
        shape = crystal.shape
        chosen = options.get("crystal")
        if chosen is not None:
            if isinstance(chosen, list | tuple | np.ndarray):
                rows = np.array([self._row(value) for value in chosen])
            else:
                rows = np.asarray(self._row(chosen))
            crystal = self._broadcast("crystal", rows, shape)
        if options.get("start_site") is not None:
            sites = np.asarray(options["start_site"])
            if sites.dtype.kind not in "iu":
                raise CrystalGymError(
                    f"Expected reset option 'start_site' to be a site number, "
                    f"got {sites.tolist()!r}."
                )
            start_site = self._broadcast("start_site", sites, shape)
        if start_site is not None:
            self._check_start_sites(start_site, crystal)
        return crystal, start_site

    def _row(self, crystal: object) -> int:
        if not isinstance(crystal, str | int | np.integer) or isinstance(crystal, bool):
            raise CrystalGymError(
                f"Expected a crystal as an id (str) or a row (int), got {crystal!r}."
            )
        return self.table.collection.index(crystal)  # type: ignore[arg-type] - checked above

    def _broadcast(self, name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if values.shape not in {(), shape}:
            expected = f"one value or {shape[0]} values" if shape else "one value"
            raise CrystalGymError(
                f"Expected {expected} of reset option {name!r}, got shape {values.shape}."
            )
        # `[()]` turns an array without axes into a scalar, as drawn values are.
        return np.broadcast_to(values, shape)[()]

    def _check_start_sites(self, start_site: np.ndarray, crystal: np.ndarray) -> None:
        n_sites = self.table.n_sites[crystal]
        invalid = (start_site < 0) | (start_site >= n_sites)
        if invalid.any():
            first = int(np.argmax(invalid))
            row = np.ravel(crystal)[first]
            site = np.ravel(np.broadcast_to(start_site, np.shape(crystal)))[first]
            raise CrystalGymError(
                f"Expected start_site from 0 to {self.table.n_sites[row] - 1} for crystal "
                f"{str(self.table.collection.ids[row])!r}, got {site}."
            )


def _scale(uniform: Any, count: Any) -> Any:
    """Map numbers in [0, 1) to integers from 0 to ``count`` - 1."""
    if isinstance(uniform, np.ndarray):
        return (uniform * count).astype(np.int64)
    return int(uniform * int(count))


def _as_vocabulary(vocabulary: Vocabulary | Sequence[str] | None) -> Vocabulary | None:
    if vocabulary is None or isinstance(vocabulary, Vocabulary):
        return vocabulary
    if isinstance(vocabulary, str):
        raise CrystalGymError(
            f"Expected vocabulary to be a list of element symbols, such as ['O', 'Ti'], "
            f"got {vocabulary!r}."
        )
    return Vocabulary(tuple(vocabulary))


def _require_fingerprint(crystals: CrystalCollection, origin: Any, expected: str) -> None:
    """Raise an error if a collection differs from the one that a dataset recorded."""
    place = canonical_origin(origin) if isinstance(origin, str | Path) else repr(crystals.name)
    require_same_crystals(
        "the environment",
        (place, expected),
        (place, crystals.fingerprint()),
        "The crystals or their splits have changed since the environment was recorded. Restore "
        "the original files, or build the dataset again.",
    )


def _make_table(
    collection: Any,
    split_by: str,
    on_error: str,
    vocabulary: Vocabulary | None,
    max_sites: int | None,
) -> EpisodeTable:
    if isinstance(collection, str) and collection in COLLECTIONS:
        return _cached_table(collection, split_by, vocabulary, max_sites)
    crystals = load_collection(collection, split_by=split_by, on_error=on_error)
    return EpisodeTable(crystals, vocabulary, max_sites)


# All environments of a process share the arrays of a named collection.
@functools.lru_cache(maxsize=4)
def _cached_table(
    name: str, split_by: str, vocabulary: Vocabulary | None, max_sites: int | None
) -> EpisodeTable:
    return EpisodeTable(load_collection(name, split_by=split_by), vocabulary, max_sites)
