"""The state of an episode and the functions that change it: start, restart, observe, fill.

The environment, the vector environment, the generation of datasets and the roll-outs of policies
all use these functions. They accept one episode (scalars and one-dimensional arrays) or a batch of
B episodes (a leading axis).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from gymnasium import spaces

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.breadth_first import BreadthFirstOrders
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import BadCrystalError, CrystalGymError
from crystal_gym.utils import ragged

# Up to this size, an array of all padded edges is kept, from which batches are taken faster.
_EDGE_TABLE_BYTES = 2**25


class EpisodeTable:
    """The arrays of C crystals on which episodes run, in the data types of observations.

    N is the number of sites and E the number of edges that an observation has room for; V is the
    number of elements in the vocabulary. Use ``from_skeleton`` for one skeleton whose elements are
    unknown.

    Args:
        collection: The crystals.
        vocabulary: The elements of the action space (default: those of the collection).
        max_sites: N, at least the number of sites of the largest cell (default: that number).

    Attributes:
        vocabulary: The elements of the action space.
        n_elements: V.
        n_sites: int64 (C,).
        site_share: 1 / n_sites, float64 (C,).
        blank: Codes of an unfilled crystal, int32 (C, N): 0 on sites, -1 on padding.
        frac_coords: Fractional coordinates, float32 (C, N, 3), padded with 0.
        lattice: Lengths in Å and angles in degrees, float32 (C, 6).
        max_edges: E.

    Raises:
        BadCrystalError: If a cell has more than ``max_sites`` sites.
        CrystalGymError: If the vocabulary lacks an element of a crystal.
    """

    def __init__(
        self,
        collection: CrystalCollection,
        vocabulary: Vocabulary | None = None,
        max_sites: int | None = None,
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

    @classmethod
    def from_skeleton(cls, skeleton: Skeleton, vocabulary: Vocabulary) -> "EpisodeTable":
        """Return the table of one skeleton whose elements are unknown.

        Episodes run on row 0 as on any other table. ``collection`` and ``true_elements`` raise an
        error: the table has neither, so rewards that compare with a known crystal do not work.

        Args:
            skeleton: A cell of n sites and m edges; N = n and E = m.
            vocabulary: The elements of the action space.
        """
        table = cls.__new__(cls)
        table._set(  # noqa: SLF001 - an instance of this class
            vocabulary,
            collection=None,
            true_elements=None,
            n_sites=np.array([skeleton.n_sites]),
            frac_coords=skeleton.frac_coords[None],
            parameters=skeleton.parameters[None],
            flat_edges=skeleton.edges,
            n_edges=np.array([len(skeleton.edges)]),
            max_edges=len(skeleton.edges),
        )
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
        self.site_share = 1 / self.n_sites
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
            CrystalGymError: If the table was made from a skeleton.
        """
        if self._collection is None:
            raise CrystalGymError(
                "Expected a table of a collection, got the table of one skeleton, which has no "
                "collection. Use EpisodeTable(collection)."
            )
        return self._collection

    @property
    def true_elements(self) -> np.ndarray:
        """Codes of the true elements, int32 (C, N): 1 to V on sites, -1 on padding.

        Raises:
            CrystalGymError: If the table was made from a skeleton.
        """
        if self._true_elements is None:
            raise CrystalGymError(
                "Expected a table of a collection, got the table of one skeleton, whose true "
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


@dataclass(slots=True)
class EpisodeState:
    """The state of one episode (without the axis B) or of a batch of B episodes.

    Attributes:
        crystal: Rows of the table, (B,).
        order: Sites in the order of filling, (B, N), padded with -1.
        elements: Codes, int32 (B, N): -1 for padding, 0 for an empty site, 1 to V for an element.
        n_sites: Number of sites, (B,).
        step: Number of filled sites, (B,).
        focus: The site in focus, which is filled next; after the last step, the site that was
            filled last, (B,).
        rows: The leading index: ``()`` for one episode, ``(arange(B),)`` for a batch.
        geometry: The parts of the observation that do not change, from the first observation on.
    """

    crystal: np.ndarray
    order: np.ndarray
    elements: np.ndarray
    n_sites: np.ndarray
    step: np.ndarray
    focus: np.ndarray
    rows: tuple[np.ndarray, ...]
    geometry: dict[str, np.ndarray] | None = None


def start(table: EpisodeTable, crystal: np.ndarray, order: np.ndarray) -> EpisodeState:
    """Return the initial state, in which every site is empty.

    Args:
        table: The crystals.
        crystal: Rows of the table, an int or (B,).
        order: Sites in the order of filling, (N,) or (B, N), padded with -1. Breadth-first orders
            are ``table.breadth_first(crystal, start_site)``.
    """
    if isinstance(crystal, np.ndarray):
        return EpisodeState(
            crystal=crystal.copy(),
            order=order.copy(),
            elements=table.blank.take(crystal, axis=0),
            n_sites=table.n_sites.take(crystal),
            step=np.zeros(len(crystal), np.int64),
            focus=order[:, 0].copy(),
            rows=(np.arange(len(crystal)),),
        )
    # Python integers make the steps of a single episode several times faster.
    return EpisodeState(
        crystal=int(crystal),  # type: ignore[arg-type]
        order=order.copy(),
        elements=table.blank[crystal].copy(),
        n_sites=int(table.n_sites[crystal]),  # type: ignore[arg-type]
        step=0,  # type: ignore[arg-type]
        focus=order[0],
        rows=(),
    )


def restart(
    table: EpisodeTable,
    state: EpisodeState,
    indices: np.ndarray,
    crystal: np.ndarray,
    order: np.ndarray,
) -> None:
    """Start new episodes at some indices of a batch, in place.

    Args:
        table: The crystals.
        state: A batch of B episodes.
        indices: Indices in the batch, (k,).
        crystal: Rows of the table, (k,).
        order: Sites in the order of filling, (k, N), padded with -1.
    """
    initial = start(table, crystal, order)
    for name in ("crystal", "order", "elements", "n_sites", "step", "focus"):
        getattr(state, name)[indices] = getattr(initial, name)
    if state.geometry is not None:
        for name, values in table.geometry(crystal).items():
            state.geometry[name][indices] = values


def observe(table: EpisodeTable, state: EpisodeState) -> dict[str, np.ndarray]:
    """Return new arrays with the observation, as described in ``observation_space``."""
    if state.geometry is None:
        state.geometry = table.geometry(state.crystal)
    geometry = state.geometry
    return {
        "element": state.elements.copy(),
        "frac_coords": geometry["frac_coords"].copy(),
        "lattice": geometry["lattice"].copy(),
        "edges": geometry["edges"].copy(),
        "focus": state.focus.copy() if state.rows else state.focus,
    }


def fill(state: EpisodeState, action: np.ndarray) -> np.ndarray:
    """Assign an element to the site in focus and move the focus to the next site, in place.

    Finished episodes do not change.

    Args:
        state: One episode or a batch of B episodes.
        action: Index of the element in the vocabulary, 0 to V - 1, an int or (B,).

    Returns:
        Whether all sites of each episode are filled, bool (B,).
    """
    if not state.rows:
        step, n_sites = state.step, state.n_sites
        if step < n_sites:
            state.elements[state.focus] = action + 1
            state.step = step = step + 1
            if step < n_sites:
                state.focus = state.order[step]
        return step >= n_sites
    focus = (*state.rows, state.focus)
    code = np.where(state.step < state.n_sites, action + 1, state.elements[focus])
    state.elements[focus] = code
    state.step = np.minimum(state.step + 1, state.n_sites)
    state.focus = state.order[(*state.rows, np.minimum(state.step, state.n_sites - 1))]
    return state.step >= state.n_sites


def observation_space(max_sites: int, max_edges: int, n_elements: int) -> spaces.Dict:
    """Return the space of observations of cells with up to N sites and E edges over V elements.

    - ``element``: codes, int32 (N,): -1 for padding, 0 for an empty site, 1 to V for an element of
      the vocabulary.
    - ``frac_coords``: fractional coordinates, float32 (N, 3), padded with 0.
    - ``lattice``: lengths in Å and angles in degrees, float32 (6,).
    - ``edges``: ``(source, target, i, j, k)``, int32 (E, 5), padded with -1.
    - ``focus``: the site in focus, which is filled next.

    Args:
        max_sites: N.
        max_edges: E.
        n_elements: V.
    """
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    return spaces.Dict(
        {
            "element": spaces.Box(-1, n_elements, (max_sites,), np.int32),
            "frac_coords": spaces.Box(0.0, 1.0, (max_sites, 3), np.float32),
            "lattice": spaces.Box(0.0, np.finfo(np.float32).max, (6,), np.float32),
            "edges": spaces.Box(low, high, (max_edges, 5), np.int32),
            "focus": spaces.Discrete(max_sites),
        }
    )
