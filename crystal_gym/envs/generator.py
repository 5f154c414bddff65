"""Which crystal is to be filled, and in which order: the start of an episode."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from crystal_gym.collections import COLLECTIONS, load_collection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from crystal_gym.collections.registry import CollectionLike

TRAVERSALS = ("breadth-first", "index", "random")


class InstanceKeywords(TypedDict, total=False):
    """The keywords of ``InstanceGenerator``, which the environments hand on to it."""

    collection: "CollectionLike"
    split: str
    split_by: str
    vocabulary: Vocabulary | Sequence[str] | None
    traversal: str
    start_site: int | None
    max_sites: int | None


class InstanceGenerator:
    """Draws the crystal and the order of its sites for each episode.

    Args:
        collection: a ``CrystalCollection``, or what ``crystal_gym.load_collection`` takes: a name,
            a path, a list of paths of CIF files, or a list of pymatgen structures.
        split: ``train``, ``val``, ``test`` or ``all``: where crystals are drawn from.
        split_by: ``source`` or ``composition``, see ``crystal_gym.load_collection``.
        vocabulary: the elements of the action space, in this order (default: all that occur in the
            collection).
        traversal: the order of filling, which always begins at the start site: ``breadth-first``
            along the neighbor edges; ``index``, the others as they are numbered; ``random``.
        source: the site that every episode begins at (default: drawn).
        max_sites: N, the sites that an observation has room for (default: those of the largest
            cell in the collection).

    Attributes:
        table: the crystals, in the arrays of observations.
        rows: rows of the table in the split, int64, ascending.

    Raises:
        CrystalGymError: bad input; the message says what.
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
    ) -> None:
        if traversal not in TRAVERSALS:
            raise UnknownNameError("traversal", traversal, TRAVERSALS)
        if max_sites is not None and not isinstance(max_sites, int | np.integer):
            raise CrystalGymError(f"max_sites is a number of sites, not {max_sites!r}.")
        self.table = _table(collection, split_by, _as_vocabulary(vocabulary), max_sites)
        self.rows = self.table.collection.in_split(split)
        self.split = split
        self.traversal = traversal
        self.start_site = start_site
        if not self.rows.size:
            raise CrystalGymError(
                f"Split {split!r} of {self.table.collection.name!r} is empty; "
                "choose another, or 'all'."
            )
        if start_site is not None:
            if not isinstance(start_site, int | np.integer):
                raise CrystalGymError(f"A source is the number of a site, not {start_site!r}.")
            self._check_sources(np.asarray(start_site), self.rows)

    def draw(
        self, rng: np.random.Generator, size: int | None = None, options: Mapping | None = None
    ) -> tuple[Any, np.ndarray]:
        """The crystal and the order of its sites, for one episode or a batch.

        A batch of B takes the same numbers from ``rng`` as B single episodes one after another, and
        given options take as many as drawn ones.

        Args:
            rng: source of randomness.
            size: B, or ``None`` for a single episode.
            options: ``crystal`` (id as str or row as int, from any split) and ``source`` (site) fix
                what would be drawn; for a batch each is one for all or B of them.

        Returns:
            Rows of the table, an int or int64 (B,), and sites in the order of filling, int64 (N,)
            or (B, N), padded with -1; the first is the source.

        Raises:
            CrystalGymError: an unknown option, crystal or site.
        """
        # Crystal, source and, for a random order, one number for each site that may be.
        n_keys = self.table.max_sites if self.traversal == "random" else 0
        if size is None:
            first, second = rng.random(), rng.random()
            keys = rng.random(n_keys) if n_keys else None
        else:
            uniform = rng.random((size, 2 + n_keys))
            first, second = uniform[:, 0], uniform[:, 1]
            keys = uniform[:, 2:] if n_keys else None
        crystal = self.rows[_scaled(first, len(self.rows))]
        start_site = (
            None if self.start_site is None else np.broadcast_to(self.start_site, crystal.shape)
        )
        if options:
            crystal, start_site = self._chosen(crystal, start_site, options)
        if start_site is None:
            start_site = _scaled(second, self.table.n_sites[crystal])
        return crystal, self._order(crystal, start_site, keys)

    def _order(self, crystal: Any, start_site: Any, keys: np.ndarray | None) -> np.ndarray:
        if self.traversal == "breadth-first":
            return self.table.traversals[crystal, start_site]
        sites = np.arange(self.table.max_sites)
        padding = sites >= np.asarray(self.table.n_sites[crystal])[..., None]
        keys = np.where(padding, np.inf, sites if keys is None else keys)
        # All keys are at least 0: the source goes to the front, padding to the back.
        keys = np.where(sites == np.asarray(start_site)[..., None], -1, keys)
        order = np.argsort(keys, axis=-1)
        return np.where(padding, -1, order)

    def _chosen(
        self, crystal: np.ndarray, start_site: np.ndarray | None, options: Mapping
    ) -> tuple[np.ndarray, np.ndarray | None]:
        for name in options:
            if name not in {"crystal", "start_site"}:
                raise UnknownNameError("reset option", name, ("crystal", "start_site"))
        shape = crystal.shape
        if options.get("crystal") is not None:
            asked = options["crystal"]
            one = not isinstance(asked, list | tuple | np.ndarray)
            rows = np.array([self._row(c) for c in ([asked] if one else asked)])
            crystal = self._spread("crystal", rows[0] if one else rows, shape)
        if options.get("start_site") is not None:
            asked = np.asarray(options["start_site"])
            if asked.dtype.kind not in "iu":
                raise CrystalGymError(f"A source is the number of a site, not {asked.tolist()!r}.")
            start_site = self._spread("start_site", asked, shape)
        if start_site is not None:
            self._check_sources(start_site, crystal)
        return crystal, start_site

    def _row(self, crystal: object) -> int:
        if not isinstance(crystal, str | int | np.integer) or isinstance(crystal, bool):
            raise CrystalGymError(f"A crystal is an id (str) or a row (int), not {crystal!r}.")
        return self.table.collection.index(crystal)  # type: ignore[arg-type] - checked above

    def _spread(self, name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        values = np.asarray(values)
        if values.shape not in {(), shape}:
            wanted = f"one, or {shape[0]}" if shape else "one"
            raise CrystalGymError(
                f"Reset option {name!r} takes {wanted}; got shape {values.shape}."
            )
        # `[()]` makes a scalar of an array without axes, as a draw does.
        return np.broadcast_to(values, shape)[()]

    def _check_sources(self, start_site: np.ndarray, crystal: np.ndarray) -> None:
        n_sites = self.table.n_sites[crystal]
        wrong = (start_site < 0) | (start_site >= n_sites)
        if wrong.any():
            first = int(np.argmax(wrong))
            row = np.ravel(crystal)[first]
            site = np.ravel(np.broadcast_to(start_site, np.shape(crystal)))[first]
            raise CrystalGymError(
                f"Start site {site} is none of the {self.table.n_sites[row]} sites of crystal "
                f"{str(self.table.collection.ids[row])!r}; they are numbered from 0."
            )


def _scaled(uniform: Any, count: Any) -> Any:
    """Numbers in [0, 1) to integers from 0 to ``count`` - 1; rounding never reaches ``count``."""
    if isinstance(uniform, np.ndarray):
        return (uniform * count).astype(np.int64)
    return int(uniform * int(count))


def _as_vocabulary(vocabulary: Vocabulary | Sequence[str] | None) -> Vocabulary | None:
    if vocabulary is None or isinstance(vocabulary, Vocabulary):
        return vocabulary
    if isinstance(vocabulary, str):
        raise CrystalGymError(
            f"A vocabulary is a list of element symbols, like ['O', 'Ti'], not {vocabulary!r}."
        )
    return Vocabulary(tuple(vocabulary))


def _table(
    collection: Any, split_by: str, vocabulary: Vocabulary | None, max_sites: int | None
) -> EpisodeTable:
    if isinstance(collection, str) and collection in COLLECTIONS:
        return _named_table(collection, split_by, vocabulary, max_sites)
    return EpisodeTable(load_collection(collection, split_by=split_by), vocabulary, max_sites)


# Several environments in one process share the arrays of a named collection.
@functools.lru_cache(maxsize=4)
def _named_table(
    name: str, split_by: str, vocabulary: Vocabulary | None, max_sites: int | None
) -> EpisodeTable:
    return EpisodeTable(load_collection(name, split_by=split_by), vocabulary, max_sites)
