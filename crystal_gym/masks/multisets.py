"""Multisets of up to n out of K items, ranked so that each has an index into an array.

The k items of a multiset, in ascending order, are a row a_1 ≤ … ≤ a_k of numbers from 0 to K - 1.
Its rank among all rows of k items is the sum of C(a_i + i - 1, i) (the combinatorial number
system). Multisets whose largest item is below x have the first ranks.
"""

from math import comb

import numpy as np


def n_multisets(n_items: int, size: int) -> int:
    """Return the number of multisets of a size."""
    return comb(n_items + size - 1, size) if size else 1


def rank_table(n_items: int, size: int) -> np.ndarray:
    """Tabulate the contribution of each item to the rank, by its position in the row.

    Returns:
        int64 (size, K + 1). The last column is zero, for "no item", which comes after all items.
    """
    rows = [
        [comb(item + position, position + 1) for item in range(n_items)] + [0]
        for position in range(size)
    ]
    return np.array(rows, np.int64).reshape(size, n_items + 1)


def all_multisets(n_items: int, size: int) -> np.ndarray:
    """List every multiset of a size at its rank, int16 (M, size), ascending along each row."""
    rows = np.zeros((1, 0), np.int16)
    for k in range(1, size + 1):
        blocks = [
            np.column_stack(
                [
                    rows[: n_multisets(item + 1, k - 1)],
                    np.full(n_multisets(item + 1, k - 1), item, np.int16),
                ]
            )
            for item in range(n_items)
        ]
        rows = np.concatenate(blocks) if blocks else np.zeros((0, k), np.int16)
    return rows


def ranks_without_one(rows: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Rank the remainder of each row after the item at each position is removed.

    Args:
        rows: Multisets of size k, (M, k).
        ranks: ``rank_table`` with at least k positions.

    Returns:
        int64 (M, k).
    """
    size = rows.shape[1]
    # Items before the removed one keep their position; those after it move down by one.
    kept = np.stack([ranks[i][rows[:, i]] for i in range(size)], axis=1)
    moved = np.stack([ranks[max(i - 1, 0)][rows[:, i]] for i in range(size)], axis=1)
    before = np.cumsum(kept, axis=1) - kept
    after = np.cumsum(moved[:, ::-1], axis=1)[:, ::-1] - moved
    return before + after
