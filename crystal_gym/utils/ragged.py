"""Arrays with a different number of rows for each crystal, stored one after the other."""

import numpy as np


def starts(counts: np.ndarray) -> np.ndarray:
    """Return the position of the first row of each crystal, int64 (C,), from numbers of rows."""
    counts = counts.astype(np.int64)
    return np.cumsum(counts) - counts


def pad(flat: np.ndarray, counts: np.ndarray, width: int, fill_value: float) -> np.ndarray:
    """Copy the rows of C crystals to a padded array.

    Args:
        flat: Rows, (sum of counts, ...).
        counts: Number of rows of each crystal, (C,).
        width: Number of rows in the result, at least the largest count.
        fill_value: Value of the padding.

    Returns:
        The padded array, (C, width, ...).
    """
    padded = np.full((len(counts), width, *flat.shape[1:]), fill_value, flat.dtype)
    padded[np.arange(width) < counts[:, None]] = flat
    return padded


def take(flat: np.ndarray, counts: np.ndarray, crystals: np.ndarray) -> np.ndarray:
    """Return the rows of some crystals, one after the other.

    Args:
        flat: Rows, (sum of counts, ...).
        counts: Number of rows of each crystal, (C,).
        crystals: The crystals to take, int (B,).
    """
    chosen = counts[crystals].astype(np.int64)
    offset = np.repeat(starts(counts)[crystals] - starts(chosen), chosen)
    return flat[offset + np.arange(len(offset))]
