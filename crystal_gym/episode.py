"""The state of an episode and the moves that change it: start, restart, observe, fill.

The environment, the vector environment, the expert writer and the evaluation roll-out all use these
functions. They work on one episode (scalars and one-dimensional arrays) and on a batch of B
episodes (a leading axis) alike.
"""

from dataclasses import dataclass

import numpy as np
from gymnasium import spaces

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.errors import BadCrystalError


class EpisodeTable:
    """What episodes look up: a collection's arrays in the types of observations.

    Args:
        collection: the crystals.
        vocabulary: the elements of the action space (default: those that occur).
        max_sites: N, at least the sites of the largest cell (default: exactly these).

    Attributes:
        collection: the crystals.
        vocabulary: the elements of the action space.
        n_elements: V.
        n_sites: int64 (C,).
        site_share: 1 / n_sites, float64 (C,).
        true_elements: codes of the true elements, int32 (C, N), padded with -1.
        blank: an unfilled crystal, int32 (C, N): 0 on sites, -1 on padding.
        frac_coords: float32 (C, N, 3).
        lattice: lengths in Å and angles in degrees, float32 (C, 6).
        edges: int32 (C, E, 5), padded with -1.
        traversals: breadth-first orders by start site, int64 (C, N, N), padded with -1.

    Raises:
        BadCrystalError: a cell has more than ``max_sites`` sites.
        CrystalGymError: a crystal holds an element that the vocabulary lacks.
    """

    def __init__(
        self,
        collection: CrystalCollection,
        vocabulary: Vocabulary | None = None,
        max_sites: int | None = None,
    ) -> None:
        self.collection = collection
        self.vocabulary = vocabulary or collection.vocabulary
        extra = 0 if max_sites is None else max_sites - collection.max_sites
        if extra < 0:
            row = int(np.argmax(collection.n_sites))
            raise BadCrystalError(
                f"Crystal {str(collection.ids[row])!r} of {collection.name!r} has "
                f"{collection.n_sites[row]} sites; max_sites allows {max_sites}."
            )
        self.n_elements = len(self.vocabulary)
        self.n_sites = collection.n_sites.astype(np.int64)
        self.site_share = 1 / self.n_sites
        self.true_elements = _padded(collection.codes(self.vocabulary), (0, extra), -1)
        self.blank = np.minimum(self.true_elements, 0)
        self.frac_coords = _padded(collection.frac_coords.astype(np.float32), (0, extra, 0), 0)
        self.lattice = collection.parameters.astype(np.float32)
        self.edges = collection.edges.astype(np.int32)
        self.traversals = _padded(collection.traversals.astype(np.int64), (0, extra, extra), -1)

    @property
    def max_sites(self) -> int:
        """N, the sites that an observation has room for."""
        return self.true_elements.shape[1]

    @property
    def max_edges(self) -> int:
        """E, the edges that an observation has room for."""
        return self.edges.shape[1]


def _padded(values: np.ndarray, extra: tuple[int, ...], fill_value: float) -> np.ndarray:
    return np.pad(values, [(0, more) for more in extra], constant_values=fill_value)


@dataclass(slots=True)
class EpisodeState:
    """Episodes under way; one (B absent) or a batch.

    Attributes:
        crystal: row in the collection, (B,).
        order: sites in the order of filling, (B, N), padded with -1.
        elements: codes, int32 (B, N): -1 no site, 0 empty, 1 to V filled.
        n_sites: (B,).
        step: sites filled so far, (B,).
        focus: the site to be filled now (after the last step: the one filled last), (B,).
        rows: ``()`` for one episode, ``(arange(B),)`` for a batch: the leading index.
    """

    crystal: np.ndarray
    order: np.ndarray
    elements: np.ndarray
    n_sites: np.ndarray
    step: np.ndarray
    focus: np.ndarray
    rows: tuple[np.ndarray, ...]


def start(table: EpisodeTable, crystal: np.ndarray, order: np.ndarray) -> EpisodeState:
    """Empty crystals, about to be filled.

    Args:
        table: the crystals.
        crystal: rows of the table, an int or (B,).
        order: sites in the order of filling, (N,) or (B, N), padded with -1; the breadth-first
            ones are ``table.traversals[crystal, source]``.
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
    # Python's own integers make the moves of a single episode several times faster.
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
    which: np.ndarray,
    crystal: np.ndarray,
    order: np.ndarray,
) -> None:
    """Give new, empty crystals to some episodes of a batch, in place.

    Args:
        table: the crystals.
        state: a batch of B episodes.
        which: their indices in the batch, (k,).
        crystal: rows of the table, (k,).
        order: sites in the order of filling, (k, N), padded with -1.
    """
    fresh = start(table, crystal, order)
    for name in ("crystal", "order", "elements", "n_sites", "step", "focus"):
        getattr(state, name)[which] = getattr(fresh, name)


def observe(table: EpisodeTable, state: EpisodeState) -> dict[str, np.ndarray]:
    """What the agent sees; fresh arrays. See ``crystal_gym.episode.observation_space``."""
    # `take` copies, of one row and of many, and is faster than indexing.
    return {
        "element": state.elements.copy(),
        "frac_coords": table.frac_coords.take(state.crystal, axis=0),
        "lattice": table.lattice.take(state.crystal, axis=0),
        "edges": table.edges.take(state.crystal, axis=0),
        "focus": state.focus.copy() if state.rows else state.focus,
    }


def fill(state: EpisodeState, action: np.ndarray) -> np.ndarray:
    """Put the element of ``action`` (0 to V - 1) on the site in focus and move the focus on.

    Episodes that are already full stay as they are.

    Returns:
        Whether each episode is now full, bool (B,).
    """
    if not state.rows:
        step, n_sites = state.step, state.n_sites
        if step < n_sites:
            state.elements[state.focus] = action + 1
            state.step = step = step + 1
            if step < n_sites:
                state.focus = state.order[step]
        return step >= n_sites
    here = (*state.rows, state.focus)
    code = np.where(state.step < state.n_sites, action + 1, state.elements[here])
    state.elements[here] = code
    state.step = np.minimum(state.step + 1, state.n_sites)
    state.focus = state.order[(*state.rows, np.minimum(state.step, state.n_sites - 1))]
    return state.step >= state.n_sites


def observation_space(max_sites: int, max_edges: int, n_elements: int) -> spaces.Dict:
    """The space of observations of cells with up to N sites and E edges over V elements.

    ``element`` int32 (N,): -1 no site, 0 empty, 1 to V the vocabulary's elements;
    ``frac_coords`` float32 (N, 3): fractional, 0 on padding;
    ``lattice`` float32 (6,): lengths in Å, angles in degrees;
    ``edges`` int32 (E, 5): ``(source, target, i, j, k)``, -1 on padding;
    ``focus``: the site to be filled now.
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
