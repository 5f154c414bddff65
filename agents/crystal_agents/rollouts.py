"""Filling many crystals at once: each from several source sites, by any rule."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp

from crystal_agents.graphs import SkeletonStore
from crystal_agents.policy import SkeletonPolicy
from crystal_datasets.trajectories import choose_sources
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, start
from crystal_gym.masks import Mask, every_element

# Crystals filled together; keeps the states of large cells within memory.
CHUNK = 512


@dataclass(frozen=True)
class Group:
    """S crystals with the same number n of sites, each filled from K sources.

    Attributes:
        crystals: rows of the table, int64 (S,).
        sources: source sites, int64 (K, S).
    """

    crystals: np.ndarray
    sources: np.ndarray


def groups_of(
    table: EpisodeTable, crystals: np.ndarray, n_sources: int = 5, seed: int = 0
) -> Iterator[Group]:
    """Crystals grouped by their number of sites, with their source sites.

    Crystals with at most ``n_sources`` sites are filled from all of them, larger ones from a
    seeded sample.

    Raises:
        CrystalGymError: ``n_sources`` is below 1, or ``seed`` below 0.
    """
    # Drawn for the whole collection: the same sources as in its expert data sets.
    sources = choose_sources(table.n_sites, n_sources, seed)
    for n in np.unique(table.n_sites[crystals]):
        alike = crystals[table.n_sites[crystals] == n]
        for first in range(0, len(alike), CHUNK):
            chunk = alike[first : first + CHUNK]
            yield Group(chunk, sources[chunk, :n].T)


# (table, state of B = K x S episodes, K) → scores over the vocabulary, (B, V); the highest wins.
# Those of a policy are logits: their softmax is its probabilities.
Scorer = Callable[[EpisodeTable, EpisodeState, int], np.ndarray]


class PolicyScorer:
    """Logits of a policy; the geometry of a group's skeletons is read once for its K fillings.

    Args:
        policy: whose vocabulary is the table's.
        table: the crystals.
    """

    def __init__(self, policy: SkeletonPolicy, table: EpisodeTable) -> None:
        self.policy = policy.require(table.vocabulary, table.blank.shape[1]).eval()
        self.device = next(policy.parameters()).device
        self.store = SkeletonStore(
            {
                "n_sites": table.n_sites,
                "frac_coords": table.frac_coords,
                "parameters": table.lattice,
                "edges": table.edges,
            },
            self.device,
        )

    @torch.no_grad()
    def __call__(self, table: EpisodeTable, state: EpisodeState, n_sources: int) -> np.ndarray:
        """Logits (B, V) in a group's states; the first S of the B rows name its crystals."""
        rows = torch.as_tensor(state.crystal.reshape(n_sources, -1)[0], device=self.device)
        batch = self.store.batch(rows)
        codes = torch.as_tensor(state.elements, dtype=torch.int64, device=self.device)
        elements = batch.flat(codes.view(n_sources, len(rows), -1))
        focus = torch.as_tensor(state.focus, device=self.device).view(n_sources, -1)
        return self.policy(batch, elements, focus).flatten(0, 1).float().cpu().numpy()


class EnsembleScorer:
    """Mean probability of several policies, as logarithms.

    Args:
        policies: of one vocabulary, the table's.
        table: the crystals.
    """

    def __init__(self, policies: Sequence[SkeletonPolicy], table: EpisodeTable) -> None:
        self.members = [PolicyScorer(policy, table) for policy in policies]

    def __call__(self, table: EpisodeTable, state: EpisodeState, n_sources: int) -> np.ndarray:
        """Log probabilities (B, V)."""
        logs = [log_softmax(member(table, state, n_sources), axis=1) for member in self.members]
        return logsumexp(np.stack(logs), axis=0) - np.log(len(logs))


@dataclass(frozen=True)
class Filled:
    """How a group was filled.

    Attributes:
        group: the crystals and sources.
        elements: codes of the finished crystals, int32 (K, S, N), padded with -1.
        rank: rank of the true element among the scores at each site (0: the one chosen), int64
            (K, S, n).
        confidence: probability of the chosen element where scores are logits, float64 (K, S, n).
    """

    group: Group
    elements: np.ndarray
    rank: np.ndarray
    confidence: np.ndarray


def roll_out(
    table: EpisodeTable,
    group: Group,
    score: Scorer,
    *,
    teacher_forced: bool = False,
    mask: Mask = every_element,
) -> Filled:
    """Fill a group's crystals in breadth-first order.

    Args:
        table: the crystals.
        group: which of them, from which sources.
        score: the rule; the element with the highest score is chosen.
        teacher_forced: put the true element on the site instead of the chosen one, so that every
            choice is made in a state of the expert's; ``elements`` are still the chosen ones.
        mask: which elements may be chosen; ranks and confidence are of the scores without it.
    """
    n_sources, n_crystals = group.sources.shape
    crystal = np.tile(group.crystals, n_sources)
    state = start(table, crystal, table.traversals[crystal, group.sources.ravel()])
    n = int(table.n_sites[group.crystals[0]])
    chosen = state.elements.copy()
    rank = np.zeros((len(crystal), n), np.int64)
    confidence = np.zeros((len(crystal), n))
    rows = np.arange(len(crystal))
    for _ in range(n):
        focus = state.focus.copy()
        scores = score(table, state, n_sources)
        action = np.where(mask(table, state), scores, -np.inf).argmax(1)
        true = table.true[crystal, focus] - 1
        rank[rows, focus] = _rank(scores, true)
        confidence[rows, focus] = _highest_probability(scores)
        chosen[rows, focus] = action + 1
        fill(state, true if teacher_forced else action)
    shape = (n_sources, n_crystals)
    return Filled(
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
