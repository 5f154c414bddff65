"""Handling of crystals for which a reward cannot be computed.

A value that is NaN or infinite is replaced by a fallback and counted, and the episode continues. An
exception stops the episode with an error that names the crystal.
"""

import contextlib
import logging
from collections.abc import Iterator

import numpy as np

from crystal_gym.collections.collection import formula
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, RewardError
from crystal_gym.rewards.validation import require_finite

_log = logging.getLogger(__name__)

# Component with the number of failures so far; in a weighted sum it is prefixed with "NAME/".
FAILURE_COUNT = "failures"


class FailureHandler:
    """A handler that replaces rewards that are NaN or infinite by a fallback, and counts them.

    The first failure is logged as a warning that names the crystal.

    Args:
        fallback: The reward of a crystal whose value is NaN or infinite. Choose it below all
            regular rewards; otherwise an agent may prefer to fail.

    Attributes:
        count: Number of failures so far.
        components: Names of the components of ``replace_failures``.

    Raises:
        CrystalGymError: If the fallback is not a finite number.
    """

    components = ("failed", FAILURE_COUNT)

    def __init__(self, fallback: float) -> None:
        self.fallback = require_finite(fallback, "fallback")
        self.count = 0

    def replace_failures(
        self, table: EpisodeTable, state: EpisodeState, values: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Replace NaN and infinities by the fallback.

        Args:
            table: The crystals, to name the first failure.
            state: A batch of k finished episodes.
            values: The computed rewards, (k,).

        Returns:
            Finite rewards, float64 (k,), and the components ``failed`` (1 where the fallback is
            used, else 0) and ``failures`` (number of failures so far), float64 (k,).
        """
        failed = ~np.isfinite(values)
        if failed.any() and not self.count:
            first = int(np.argmax(failed))
            _log.warning(
                "The reward of %s is %s, so the fallback %s is used. Later failures are counted in "
                "the info keys `failed` and `failures` without a message.",
                describe_crystal(table, state.crystal[first], state.elements[first]),
                values[first],
                self.fallback,
            )
        self.count += int(failed.sum())
        return np.where(failed, self.fallback, values), {
            "failed": failed.astype(np.float64),
            FAILURE_COUNT: np.full(len(values), float(self.count)),
        }


@contextlib.contextmanager
def name_failed_crystal(table: EpisodeTable, row: int, elements: np.ndarray) -> Iterator[None]:
    """Convert exceptions raised in the block to a ``RewardError`` that names the crystal.

    A ``CrystalGymError`` is raised unchanged.

    Args:
        table: The crystals.
        row: The crystal's row of the table.
        elements: Codes of the elements on its sites, (N,), padded with -1.

    Raises:
        RewardError: If the block raises; the exception is chained.
    """
    try:
        yield
    except CrystalGymError:
        raise
    except Exception as error:
        raise RewardError(
            f"The reward failed on {describe_crystal(table, row, elements)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def describe_crystal(table: EpisodeTable, row: int, elements: np.ndarray) -> str:
    """Return the formula and skeleton of a filled crystal, as in ``SrTiO3 on skeleton '17'``."""
    numbers = table.vocabulary.decode(elements)
    return f"{formula(numbers)} on skeleton {str(table.collection.ids[row])!r}"
