"""Means, interquartile means and their bootstrap intervals (Agarwal et al., NeurIPS 2021)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, t, trim_mean

_log = logging.getLogger(__name__)

# Resamples of the stratified bootstrap.
_RESAMPLES = 5000


@dataclass(frozen=True)
class MeanWithCI:
    """A mean and its 95 % interval: bootstrap (percentile method) unless stated otherwise.

    Attributes:
        mean: The mean.
        low: Lower limit of the interval.
        high: Upper limit of the interval.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "MeanWithCI":
        """Estimate the mean of independent values.

        Args:
            values: The sample, (n,). NaN marks a missing value; the number of missing values is
                logged.

        Returns:
            The estimate. With fewer than two distinct values the limits equal the mean.
        """
        missing = np.isnan(values)
        if missing.any():
            _log.warning("%d of %d values are NaN and left out.", missing.sum(), len(values))
        values = values[~missing]
        if len(values) < 2 or np.ptp(values) == 0:
            mean = float(values.mean()) if len(values) else float("nan")
            return cls(mean, mean, mean)
        interval = bootstrap(
            (values,), np.mean, n_resamples=2000, batch=100, method="percentile", rng=0
        ).confidence_interval
        return cls(float(values.mean()), float(interval.low), float(interval.high))

    @classmethod
    def of_seeds(cls, values: np.ndarray) -> "MeanWithCI":
        """Estimate the mean over a few seeds, for which a bootstrap interval is too short.

        The interval is that of Student's t distribution, which assumes normal values.

        Args:
            values: One finite value for each seed, (n,).

        Returns:
            The estimate. With one value the limits equal the mean.
        """
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean, mean, mean)
        half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
        return cls(mean, mean - half, mean + half)

    @classmethod
    def of_ratio(cls, totals: np.ndarray, counts: np.ndarray) -> "MeanWithCI":
        """Estimate the mean of values that come in independent groups, such as sites of crystals.

        The groups are resampled, not the values.

        Args:
            totals: Sum of the values of each group, (n,).
            counts: Number of values of each group, above 0, (n,).

        Returns:
            The estimate. With fewer than two groups or equal means the limits equal the mean.
        """
        mean = float(totals.sum() / counts.sum()) if len(totals) else float("nan")
        if len(totals) < 2 or np.ptp(totals / counts) == 0:
            return cls(mean, mean, mean)

        def ratio(totals: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
            return totals.sum(axis) / counts.sum(axis)

        interval = bootstrap(
            (totals, counts), ratio, paired=True, n_resamples=2000, batch=100, method="percentile",
            rng=0,
        ).confidence_interval  # fmt: skip
        return cls(mean, float(interval.low), float(interval.high))


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Compute the mean of the middle half of the values along an axis.

    A quarter of the values, rounded down, is left out at each end: of five values, the middle
    three remain.
    """
    return trim_mean(values, 0.25, axis=axis)


def aggregate(strata: Sequence[np.ndarray], seed: int = 0) -> MeanWithCI:
    """Compute the interquartile mean over all runs and its stratified 95 % bootstrap interval.

    Args:
        strata: Scores of the runs of each task, (n,). Runs are resampled within each task, so that
            every resample has the same number of runs of each task.
        seed: Seed of the resamples.

    Returns:
        The estimate. The limits equal the mean if a task has a single run or the runs of each task
        are equal.
    """
    samples = [np.asarray(stratum, np.float64) for stratum in strata]

    def statistic(*resample: np.ndarray, axis: int) -> np.ndarray:
        return interquartile_mean(np.concatenate(resample, axis=axis), axis=axis)

    mean = float(statistic(*samples, axis=0))
    if any(len(sample) < 2 for sample in samples) or all(np.ptp(s) == 0 for s in samples):
        return MeanWithCI(mean, mean, mean)
    interval = bootstrap(
        samples,
        statistic,
        n_resamples=_RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=seed,
    ).confidence_interval
    return MeanWithCI(mean, float(interval.low), float(interval.high))
