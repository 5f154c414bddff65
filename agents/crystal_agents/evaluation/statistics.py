"""Interquartile means and their intervals (Agarwal et al., NeurIPS 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap, trim_mean

_RESAMPLES = 5000


@dataclass(frozen=True)
class MeanWithCI:
    """A mean and its 95 % bootstrap interval (percentile method)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "MeanWithCI":
        """Of the mean of independent values (n,), NaN left out."""
        values = values[~np.isnan(values)]
        if len(values) < 2 or np.ptp(values) == 0:
            mean = float(values.mean()) if len(values) else float("nan")
            return cls(mean, mean, mean)
        interval = bootstrap(
            (values,), np.mean, n_resamples=2000, batch=100, method="percentile", rng=0
        ).confidence_interval
        return cls(float(values.mean()), float(interval.low), float(interval.high))


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half of the values; of five, of the middle three."""
    return trim_mean(values, 0.25, axis=axis)


def aggregate(strata: Sequence[np.ndarray], seed: int = 0) -> MeanWithCI:
    """Interquartile mean over all runs with its stratified 95 % bootstrap interval.

    Args:
        strata: for each task, the scores of its runs, (n,). Runs are drawn anew within a task, so
            that every resample has as many of each.
        seed: of the resamples.
    """
    samples = [np.asarray(stratum, np.float64) for stratum in strata]

    def statistic(*drawn: np.ndarray, axis: int) -> np.ndarray:
        return interquartile_mean(np.concatenate(drawn, axis=axis), axis=axis)

    mean = float(statistic(*samples, axis=0))
    # One run is no sample; equal ones have no spread.
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
