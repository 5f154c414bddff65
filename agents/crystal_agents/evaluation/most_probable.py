"""Whether the true filling is among the most probable ones that a beam search finds."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from crystal_agents.evaluation.metrics import symmetry_equivalent_accuracy
from crystal_agents.rollouts.beam_search import beam_search
from crystal_agents.rollouts.rollout import CrystalBatch, Scorer
from crystal_gym.episode import EpisodeTable, start
from crystal_gym.masks import Mask, no_mask


def true_in_beam(
    table: EpisodeTable,
    batch: CrystalBatch,
    score: Scorer,
    permutations: Sequence[np.ndarray],
    *,
    width: int,
    mask: Mask = no_mask,
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether a beam search from the first start site finds the true filling.

    Args:
        table: The crystals.
        batch: S crystals of n sites.
        score: The scorer, whose scores are logits.
        permutations: Equivalent permutations of the sites of each crystal, (P, n).
        width: K, the width of the beam and the number of fillings.
        mask: The elements that may be chosen.

    Returns:
        Whether the true filling is among the K fillings, and whether one of them is equivalent to
        it by symmetry, bool (S,) each.
    """
    n = int(table.n_sites[batch.crystals[0]])
    kept = np.full(len(batch.crystals), batch.n_kept)
    state = start(table, batch.crystals, batch.order[0], kept)
    found = beam_search(table, state, score, width=width, mask=mask)
    # A skeleton can have fewer than K fillings.
    exists = np.isfinite(found.totals).T
    elements = found.elements.swapaxes(0, 1)[..., :n]
    true = table.true_elements[batch.crystals, :n]
    exact = (elements == true).all(2) & exists
    best = symmetry_equivalent_accuracy(elements, true, permutations)
    return exact.any(0), ((best == 1) & exists).any(0)


def random_assignments(true: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """Compute the expected metrics of random assignments of known elements to the sites.

    Args:
        true: Codes of the true elements, whose assignment to the sites is unknown, (S, n).
        width: K, the number of different assignments for ``beam``.

    Returns:
        Accuracy, exact reproduction, and the probability that K different assignments include the
        true one, float64 (S,) each.
    """
    accuracy, n_assignments = [], []
    for codes in true.tolist():
        counts = Counter(codes).values()
        accuracy.append(sum(count**2 for count in counts) / len(codes) ** 2)
        # Too many for int64, so the division is one of Python integers.
        repeats = math.prod(map(math.factorial, counts))
        n_assignments.append(math.factorial(len(codes)) // repeats)
    return {
        "accuracy": np.array(accuracy),
        "exact": np.array([1 / n for n in n_assignments]),
        "beam": np.array([min(1.0, width / n) for n in n_assignments]),
    }
