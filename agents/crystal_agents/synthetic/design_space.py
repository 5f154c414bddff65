"""Which fillings a prototype can have: the combinations of what its sites were seen with."""

from dataclasses import dataclass

import numpy as np

from crystal_agents.synthetic.prototype import NoPrototypeError

# Two sites are independent when this share of the pairs of their elements was seen.
_SEEN = 0.9
# More fillings than this are not enumerated.
LARGEST = 200_000


@dataclass(frozen=True, eq=False)
class DesignSpace:
    """All fillings that count as possible, each alike.

    Sites whose elements were seen in nearly all pairs are filled independently; the others keep
    the combinations that they were seen with. Perov-5: any cation on A, any on B, and one of seven
    sets of anions on X, X, X.

    Attributes:
        fillings: codes 1 to V, int64 (G, n).
        elements: for each site, the codes that it can carry, ascending.
        choices: ``fillings`` as positions in ``elements``, int64 (G, n).
    """

    fillings: np.ndarray
    elements: tuple[np.ndarray, ...]
    choices: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray) -> "DesignSpace":
        """The space spanned by known fillings, codes (C, n).

        Raises:
            NoPrototypeError: it is too large to be enumerated.
        """
        blocks = _blocks(codes)
        seen = [np.unique(codes[:, block], axis=0) for block in blocks]
        size = int(np.prod([float(len(rows)) for rows in seen]))
        if size > LARGEST:
            raise NoPrototypeError(
                f"The sites' elements can be combined in {size:,} ways; at most {LARGEST:,} are "
                "enumerated."
            )
        picks = np.indices([len(rows) for rows in seen]).reshape(len(seen), -1)
        fillings = np.empty((size, codes.shape[1]), np.int64)
        for block, rows, pick in zip(blocks, seen, picks, strict=True):
            fillings[:, block] = rows[pick]
        elements = tuple(np.unique(column) for column in fillings.T)
        choices = np.stack(
            [np.searchsorted(e, column) for e, column in zip(elements, fillings.T, strict=True)], 1
        )
        return cls(fillings, elements, choices)

    def __len__(self) -> int:
        return len(self.fillings)

    def choices_of(self, codes: np.ndarray) -> np.ndarray:
        """Fillings (C, n), codes, as positions in ``elements``."""
        return np.stack(
            [np.searchsorted(e, column) for e, column in zip(self.elements, codes.T, strict=True)],
            1,
        )


def _blocks(codes: np.ndarray) -> list[list[int]]:
    """Sites that are not independent of each other, gathered."""
    n = codes.shape[1]
    block = list(range(n))
    for i in range(n):
        for j in range(i):
            pairs = len(np.unique(codes[:, [i, j]], axis=0))
            possible = len(np.unique(codes[:, i])) * len(np.unique(codes[:, j]))
            if pairs < _SEEN * possible:
                old, new = block[i], block[j]
                block = [new if b == old else b for b in block]
    return [[site for site in range(n) if block[site] == b] for b in dict.fromkeys(block)]
