"""Instance generators: the crystal of an episode, its kept sites, its site order and its target."""

import functools
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from crystal_gym.collections import (
    COLLECTIONS,
    canonical_origin,
    canonical_split_by,
    is_split_file,
    load_collection,
)
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.envs.targets import TargetDraw, TargetLike
from crystal_gym.episode import EpisodeTable, Instance
from crystal_gym.episode.kept_sites import KeptSites, kept_first, scale
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.utils.identity import require_same_crystals

if TYPE_CHECKING:
    from crystal_gym.collections.registry import CollectionLike

TRAVERSALS = ("breadth-first", "index", "random")
RESET_OPTIONS = ("crystal", "start_site", "keep", "target")


class InstanceKeywords(TypedDict, total=False):
    """Keyword arguments of ``InstanceGenerator``, which both environments accept."""

    collection: "CollectionLike"
    split: str
    split_by: str | PathLike[str]
    vocabulary: Vocabulary | Sequence[str] | None
    traversal: str
    start_site: int | None
    max_sites: int | None
    start: str
    keep: float | Sequence[int] | None
    target: TargetLike
    target_from: str
    on_error: str
    collection_sha256: str | None


class InstanceGenerator:
    """A generator that draws a crystal and an order of its sites for each episode.

    Args:
        collection: A ``CrystalCollection`` or an argument of ``crystal_gym.load_collection``: a
            name, the path of a file or folder, a structure, or a list of paths and structures.
        split: ``train``, ``val``, ``test`` or ``all``: the split from which crystals are drawn.
        split_by: ``origin``, ``composition``, ``prototype``, ``random:SEED`` or the path of a split
            file, see ``crystal_gym.load_collection``.
        vocabulary: Elements of the action space, in this order (default: all elements of the
            collection).
        traversal: Order in which sites are filled, beginning with the start site:
            ``breadth-first`` along the neighbor edges, ``index`` (ascending site numbers) or
            ``random``.
        start_site: First site of every episode (default: drawn).
        max_sites: N, the number of sites in an observation (default: the number in the largest
            cell of the collection).
        start: ``empty``: all sites are empty; ``partial``: the kept sites have their true elements
            from the start.
        keep: The kept sites of a partial start. A number from 0 to 1, the fraction of the n sites
            that are kept: round(fraction n) of them, at most n - 1, are drawn for each episode
            (default: 0.5). Or site numbers, which are kept in every episode.
        target: Labels of the collection that observations contain as ``target``: their names, whose
            values are drawn, or a mapping to fixed values (default: none).
        target_from: Origin of drawn targets. ``own``: the labels of the crystal itself; ``split``:
            the labels of another crystal, drawn from the split. Only crystals whose labels are
            known are drawn.
        on_error: ``raise`` or ``skip``, see ``crystal_gym.load_collection``.
        collection_sha256: Expected ``CrystalCollection.fingerprint()`` of the collection, as in the
            environment of a dataset (default: any).

    Attributes:
        table: The crystals, as arrays of the observation's types.
        rows: Rows of the table that are drawn, int64, ascending: those in the split, and if their
            own labels are targets, those whose labels are known.

    Raises:
        CollectionMismatchError: If the collection has another fingerprint than the expected one.
        CrystalGymError: If an argument is invalid.
    """

    def __init__(
        self,
        collection: "CollectionLike" = "goldschmidt",
        *,
        split: str = "train",
        split_by: str | PathLike[str] = "origin",
        vocabulary: Vocabulary | Sequence[str] | None = None,
        traversal: str = "breadth-first",
        start_site: int | None = None,
        max_sites: int | None = None,
        start: str = "empty",
        keep: float | Sequence[int] | None = None,
        target: TargetLike = None,
        target_from: str = "own",
        on_error: str = "raise",
        collection_sha256: str | None = None,
    ) -> None:
        if traversal not in TRAVERSALS:
            raise UnknownNameError("traversal", traversal, TRAVERSALS)
        if max_sites is not None and not isinstance(max_sites, int | np.integer):
            raise CrystalGymError(f"Expected max_sites to be an integer, got {max_sites!r}.")
        self._target_draw = TargetDraw(target, target_from)
        self.table = _make_table(
            collection,
            split_by,
            on_error,
            vocabulary=_as_vocabulary(vocabulary),
            max_sites=max_sites,
            target=self._target_draw.names,
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
        self._target_rows = self._target_draw.select_rows(self.table, self.rows)
        if target_from == "own":
            self.rows = self._target_rows
        self._kept_sites = KeptSites(start, keep)
        n_sites = self.table.max_sites
        self._n_keys = (
            n_sites if traversal == "random" else 0,
            n_sites if self._kept_sites.drawn else 0,
        )
        if start_site is not None:
            if not isinstance(start_site, int | np.integer):
                raise CrystalGymError(
                    f"Expected start_site to be a site number, got {start_site!r}."
                )
            self._check_start_sites(np.asarray(start_site), self.rows)
        self._kept_sites.check(self.table, self.rows, start_site)

    def draw(
        self, rng: np.random.Generator, size: int | None = None, options: Mapping | None = None
    ) -> Instance:
        """Draw the crystal, the order of its sites, the kept sites and the target.

        A batch of B consumes the same random numbers as B single draws in sequence. The options do
        not change how many random numbers are consumed.

        Args:
            rng: Random number generator.
            size: B, or ``None`` for a single episode.
            options: Fixed values in place of drawn ones: ``crystal`` (an id as str or a row as int,
                of any split), ``start_site``, ``keep`` (site numbers, the same for all episodes)
                and ``target`` (T values, or a mapping from their names). For a batch, give one
                value of ``crystal`` and ``start_site`` or B values, and T or (B, T) target values.

        Returns:
            The instance or the B instances.

        Raises:
            CrystalGymError: If an option is invalid, or a crystal or a site does not exist.
        """
        # Random numbers for the crystal, the start site and the target of another crystal, for each
        # site of a random order, and for each site of a random choice of the kept sites.
        n_order, n_keep = self._n_keys
        n_target = int(self._target_draw.drawn_from_split)
        width = 2 + n_target + n_order + n_keep
        columns: Any
        if size is None and width == 2:
            # Equal to an array of two, and faster.
            columns = uniform = rng.random(), rng.random()
        else:
            uniform = rng.random(width if size is None else (size, width))
            columns = uniform if size is None else uniform.T
        crystal = self.rows[scale(columns[0], len(self.rows))]
        start_site = None
        if self.start_site is not None:
            start_site = np.broadcast_to(self.start_site, crystal.shape)
        kept_sites = self._kept_sites
        options = options or {}
        if options:
            crystal, start_site = self._apply_options(crystal, start_site, options)
            if options.get("keep") is not None:
                kept_sites = KeptSites("partial", options["keep"])
            kept_sites.check(self.table, np.atleast_1d(crystal), start_site)
        if start_site is None and not kept_sites.any:
            start_site = scale(columns[1], self.table.n_sites[crystal])
        elif start_site is None:
            start_site = kept_sites.draw_start_site(self.table, crystal, columns[1])
        first = 2 + n_target
        keys = np.asarray(uniform)[..., first : first + n_order] if n_order else None
        order = self._order_sites(crystal, start_site, keys)
        n_kept = None
        if kept_sites.any:
            keys = np.asarray(uniform)[..., first + n_order :]
            kept = kept_sites.draw(self.table, crystal, start_site, keys)
            order, n_kept = kept_first(order, kept)
        target = None
        if self._target_draw.names or "target" in options:
            target = self._target_draw.draw(
                self.table, self._target_rows, crystal, columns[1 + n_target], options.get("target")
            )
        return Instance(crystal, order, n_kept, target)

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
    split_by: str | PathLike[str],
    on_error: str,
    *,
    vocabulary: Vocabulary | None,
    max_sites: int | None,
    target: tuple[str, ...],
) -> EpisodeTable:
    split_by = canonical_split_by(split_by)
    # A split file can change while the process runs.
    if isinstance(collection, str) and collection in COLLECTIONS and not is_split_file(split_by):
        return _cached_table(collection, split_by, vocabulary, max_sites, target)
    crystals = load_collection(collection, split_by=split_by, on_error=on_error)
    return EpisodeTable(crystals, vocabulary, max_sites, target)


# All environments of a process share the arrays of a named collection.
@functools.lru_cache(maxsize=4)
def _cached_table(
    name: str,
    split_by: str,
    vocabulary: Vocabulary | None,
    max_sites: int | None,
    target: tuple[str, ...],
) -> EpisodeTable:
    return EpisodeTable(load_collection(name, split_by=split_by), vocabulary, max_sites, target)
