"""Roll-outs of many crystals at once, each from several start sites, with any scorer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crystal_datasets.start_states import StartStates
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, start
from crystal_gym.masks import Mask, no_mask

# Maximum number of crystals per batch; limits the memory of large cells.
CHUNK = 512

# Maps the state of a batch of B = K x S episodes to scores over the vocabulary, (B, V). The element
# with the highest score is chosen. The scores of a policy are logits: their softmax gives its
# probabilities.
Scorer = Callable[[EpisodeState], np.ndarray]


@dataclass(frozen=True)
class CrystalBatch:
    """S crystals with the same number n of sites, each filled from K start sites.

    Attributes:
        crystals: Rows of the table, int64 (S,).
        start_sites: Start sites, int64 (K, S).
        order: Sites in the order of filling, the kept sites first, int64 (K, S, N), padded with -1.
        n_kept: Number of kept sites, which have their true elements from the start.
    """

    crystals: np.ndarray
    start_sites: np.ndarray
    order: np.ndarray
    n_kept: int = 0

    @property
    def filled(self) -> np.ndarray:
        """Whether each site is filled by the scorer and not kept, bool (K, S, n)."""
        n = int((self.order[0, 0] >= 0).sum())
        filled = np.ones((*self.start_sites.shape, n), bool)
        np.put_along_axis(filled, self.order[..., : self.n_kept], False, axis=2)
        return filled


@dataclass(frozen=True)
class RolloutResult:
    """The result of a roll-out.

    Attributes:
        batch: The crystals and their start sites.
        elements: Codes of the chosen elements, int32 (K, S, N), padded with -1.
        rank: Rank of the true element among the scores of each site, int64 (K, S, n). Rank 0 has
            the highest score; it is also that of kept sites.
        confidence: Highest probability at each site if the scores are logits, float64 (K, S, n); 0
            at kept sites.
    """

    batch: CrystalBatch
    elements: np.ndarray
    rank: np.ndarray
    confidence: np.ndarray


def batch_by_size(
    table: EpisodeTable,
    crystals: np.ndarray,
    n_start_sites: int = 5,
    seed: int = 0,
    *,
    start: str = "empty",
    keep: float | Sequence[int] | None = None,
) -> Iterator[CrystalBatch]:
    """Yield batches of crystals with the same number of sites, with their start sites.

    Crystals with at most ``n_start_sites`` sites are filled from all of them, larger crystals from
    a random sample. The start sites and the kept sites equal those of expert datasets with the same
    seed.

    Args:
        table: The crystals.
        crystals: Rows of the table, int64 (C,).
        n_start_sites: Number of start sites per crystal, at least 1.
        seed: Seed of the sample and of the kept sites, at least 0.
        start: ``empty`` or ``partial``, see ``StartStates``.
        keep: The kept sites of a partial start, a fraction or site numbers.

    Raises:
        CrystalGymError: If ``n_start_sites`` is below 1, ``seed`` is below 0, or ``keep`` is
            invalid or does not fit a crystal.
    """
    # The sample covers the whole table, so it does not depend on the choice of crystals.
    states = StartStates(table, start, keep, limit=n_start_sites, seed=seed)
    states.check(crystals)
    for n in np.unique(table.n_sites[crystals]):
        same_size = crystals[table.n_sites[crystals] == n]
        for first in range(0, len(same_size), CHUNK):
            chunk = same_size[first : first + CHUNK]
            start_sites = states.start_sites[chunk]
            start_sites = start_sites[:, start_sites[0] >= 0].T
            shape = start_sites.shape
            order, n_kept = states.orders(np.tile(chunk, shape[0]), start_sites.ravel())
            # Crystals with the same number of sites keep equally many.
            kept = 0 if n_kept is None else int(n_kept[0])
            yield CrystalBatch(chunk, start_sites, order.reshape(*shape, -1), kept)


def crystals_of(state: EpisodeState) -> np.ndarray:
    """Return the S crystals of a batch of K x S episodes, rows of the table, int64 (S,).

    The batch repeats the same S different crystals K times, in the same order.
    """
    repeats = int((state.crystal == state.crystal[0]).sum())
    return state.crystal[: len(state.crystal) // repeats]


def roll_out(
    table: EpisodeTable,
    batch: CrystalBatch,
    score: Scorer,
    *,
    teacher_forced: bool = False,
    mask: Mask = no_mask,
) -> RolloutResult:
    """Fill the crystals of a batch in their orders, except the kept sites.

    Args:
        table: The crystals.
        batch: The crystals to fill and their start sites.
        score: The scorer; the allowed element with the highest score is chosen.
        teacher_forced: Assign the true element to the site instead of the chosen element, so that
            every choice is made in a state of the expert. ``elements`` of the result still contains
            the chosen elements.
        mask: The elements that may be chosen. Ranks and confidence ignore it.
    """
    n_start_sites, n_crystals = batch.start_sites.shape
    crystal = np.tile(batch.crystals, n_start_sites)
    order = batch.order.reshape(len(crystal), -1)
    state = start(table, crystal, order, np.full(len(crystal), batch.n_kept))
    n = int(table.n_sites[batch.crystals[0]])
    chosen = state.elements.copy()
    rank = np.zeros((len(crystal), n), np.int64)
    confidence = np.zeros((len(crystal), n))
    rows = np.arange(len(crystal))
    for _ in range(n - batch.n_kept):
        focus = state.focus.copy()
        scores = score(state)
        action = np.where(mask(table, state), scores, -np.inf).argmax(1)
        true_action = table.true_elements[crystal, focus] - 1
        rank[rows, focus] = _rank(scores, true_action)
        confidence[rows, focus] = _highest_probability(scores)
        chosen[rows, focus] = action + 1
        fill(state, true_action if teacher_forced else action)
    shape = (n_start_sites, n_crystals)
    return RolloutResult(
        batch,
        chosen.reshape(*shape, -1),
        rank.reshape(*shape, n),
        confidence.reshape(*shape, n),
    )


def roll_out_all(
    table: EpisodeTable, batches: Iterable[CrystalBatch], score: Scorer, mask: Mask = no_mask
) -> tuple[np.ndarray, np.ndarray]:
    """Fill crystals, each from all start sites of its batch.

    Args:
        table: The crystals.
        batches: The crystals to fill and their start sites.
        score: The scorer; the allowed element with the highest score is chosen.
        mask: The elements that may be chosen.

    Returns:
        Rows of the table, (B,), and codes of the finished crystals, int32 (B, N).
    """
    results = [roll_out(table, batch, score, mask=mask) for batch in batches]
    rows = [np.tile(result.batch.crystals, len(result.batch.start_sites)) for result in results]
    elements = [result.elements.reshape(-1, result.elements.shape[-1]) for result in results]
    return np.concatenate(rows), np.concatenate(elements)


def _highest_probability(scores: np.ndarray) -> np.ndarray:
    """Compute the highest softmax probability of each row, or 1 where it is undefined."""
    with np.errstate(invalid="ignore"):  # -inf - (-inf), if no element is possible
        exponents = scores - scores.max(1, keepdims=True)
    return np.nan_to_num(1 / np.exp(exponents, dtype=np.float64).sum(1), nan=1.0)


def _rank(scores: np.ndarray, true_action: np.ndarray) -> np.ndarray:
    """Compute the rank of the true element in each row.

    Equal scores rank by index, as in ``argmax``; NaN ranks last.
    """
    rows = np.arange(len(true_action))
    true_score = scores[rows, true_action][:, None]
    has_lower_index = np.arange(scores.shape[1]) < true_action[:, None]
    ahead = ~(scores < true_score) & (has_lower_index | ~(scores == true_score))
    ahead[rows, true_action] = False
    return ahead.sum(1)
