"""The state of an episode and the three moves that change it: start, observe, fill.

The environment, the vector environment, the expert writer and the evaluation roll-out all use these
functions. They work on one episode (scalars and one-dimensional arrays) and on a batch of B episodes
(a leading axis) alike.
"""

from dataclasses import dataclass

import numpy as np

from crystal_gym.collection import CrystalCollection
from crystal_gym.elements import Vocabulary


class EpisodeTable:
    """What episodes look up: a collection's arrays in the types of observations.

    Attributes:
        collection: the crystals.
        vocabulary: the elements of the action space.
        n_sites: int64 (C,).
        true: codes of the true elements, int32 (C, N), padded with -1.
        blank: an unfilled crystal, int32 (C, N): 0 on sites, -1 on padding.
        frac_coords: float32 (C, N, 3).
        lattice: lengths in Å and angles in degrees, float32 (C, 6).
        edges: int32 (C, E, 5), padded with -1.
        traversals: breadth-first orders by source site, int64 (C, N, N), padded with -1.
    """

    def __init__(self, collection: CrystalCollection, vocabulary: Vocabulary | None = None) -> None:
        self.collection = collection
        self.vocabulary = vocabulary or collection.vocabulary
        self.n_sites = collection.n_sites.astype(np.int64)
        self.true = collection.codes(self.vocabulary)
        self.blank = np.minimum(self.true, 0)
        self.frac_coords = collection.frac_coords.astype(np.float32)
        self.lattice = collection.parameters.astype(np.float32)
        self.edges = collection.edges.astype(np.int32)
        self.traversals = collection.traversals.astype(np.int64)


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
    batch = np.ndim(crystal) > 0
    return EpisodeState(
        crystal=crystal,
        order=order,
        elements=table.blank[crystal].copy(),
        n_sites=table.n_sites[crystal],
        step=np.zeros(len(crystal), np.int64) if batch else 0,  # type: ignore[arg-type]
        focus=order[..., 0],
        rows=(np.arange(len(crystal)),) if batch else (),
    )


def observe(table: EpisodeTable, state: EpisodeState) -> dict[str, np.ndarray]:
    """What the agent sees; fresh arrays. See ``crystal_gym.observation.observation_space``."""
    return {
        "element": state.elements.copy(),
        "frac_coords": table.frac_coords[state.crystal].copy(),
        "lattice": table.lattice[state.crystal].copy(),
        "edges": table.edges[state.crystal].copy(),
        "focus": np.int64(state.focus) if not state.rows else state.focus.copy(),
    }


def fill(state: EpisodeState, action: np.ndarray) -> np.ndarray:
    """Put the element of ``action`` (0 to V - 1) on the site in focus and move the focus on.

    Episodes that are already full stay as they are.

    Returns:
        Whether each episode is now full, bool (B,).
    """
    here = (*state.rows, state.focus)
    if state.rows:
        action = np.where(state.step < state.n_sites, action, state.elements[here] - 1)
    state.elements[here] = action + 1
    state.step = np.minimum(state.step + 1, state.n_sites)
    state.focus = state.order[(*state.rows, np.minimum(state.step, state.n_sites - 1))]
    return state.step >= state.n_sites
