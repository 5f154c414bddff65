"""The design space of a prototype: the possible combinations of elements on its sites."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crystal_agents.synthetic.prototype import NoPrototypeError

# Two sites are independent if at least this fraction of the pairs of their elements occurs.
_INDEPENDENT_FRACTION = 0.9
# Maximum number of fillings that are enumerated.
LARGEST = 200_000


@dataclass(frozen=True, eq=False)
class DesignSpace:
    """All possible fillings of a prototype, with equal prior probability.

    Sites whose elements occur in nearly all pairs are filled independently. Other sites keep the
    combinations that occur. Example: in Perov-5, A and B can be any cation, and the three X sites
    have one of seven combinations of anions.

    Attributes:
        fillings: Codes 1 to V, int64 (G, n).
        elements: The possible codes of each site, ascending, int64 (V_s,) for each of n sites.
        choices: ``fillings`` as indices in ``elements``, int64 (G, n).
    """

    fillings: np.ndarray
    elements: tuple[np.ndarray, ...]
    choices: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray) -> "DesignSpace":
        """Return the design space of known fillings.

        Args:
            codes: Codes of C fillings, (C, n).

        Raises:
            NoPrototypeError: If the space is too large to be enumerated.
        """
        blocks = independent_blocks(codes)
        combinations = [np.unique(codes[:, block], axis=0) for block in blocks]
        size = int(np.prod([float(len(rows)) for rows in combinations]))
        if size > LARGEST:
            raise NoPrototypeError(
                f"Expected at most {LARGEST:,} combinations of the elements of the sites, got "
                f"{size:,}. Use a collection with fewer elements."
            )
        indices = np.indices([len(rows) for rows in combinations]).reshape(len(blocks), -1)
        fillings = np.empty((size, codes.shape[1]), np.int64)
        for block, rows, index in zip(blocks, combinations, indices, strict=True):
            fillings[:, block] = rows[index]
        elements = tuple(np.unique(column) for column in fillings.T)
        return cls(fillings, elements, _indices_in(elements, fillings))

    def __len__(self) -> int:
        return len(self.fillings)

    def choices_of(self, codes: np.ndarray) -> np.ndarray:
        """Convert codes of fillings, (C, n), to indices in ``elements``, int64 (C, n)."""
        return _indices_in(self.elements, codes)


def _indices_in(elements: Sequence[np.ndarray], codes: np.ndarray) -> np.ndarray:
    """Return the index of each code, (C, n), in the sorted elements of its site."""
    columns = zip(elements, codes.T, strict=True)
    return np.stack([np.searchsorted(known, column) for known, column in columns], 1)


def independent_blocks(codes: np.ndarray) -> list[list[int]]:
    """Group the sites so that sites in different blocks are independent.

    Args:
        codes: Codes of C fillings, (C, n).
    """
    n = codes.shape[1]
    block = list(range(n))
    for i in range(n):
        for j in range(i):
            pairs = len(np.unique(codes[:, [i, j]], axis=0))
            possible = len(np.unique(codes[:, i])) * len(np.unique(codes[:, j]))
            if pairs < _INDEPENDENT_FRACTION * possible:
                old, new = block[i], block[j]
                block = [new if b == old else b for b in block]
    return [[site for site in range(n) if block[site] == b] for b in dict.fromkeys(block)]
