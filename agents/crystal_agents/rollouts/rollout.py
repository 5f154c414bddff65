"""Filling many crystals at once: each from several start sites, by any rule."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from crystal_datasets.episodes import choose_start_sites
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, start
from crystal_gym.masks import Mask, no_mask

# Crystals filled together; keeps the states of large cells within memory.
CHUNK = 512


@dataclass(frozen=True)
class CrystalBatch:
    """S crystals with the same number n of sites, each filled from K sources.

    Attributes:
        crystals: rows of the table, int64 (S,).
        sources: start sites, int64 (K, S).
    """

    crystals: np.ndarray
    start_sites: np.ndarray


def batch_by_size(
    table: EpisodeTable, crystals: np.ndarray, n_start_sites: int = 5, seed: int = 0
) -> Iterator[CrystalBatch]:
    """Crystals grouped by their number of sites, with their start sites.

    Crystals with at most ``n_start_sites`` sites are filled from all of them, larger ones from a
    seeded sample.

    Raises:
        CrystalGymError: ``n_start_sites`` is below 1, or ``seed`` below 0.
    """
    # Drawn for the whole collection: the same sources as in its expert data sets.
    start_sites = choose_start_sites(table.n_sites, n_start_sites, seed)
    for n in np.unique(table.n_sites[crystals]):
        alike = crystals[table.n_sites[crystals] == n]
        for first in range(0, len(alike), CHUNK):
            chunk = alike[first : first + CHUNK]
            yield CrystalBatch(chunk, start_sites[chunk, :n].T)


# From the state of B = K x S episodes to scores over the vocabulary, (B, V); the highest score wins.
# The scores of a policy are logits: their softmax gives its probabilities.
Scorer = Callable[[EpisodeState], np.ndarray]


def crystals_of(state: EpisodeState) -> np.ndarray:
    """Return the S crystals of a batch of K x S episodes, rows of the table, int64 (S,)."""
    repeats = int((state.crystal == state.crystal[0]).sum())
    return state.crystal[: len(state.crystal) // repeats]


@dataclass(frozen=True)
class RolloutResult:
    """How a group was filled.

    Attributes:
        group: the crystals and sources.
        elements: codes of the finished crystals, int32 (K, S, N), padded with -1.
        rank: rank of the true element among the scores at each site (0: the one chosen), int64
            (K, S, n).
        confidence: probability of the chosen element where scores are logits, float64 (K, S, n).
    """

    group: CrystalBatch
    elements: np.ndarray
    rank: np.ndarray
    confidence: np.ndarray


def roll_out(
    table: EpisodeTable,
    group: CrystalBatch,
    score: Scorer,
    *,
    teacher_forced: bool = False,
    mask: Mask = no_mask,
) -> RolloutResult:
    """Fill a group's crystals in breadth-first order.

    Args:
        table: the crystals.
        group: which of them, from which sources.
        score: the rule; the element with the highest score is chosen.
        teacher_forced: put the true element on the site instead of the chosen one, so that every
            choice is made in a state of the expert's; ``elements`` are still the chosen ones.
        mask: which elements may be chosen; ranks and confidence are of the scores without it.
    """
    n_start_sites, n_crystals = group.start_sites.shape
    crystal = np.tile(group.crystals, n_start_sites)
    state = start(table, crystal, table.traversals[crystal, group.start_sites.ravel()])
    n = int(table.n_sites[group.crystals[0]])
    chosen = state.elements.copy()
    rank = np.zeros((len(crystal), n), np.int64)
    confidence = np.zeros((len(crystal), n))
    rows = np.arange(len(crystal))
    for _ in range(n):
        focus = state.focus.copy()
        scores = score(state)
        action = np.where(mask(table, state), scores, -np.inf).argmax(1)
        true = table.true_elements[crystal, focus] - 1
        rank[rows, focus] = _rank(scores, true)
        confidence[rows, focus] = _highest_probability(scores)
        chosen[rows, focus] = action + 1
        fill(state, true if teacher_forced else action)
    shape = (n_start_sites, n_crystals)
    return RolloutResult(
        group,
        chosen.reshape(*shape, -1),
        rank.reshape(*shape, n),
        confidence.reshape(*shape, n),
    )


def _highest_probability(scores: np.ndarray) -> np.ndarray:
    """Of the softmax in each row; what is no number is certain, and never right."""
    with np.errstate(invalid="ignore"):  # no element is possible
        exponents = scores - scores.max(1, keepdims=True)
    return np.nan_to_num(1 / np.exp(exponents, dtype=np.float64).sum(1), nan=1.0)


def _rank(scores: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Rank of the true element in each row; ties go by index as in argmax, NaN ranks last."""
    own = scores[np.arange(len(true)), true][:, None]
    before = np.arange(scores.shape[1]) < true[:, None]
    ahead = ~(scores < own) & (before | ~(scores == own))
    ahead[np.arange(len(true)), true] = False
    return ahead.sum(1)


def roll_out_all(
    table: EpisodeTable, groups: Iterable[CrystalBatch], score: Scorer, mask: Mask = no_mask
) -> tuple[np.ndarray, np.ndarray]:
    """Fill crystals, each from all sources of its group.

    Returns:
        Rows of the table, (B,), and codes of the finished crystals, int32 (B, N).
    """
    filled = [roll_out(table, group, score, mask=mask) for group in groups]
    rows = [np.tile(one.group.crystals, len(one.group.start_sites)) for one in filled]
    elements = [one.elements.reshape(-1, one.elements.shape[-1]) for one in filled]
    return np.concatenate(rows), np.concatenate(elements)
