"""The crystals on which episodes run, as arrays, and the space of observations."""

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from gymnasium import spaces

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.breadth_first import BreadthFirstOrders
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import BadCrystalError, CrystalGymError, UnknownNameError
from crystal_gym.utils import ragged

# Up to this size, an array of all padded edges is kept, from which batches are taken faster.
_EDGE_TABLE_BYTES = 2**25


class EpisodeTable:
    """The arrays of C crystals on which episodes run, in the data types of observations.

    N is the number of sites and E the number of edges that an observation has room for; V is the
    number of elements in the vocabulary. Use ``from_skeletons`` for skeletons whose elements are
    unknown.

    Args:
        collection: The crystals.
        vocabulary: The elements of the action space (default: those of the collection).
        max_sites: N, at least the number of sites of the largest cell (default: that number).
        target: Names of T labels of the collection, which observations contain as ``target``.

    Attributes:
        vocabulary: The elements of the action space.
        n_elements: V.
        n_sites: int64 (C,).
        blank: Codes of an unfilled crystal, int32 (C, N): 0 on sites, -1 on padding.
        frac_coords: Fractional coordinates, float32 (C, N, 3), padded with 0.
        lattice: Lengths in Å and angles in degrees, float32 (C, 6).
        max_edges: E.
        target_names: Names of the labels in ``targets``.
        targets: The labels of each crystal, float32 (C, T), NaN if unknown.

    Raises:
        BadCrystalError: If a cell has more than ``max_sites`` sites.
        UnknownNameError: If the collection has no label of this name.
        CrystalGymError: If the vocabulary lacks an element of a crystal.
    """

    def __init__(
        self,
        collection: CrystalCollection,
        vocabulary: Vocabulary | None = None,
        max_sites: int | None = None,
        target: Sequence[str] = (),
    ) -> None:
        vocabulary = vocabulary or collection.vocabulary
        extra = 0 if max_sites is None else max_sites - collection.max_sites
        if extra < 0:
            row = int(np.argmax(collection.n_sites))
            raise BadCrystalError(
                f"Expected at most {max_sites} sites per cell, got {collection.n_sites[row]} in "
                f"crystal {str(collection.ids[row])!r} of {collection.name!r}. Increase max_sites."
            )
        self._set(
            vocabulary,
            collection=collection,
            true_elements=_padded(collection.codes(vocabulary), (0, extra), -1),
            n_sites=collection.n_sites,
            frac_coords=_padded(collection.frac_coords, (0, extra, 0), 0),
            parameters=collection.parameters,
            flat_edges=collection.flat_edges,
            n_edges=collection.n_edges,
            max_edges=collection.max_edges,
        )
        self.target_names = tuple(target)
        self.targets = _label_columns(collection, self.target_names)

    @classmethod
    def from_skeletons(
        cls, skeletons: Sequence[Skeleton], vocabulary: Vocabulary
    ) -> "EpisodeTable":
        """Return the table of skeletons whose elements are unknown.

        Episodes run on the rows as on any other table. ``collection`` and ``true_elements`` raise
        an error: the table has neither, so rewards that compare with a known crystal do not work.

        Args:
            skeletons: C cells; N and E are the largest numbers of their sites and edges.
            vocabulary: The elements of the action space.
        """
        n_sites = np.array([skeleton.n_sites for skeleton in skeletons])
        n_edges = np.array([len(skeleton.edges) for skeleton in skeletons])
        coords = np.concatenate([skeleton.frac_coords for skeleton in skeletons])
        table = cls.__new__(cls)
        table._set(  # noqa: SLF001 - an instance of this class
            vocabulary,
            collection=None,
            true_elements=None,
            n_sites=n_sites,
            frac_coords=ragged.pad(coords, n_sites, int(n_sites.max()), 0),
            parameters=np.stack([skeleton.parameters for skeleton in skeletons]),
            flat_edges=np.concatenate([skeleton.edges for skeleton in skeletons]),
            n_edges=n_edges,
            max_edges=int(n_edges.max()),
        )
        table.target_names = ()
        table.targets = np.zeros((len(skeletons), 0), np.float32)
        return table

    @classmethod
    def from_skeleton(cls, skeleton: Skeleton, vocabulary: Vocabulary) -> "EpisodeTable":
        """Return the table of one skeleton whose elements are unknown; see ``from_skeletons``."""
        return cls.from_skeletons([skeleton], vocabulary)

    def with_vocabulary(self, vocabulary: Vocabulary) -> "EpisodeTable":
        """Return a table of the same skeletons over another vocabulary, without true elements."""
        table = copy.copy(self)
        table._collection = table._true_elements = None  # noqa: SLF001 - an instance of this class
        table.vocabulary = vocabulary
        table.n_elements = len(vocabulary)
        return table

    def _set(
        self,
        vocabulary: Vocabulary,
        *,
        collection: CrystalCollection | None,
        true_elements: np.ndarray | None,
        n_sites: np.ndarray,
        frac_coords: np.ndarray,
        parameters: np.ndarray,
        flat_edges: np.ndarray,
        n_edges: np.ndarray,
        max_edges: int,
    ) -> None:
        """Set all attributes from arrays that are padded to N sites, and from the edges."""
        self._collection = collection
        self._true_elements = true_elements
        self.vocabulary = vocabulary
        self.n_elements = len(vocabulary)
        self.n_sites = n_sites.astype(np.int64)
        is_site = np.arange(frac_coords.shape[1]) < self.n_sites[:, None]
        self.blank = np.where(is_site, 0, -1).astype(np.int32)
        self.frac_coords = frac_coords.astype(np.float32)
        self.lattice = parameters.astype(np.float32)
        self.max_edges = max_edges
        self._flat_edges = flat_edges
        self._n_edges = n_edges.astype(np.int64)
        self._first_edge = ragged.starts(n_edges)
        self._orders = BreadthFirstOrders(flat_edges, n_edges, self.n_sites, self.max_sites)

    @property
    def collection(self) -> CrystalCollection:
        """The collection of the crystals.

        Raises:
            CrystalGymError: If the table was made from skeletons.
        """
        if self._collection is None:
            raise CrystalGymError(
                "Expected a table of a collection, got the table of skeletons, which has no "
                "collection. Use EpisodeTable(collection)."
            )
        return self._collection

    @property
    def true_elements(self) -> np.ndarray:
        """Codes of the true elements, int32 (C, N): 1 to V on sites, -1 on padding.

        Raises:
            CrystalGymError: If the table was made from skeletons.
        """
        if self._true_elements is None:
            raise CrystalGymError(
                "Expected a table of a collection, got the table of skeletons, whose true "
                "elements are unknown. Use EpisodeTable(collection)."
            )
        return self._true_elements

    @property
    def max_sites(self) -> int:
        """N, the number of sites that an observation has room for."""
        return self.blank.shape[1]

    @property
    def edges(self) -> np.ndarray:
        """A new array with the edges of all crystals, int16 (C, E, 5), padded with -1."""
        return ragged.pad(self._flat_edges, self._n_edges, self.max_edges, -1)

    def geometry(self, crystal: np.ndarray | int) -> dict[str, np.ndarray]:
        """Return new arrays with the parts of an observation that do not change in an episode.

        Args:
            crystal: Rows of the table, an int or (B,).

        Returns:
            ``frac_coords``, ``lattice`` and ``edges``, as described in ``observation_space``.
        """
        return {
            "frac_coords": self.frac_coords.take(crystal, axis=0),
            "lattice": self.lattice.take(crystal, axis=0),
            "edges": self._padded_edges(crystal),
        }

    @cached_property
    def _edge_table(self) -> np.ndarray | None:
        """The padded edges of all crystals, int32 (C, E, 5), if they need little memory."""
        if len(self.n_sites) * self.max_edges * 5 * 4 > _EDGE_TABLE_BYTES:
            return None
        return self.edges.astype(np.int32)

    def _padded_edges(self, crystal: np.ndarray | int) -> np.ndarray:
        if self._edge_table is not None:
            return self._edge_table.take(crystal, axis=0)
        first, count = self._first_edge[crystal], self._n_edges[crystal]
        if not isinstance(crystal, np.ndarray):
            edges = np.full((self.max_edges, 5), -1, np.int32)
            edges[:count] = self._flat_edges[first : first + count]
            return edges
        column = np.arange(self.max_edges)
        edges = self._flat_edges.take(first[:, None] + column, axis=0, mode="clip")
        edges = edges.astype(np.int32)
        edges[column >= count[:, None]] = -1
        return edges

    def breadth_first(self, crystal: np.ndarray | int, start_site: np.ndarray | int) -> np.ndarray:
        """Return breadth-first orders of the sites of crystals.

        Args:
            crystal: Rows of the table, an int or (B,).
            start_site: The first site of each order, an int or (B,).

        Returns:
            Sites, int64 (N,) or (B, N), padded with -1.

        Raises:
            CrystalGymError: If a start site is not a site of its crystal.
        """
        return self._orders(crystal, start_site)


def _padded(values: np.ndarray, extra: tuple[int, ...], fill_value: float) -> np.ndarray:
    return np.pad(values, [(0, width) for width in extra], constant_values=fill_value)


def _label_columns(collection: CrystalCollection, names: Sequence[str]) -> np.ndarray:
    """Return labels as columns, float32 (C, T)."""
    for name in names:
        if name not in collection.labels:
            raise UnknownNameError(f"label of {collection.name!r}:", name, collection.labels)
    columns = [collection.labels[name] for name in names]
    if not columns:
        return np.zeros((len(collection), 0), np.float32)
    return np.stack(columns, axis=1).astype(np.float32)


def observation_space(
    max_sites: int, max_edges: int, n_elements: int, n_targets: int = 0
) -> spaces.Dict:
    """Return the space of observations of cells with up to N sites and E edges over V elements.

    - ``element``: codes, int32 (N,): -1 for padding, 0 for an empty site, 1 to V for an element of
      the vocabulary.
    - ``frac_coords``: fractional coordinates, float32 (N, 3), padded with 0.
    - ``lattice``: lengths in Å and angles in degrees, float32 (6,).
    - ``edges``: ``(source, target, i, j, k)``, int32 (E, 5), padded with -1.
    - ``focus``: the site in focus, which is filled next.
    - ``target``: the requested values of T labels, float32 (T,), only if T is at least 1.

    Args:
        max_sites: N.
        max_edges: E.
        n_elements: V.
        n_targets: T.
    """
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    parts: dict[str, spaces.Space] = {
        "element": spaces.Box(-1, n_elements, (max_sites,), np.int32),
        "frac_coords": spaces.Box(0.0, 1.0, (max_sites, 3), np.float32),
        "lattice": spaces.Box(0.0, np.finfo(np.float32).max, (6,), np.float32),
        "edges": spaces.Box(low, high, (max_edges, 5), np.int32),
        "focus": spaces.Discrete(max_sites),
    }
    if n_targets:
        largest = np.finfo(np.float32).max
        parts["target"] = spaces.Box(-largest, largest, (n_targets,), np.float32)
    return spaces.Dict(parts)
