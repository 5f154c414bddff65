"""What rewards do about single crystals that they cannot judge.

A value that is NaN or infinite is replaced, counted and told, and the run goes on; an exception
stops it, as an error that names the crystal.
"""

import contextlib
import logging
import math
from collections.abc import Iterator
from numbers import Real

import numpy as np

from crystal_gym.collections.collection import formula
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, RewardError

_log = logging.getLogger(__name__)


# The component that tells how many there were so far; in a sum it follows the part's name and "/".
COUNT = "failures"


class FailureHandler:
    """Puts a finite number in the place of rewards that are none, and counts them.

    The first failure is logged as a warning that names the crystal.

    Args:
        fallback: the reward of a crystal whose value is NaN or infinite. It should lie below all
            values that are meant to be earned, or failing pays.

    Attributes:
        count: failures so far.

    Raises:
        CrystalGymError: the fallback is not a finite number.
    """

    def __init__(self, fallback: float) -> None:
        self.fallback = finite(fallback, "The fallback of a reward")
        self.count = 0

    def replace_failures(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The values with the fallback in the place of NaN and infinities, and components for info.

        Args:
            table: the crystals.
            crystal: rows of the table, (k,).
            elements: codes, int32 (k, N), padded with -1.
            values: the rewards as they came out, (k,).

        Returns:
            Finite rewards, float64 (k,), and the components ``failed`` (1 where the fallback
            stands, else 0) and ``failures`` (their number so far), float64 (k,).
        """
        failed = ~np.isfinite(values)
        if failed.any() and not self.count:
            first = int(np.argmax(failed))
            _log.warning(
                "The reward of %s is %s; %s is paid in its place, and in that of others like it "
                "(`failed` and `failures` in info).",
                describe_crystal(table, crystal[first], elements[first]),
                values[first],
                self.fallback,
            )
        self.count += int(failed.sum())
        return np.where(failed, self.fallback, values), {
            "failed": failed.astype(np.float64),
            COUNT: np.full(len(values), float(self.count)),
        }


@contextlib.contextmanager
def name_failed_crystal(table: EpisodeTable, row: int, sites: np.ndarray) -> Iterator[None]:
    """Turn any exception of the block into a ``RewardError`` that names one filled crystal.

    Errors that are already made for the user pass as they are.

    Args:
        table: the crystals.
        row: the crystal's row of the table.
        sites: codes of the elements put on its sites, (N,), padded with -1.

    Raises:
        RewardError: chained to the exception.
    """
    try:
        yield
    except CrystalGymError:
        raise
    except Exception as error:
        raise RewardError(
            f"The reward failed on {describe_crystal(table, row, sites)}: {type(error).__name__}: {error}"
        ) from error


def describe_crystal(table: EpisodeTable, row: int, sites: np.ndarray) -> str:
    """Formula and skeleton of a filled crystal, for messages: ``SrTiO3 on skeleton '17'``."""
    numbers = table.vocabulary.decode(sites)
    return f"{formula(numbers)} on skeleton {str(table.collection.ids[row])!r}"


def finite(value: object, what: str) -> float:
    """A finite number as float.

    Args:
        value: what was given.
        what: what it is, to begin the message.

    Raises:
        CrystalGymError: it is not a number, or NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise CrystalGymError(f"{what} is a finite number, not {value!r}.")
    return float(value)
