"""Beam search: the most probable fillings of skeletons, or samples without replacement."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from crystal_agents.rollouts.rollout import Scorer
from crystal_gym.episode import EpisodeState, EpisodeTable, fill
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import Mask, no_mask


@dataclass(frozen=True)
class BeamResult:
    """Fillings of S skeletons, K or fewer of each.

    Attributes:
        elements: Codes of the elements, int32 (S, K, N), padded with -1.
        log_probabilities: Natural logarithm of the probability of the choice at each site, float64
            (S, K, N), 0 on padding and kept sites. Their sum is that of the filling. It is -inf for
            fillings that do not exist, because a skeleton has fewer than K.
    """

    elements: np.ndarray
    log_probabilities: np.ndarray

    @property
    def totals(self) -> np.ndarray:
        """Natural logarithm of the probability of each filling, float64 (S, K)."""
        return self.log_probabilities.sum(axis=2)


def beam_search(
    table: EpisodeTable,
    state: EpisodeState,
    score: Scorer,
    *,
    width: int,
    mask: Mask = no_mask,
    rng: np.random.Generator | None = None,
) -> BeamResult:
    """Find the K most probable fillings of skeletons, or sample K different ones.

    After each site, the search keeps the K most probable partial fillings of each skeleton. The
    result is exact if K is at least the number of partial fillings. Otherwise, a filling with an
    improbable beginning can be missed. The probabilities are exact.

    With a random generator, the search is stochastic beam search (Kool et al., ICML 2019): the
    fillings are a sample without replacement from the distribution of the policy.

    Args:
        table: The crystals.
        state: The initial states of S different crystals with the same number of sites, of which
            equally many are kept.
        score: The scorer, whose scores are logits.
        width: K.
        mask: The elements that may be chosen.
        rng: Random generator of the sample (default: the most probable fillings).

    Returns:
        The fillings, the most probable first, or in the order of the sample.

    Raises:
        CrystalGymError: If ``width`` is below 1, or the numbers of sites to fill differ.
    """
    if width < 1:
        raise CrystalGymError(f"Expected a beam width of at least 1, got {width}.")
    n_empty = state.n_sites - state.step
    if (n_empty != n_empty[0]).any():
        raise CrystalGymError(
            "Expected crystals with the same number of sites to fill, got "
            f"{sorted(set(n_empty.tolist()))}. Search those of each size separately."
        )
    n_crystals = len(n_empty)
    chosen = np.zeros((1, *state.elements.shape))
    total = np.zeros((1, n_crystals))
    # Perturbed log-probabilities: their K largest are a sample without replacement. Their maximum,
    # the value at the root, is independent of the sample.
    perturbed = np.zeros((1, n_crystals))
    for _ in range(int(n_empty[0])):
        beams = len(total)
        allowed = np.where(mask(table, state), score(state), -np.inf).astype(np.float64)
        with np.errstate(invalid="ignore"):  # no allowed element
            steps = np.nan_to_num(log_softmax(allowed, axis=1), nan=-np.inf, neginf=-np.inf)
        steps = steps.reshape(beams, n_crystals, -1)
        extended = total[:, :, None] + steps
        key = extended if rng is None else _perturb(extended, perturbed, rng)
        # (beams, S, V) to (S, beams V): the children of all beams of a skeleton compete.
        flat = key.transpose(1, 0, 2).reshape(n_crystals, -1)
        keep = min(width, flat.shape[1])
        best = np.argpartition(-flat, keep - 1, axis=1)[:, :keep]
        by_key = np.argsort(-np.take_along_axis(flat, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, by_key, axis=1).T  # (keep, S)
        parent, action = np.divmod(best, steps.shape[2])
        column = np.arange(n_crystals)
        perturbed = np.take_along_axis(flat, best.T, axis=1).T
        total = extended[parent, column, action]
        chosen = chosen[parent, column]
        focus = state.focus.reshape(beams, n_crystals)[parent, column]
        np.put_along_axis(chosen, focus[..., None], steps[parent, column, action][..., None], 2)
        state = state.select((parent * n_crystals + column).ravel())
        fill(state, action.ravel())
    return BeamResult(
        state.elements.reshape(len(total), n_crystals, -1).swapaxes(0, 1),
        chosen.swapaxes(0, 1),
    )


def _perturb(extended: np.ndarray, perturbed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw Gumbel-perturbed log-probabilities of children whose maximum is that of their parent.

    Args:
        extended: Log-probabilities of the children, (K, S, V).
        perturbed: Perturbed log-probabilities of the parents, (K, S).
        rng: Random generator.

    Returns:
        float64 (K, S, V), -inf for impossible children.
    """
    noisy = extended + rng.gumbel(size=extended.shape)
    largest = noisy.max(axis=2, keepdims=True)
    bound = perturbed[:, :, None]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # Equation 18 and appendix B.3 of the paper, in a form without cancellation.
        v = bound - noisy + np.log1p(-np.exp(noisy - largest))
        conditioned = bound - np.maximum(v, 0) - np.log1p(np.exp(-np.abs(v)))
    impossible = ~np.isfinite(extended) | ~np.isfinite(bound)
    return np.where(impossible, -np.inf, conditioned)
