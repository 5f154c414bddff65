"""The state of an episode and the functions that change it: start, restart, observe, fill."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from crystal_gym.episode.table import EpisodeTable


class Instance(NamedTuple):
    """What distinguishes an episode from others: the arguments of ``start``.

    Attributes:
        crystal: Rows of the table, an int or int64 (B,).
        order: Sites in the order of filling, int64 (N,) or (B, N), padded with -1. The kept sites
            come first, and then the start site.
        n_kept: Number of kept sites, an int or int64 (B,); ``None``: 0.
        target: The requested values of T labels, float32 (T,) or (B, T); ``None``: the labels of
            the crystals.
    """

    crystal: Any
    order: np.ndarray
    n_kept: Any = None
    target: np.ndarray | None = None


@dataclass(slots=True)
class EpisodeState:
    """The state of one episode (without the axis B) or of a batch of B episodes.

    Attributes:
        crystal: Rows of the table, (B,).
        order: Sites in the order of filling, (B, N), padded with -1. The kept sites come first.
        elements: Codes, int32 (B, N): -1 for padding, 0 for an empty site, 1 to V for an element.
        n_sites: Number of sites, (B,).
        step: Number of filled sites, the kept sites included, (B,).
        focus: The site in focus, which is filled next; after the last step, the site that was
            filled last, (B,).
        rows: The leading index: ``()`` for one episode, ``(arange(B),)`` for a batch.
        n_kept: Number of kept sites, which have their true elements from the start, (B,).
        target: The requested values of T labels, float32 (B, T); T may be 0.
        geometry: The parts of the observation that do not change, from the first observation on.
    """

    crystal: np.ndarray
    order: np.ndarray
    elements: np.ndarray
    n_sites: np.ndarray
    step: np.ndarray
    focus: np.ndarray
    rows: tuple[np.ndarray, ...]
    n_kept: np.ndarray
    target: np.ndarray
    geometry: dict[str, np.ndarray] | None = None

    @property
    def start_site(self) -> np.ndarray:
        """The first site that is filled, an int or (B,)."""
        return self.order[(*self.rows, self.n_kept)]

    def select(self, indices: np.ndarray) -> "EpisodeState":
        """Return a batch of copies of k episodes of a batch.

        Args:
            indices: int (k,) or bool (B,).
        """
        return EpisodeState(
            **{name: getattr(self, name)[indices] for name in _ARRAYS},
            rows=(np.arange(len(self.crystal[indices])),),
        )


_ONE_ROW = (np.zeros(1, np.int64),)
_ARRAYS = ("crystal", "order", "elements", "n_sites", "step", "focus", "n_kept", "target")


def start(
    table: EpisodeTable,
    crystal: np.ndarray,
    order: np.ndarray,
    n_kept: np.ndarray | None = None,
    target: np.ndarray | None = None,
    *,
    kept_elements: np.ndarray | None = None,
) -> EpisodeState:
    """Return the initial state, in which every site is empty except the kept sites.

    Args:
        table: The crystals.
        crystal: Rows of the table, an int or (B,).
        order: Sites in the order of filling, (N,) or (B, N), padded with -1. Breadth-first orders
            are ``table.breadth_first(crystal, start_site)``.
        n_kept: Number of kept sites, the first of the order, which have their true elements from
            the start, an int or (B,) (default: 0). At least one site must remain.
        target: The requested values of the labels ``table.target_names``, float32 (T,) or (B, T)
            (default: the labels of the crystals).
        kept_elements: Codes of the elements of the kept sites, for a batch, (B, N); other entries
            are ignored (default: the true elements).
    """
    if isinstance(crystal, np.ndarray):
        target = table.targets[crystal] if target is None else target
        state = EpisodeState(
            crystal=crystal.copy(),
            order=order.copy(),
            elements=table.blank.take(crystal, axis=0),
            n_sites=table.n_sites.take(crystal),
            step=np.zeros(len(crystal), np.int64),
            focus=order[:, 0].copy(),
            rows=(np.arange(len(crystal)),),
            n_kept=np.zeros(len(crystal), np.int64),
            target=target.astype(np.float32),
        )
        if n_kept is not None and n_kept.any():
            row, place = np.nonzero(np.arange(order.shape[1]) < n_kept[:, None])
            site = order[row, place]
            if kept_elements is None:
                state.elements[row, site] = table.true_elements[crystal[row], site]
            else:
                state.elements[row, site] = kept_elements[row, site]
            state.n_kept, state.step = n_kept.copy(), n_kept.copy()
            state.focus = state.start_site
        return state
    # Python integers make the steps of a single episode several times faster.
    crystal, n_kept = int(crystal), int(n_kept or 0)  # type: ignore[assignment]
    elements = table.blank[crystal].copy()
    if n_kept:
        kept = order[:n_kept]
        elements[kept] = table.true_elements[crystal, kept]
    return EpisodeState(
        crystal=crystal,
        order=order.copy(),
        elements=elements,
        n_sites=int(table.n_sites[crystal]),  # type: ignore[arg-type]
        step=n_kept,  # type: ignore[arg-type]
        focus=order[n_kept],
        rows=(),
        n_kept=n_kept,  # type: ignore[arg-type]
        target=table.targets[crystal] if target is None else target.astype(np.float32),
    )


def restart(
    table: EpisodeTable,
    state: EpisodeState,
    indices: np.ndarray,
    instances: Instance,
) -> None:
    """Start new episodes at some indices of a batch, in place.

    Args:
        table: The crystals.
        state: A batch of B episodes.
        indices: Indices in the batch, (k,).
        instances: The crystals and orders of the k new episodes.
    """
    initial = start(table, *instances)
    for name in _ARRAYS:
        getattr(state, name)[indices] = getattr(initial, name)
    if state.geometry is not None:
        for name, values in table.geometry(instances.crystal).items():
            state.geometry[name][indices] = values


def observe(table: EpisodeTable, state: EpisodeState) -> dict[str, np.ndarray]:
    """Return new arrays with the observation, as described in ``observation_space``."""
    if state.geometry is None:
        state.geometry = table.geometry(state.crystal)
    geometry = state.geometry
    observation = {
        "element": state.elements.copy(),
        "frac_coords": geometry["frac_coords"].copy(),
        "lattice": geometry["lattice"].copy(),
        "edges": geometry["edges"].copy(),
        "focus": state.focus.copy() if state.rows else state.focus,
    }
    if table.target_names:
        observation["target"] = state.target.copy()
    return observation


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


def as_batch(state: EpisodeState) -> EpisodeState:
    """Return one episode as a batch of one."""
    return EpisodeState(
        crystal=np.array([state.crystal]),
        order=state.order[None],
        elements=state.elements[None],
        n_sites=np.array([state.n_sites]),
        step=np.array([state.step]),
        focus=np.array([state.focus]),
        rows=_ONE_ROW,
        n_kept=np.array([state.n_kept]),
        target=state.target[None],
    )


def finished(table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray) -> EpisodeState:
    """Return a batch of finished episodes that filled all sites, in the order of their numbers.

    Args:
        table: The crystals.
        crystal: Rows of the table, (k,).
        elements: Codes of the elements, int32 (k, N), padded with -1.
    """
    sites = np.arange(table.max_sites)
    order = np.where(sites < table.n_sites[crystal][:, None], sites, -1)
    state = start(table, crystal, order)
    state.elements = elements.copy()
    state.step = state.n_sites.copy()
    state.focus = state.n_sites - 1
    return state
