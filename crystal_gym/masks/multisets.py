"""Multisets of up to n of K things, each at its place in an array.

The k things of a multiset, in ascending order, are a row a_1 ≤ … ≤ a_k of numbers from 0 to K - 1;
its place among all rows of k things is the sum of C(a_i + i - 1, i) (the combinatorial number
system). Multisets whose largest thing is below x hold the first places.
"""

from math import comb

import numpy as np


def n_multisets(n_things: int, size: int) -> int:
    """How many multisets of this size there are."""
    return comb(n_things + size - 1, size) if size else 1


def place_table(n_things: int, size: int) -> np.ndarray:
    """What each thing adds to the place, by its position in the row.

    Returns:
        int64 (size, K + 1). The last column is zeros: "nothing", which comes after the things.
    """
    columns = [
        [comb(thing + position, position + 1) for thing in range(n_things)] + [0]
        for position in range(size)
    ]
    return np.array(columns, np.int64).reshape(size, n_things + 1)


def all_multisets(n_things: int, size: int) -> np.ndarray:
    """Every multiset of this size at its place, int16 (M, size), ascending along each row."""
    rows = np.zeros((1, 0), np.int16)
    for k in range(1, size + 1):
        blocks = [
            np.column_stack(
                [
                    rows[: n_multisets(thing + 1, k - 1)],
                    np.full(n_multisets(thing + 1, k - 1), thing, np.int16),
                ]
            )
            for thing in range(n_things)
        ]
        rows = np.concatenate(blocks) if blocks else np.zeros((0, k), np.int16)
    return rows


def without_one(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The place of each row's remainder when the thing at each position is taken away.

    Args:
        rows: multisets of size k, (M, k).
        places: ``place_table`` of at least k positions.

    Returns:
        int64 (M, k).
    """
    size = rows.shape[1]
    staying = np.stack([places[i][rows[:, i]] for i in range(size)], axis=1)
    moving = np.stack([places[max(i - 1, 0)][rows[:, i]] for i in range(size)], axis=1)
    below = np.cumsum(staying, axis=1) - staying
    above = np.cumsum(moving[:, ::-1], axis=1)[:, ::-1] - moving
    return below + above
