"""The criteria of a task, as ranges of labels, and their probability under predicted labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_ndtr

from crystal_gym.rewards.perov5_water_splitting import MARGINS, Criterion, shaped_scores

# Smallest logarithm of a probability.
_LOWEST = -1e4


@dataclass(frozen=True)
class Criteria:
    """Sets of criteria on labels; a target meets all criteria of at least one set.

    Attributes:
        labels: Names of the K labels.
        alternatives: The sets of criteria.
        margins: Margins of the shaped score by quantity, in eV or eV/atom.
    """

    labels: tuple[str, ...] = ()
    alternatives: Sequence[Sequence[Criterion]] = ()
    margins: Mapping[str, float] = field(default_factory=lambda: MARGINS)

    def score(self, values: np.ndarray) -> np.ndarray:
        """Return the shaped scores of crystals with given labels, as the reward computes them.

        Args:
            values: Labels, (..., K), in eV or eV/atom.

        Returns:
            Scores, (...): 1 if all criteria of a set are met.
        """
        columns = {label: values[..., i] for i, label in enumerate(self.labels)}
        return shaped_scores(self.alternatives, self.margins, columns)

    def log_probability(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Return the logarithm of the probability that crystals are targets.

        Labels are independent and normal. The probability is that of the most probable set.

        Args:
            mean: Means of the labels, (k, K), in eV or eV/atom.
            deviation: Their standard deviations above 0, (k, K).

        Returns:
            Logarithms, (k,).
        """
        probabilities = []
        for group in self.alternatives:
            columns = [self.labels.index(criterion.label) for criterion in group]
            center, width = mean[:, columns], deviation[:, columns]
            low = (np.array([criterion.low for criterion in group]) - center) / width
            high = (np.array([criterion.high for criterion in group]) - center) / width
            probabilities.append(log_probability_between(low, high).sum(1))
        return np.max(probabilities, axis=0)


def log_probability_between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability that a standard normal variable is in a range.

    Args:
        low: Lower limits, -inf for none.
        high: Upper limits above the lower ones, inf for none.

    Returns:
        Logarithms, at least -1e4.
    """
    # The difference of two tails is exact in the tail below 0.
    swap = high > -low
    low, high = np.where(swap, -high, low), np.where(swap, -low, high)
    upper = log_ndtr(high)
    # In a far tail the two values can be equal within rounding.
    difference = np.minimum(log_ndtr(low) - upper, -1e-12)
    return np.maximum(upper + np.log1p(-np.exp(difference)), _LOWEST)
