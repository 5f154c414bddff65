"""The grid of Perov-5 as a search space: two cations and a group of anions for each crystal."""

from dataclasses import dataclass

import numpy as np

from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import resolve_mask

_N_SITES = 5


@dataclass(frozen=True)
class SearchSpace:
    """The crystals of a collection of ABX3 cells as three choices: A, B and the group of anions.

    Attributes:
        choices: Choices of each crystal, int64 (C, 3): two cations by their rank in Mendeleev
            number, so that similar elements have similar ranks, and the group of anions.
        sizes: Numbers of cations on A, cations on B and groups of anions.
        rows: Row of the crystal with these choices, int64 of the shape ``sizes``, -1 for none.
        descriptors: Properties of the elements of each crystal, float32 (C, D).
        cation_descriptors: Standardized properties of the cations by their rank, float32 (K, D).
        allowed: Whether a method may propose the crystal, bool (C,).
        table: The crystals.
        mask: Name of the action mask that proposed crystals respect.
    """

    choices: np.ndarray
    sizes: tuple[int, int, int]
    rows: np.ndarray
    descriptors: np.ndarray
    cation_descriptors: np.ndarray
    allowed: np.ndarray
    table: EpisodeTable
    mask: str

    @classmethod
    def of(cls, table: EpisodeTable, mask: str = "none") -> "SearchSpace":
        """Return the search space of all crystals of a table.

        Args:
            table: The crystals, with sites in the order A, B, X1, X2, X3.
            mask: Name of the action mask that the elements of a proposed crystal must respect.

        Raises:
            CrystalGymError: If a cell does not have five sites, or two crystals have the same
                elements on the same sites.
        """
        if (table.n_sites != _N_SITES).any():
            raise CrystalGymError(
                f"Expected cells with {_N_SITES} sites (ABX3), got other cells in "
                f"{table.collection.name!r}. Use the collection 'perov-5'."
            )
        numbers = table.vocabulary.decode(table.true_elements)[:, :_N_SITES]
        cations = _by_mendeleev_number(np.unique(numbers[:, :2]))
        rank = np.zeros(128, np.int64)
        rank[cations] = np.arange(len(cations))
        groups, group = np.unique(numbers[:, 2:], axis=0, return_inverse=True)
        choices = np.column_stack([rank[numbers[:, :2]], group.ravel()])
        sizes = (len(cations), len(cations), len(groups))
        rows = np.full(sizes, -1)
        rows[tuple(choices.T)] = np.arange(len(choices))
        if (rows >= 0).sum() != len(choices):
            raise CrystalGymError(
                f"Expected different elements in all crystals of {table.collection.name!r}, got "
                "duplicates. Remove them."
            )
        cation = np.array([_properties(number) for number in cations.tolist()], np.float32)
        cation = (cation - cation.mean(0)) / np.maximum(cation.std(0), 1e-6)
        allowed = _admitted(table, mask)
        return cls(choices, sizes, rows, _descriptors(numbers), cation, allowed, table, mask)


def _admitted(table: EpisodeTable, mask: str) -> np.ndarray:
    """Return the crystals whose elements respect a mask in every step, bool (C,)."""
    resolved = resolve_mask(mask)
    crystal = np.arange(len(table.collection))
    state = start(table, crystal, table.breadth_first(crystal, 0))
    admitted = np.ones(len(crystal), bool)
    for _ in range(table.max_sites):
        true = table.true_elements[crystal, state.focus] - 1
        admitted &= resolved(table, state)[crystal, true]
        fill(state, true)
    return admitted


def _by_mendeleev_number(numbers: np.ndarray) -> np.ndarray:
    from pymatgen.core import Element

    return np.array(sorted(numbers.tolist(), key=lambda z: Element.from_Z(z).mendeleev_no))


def _descriptors(numbers: np.ndarray) -> np.ndarray:
    """Return tabulated properties of A and B, and counts and means of the anions, (C, D)."""
    properties = np.zeros((128, 10), np.float32)
    for number in np.unique(numbers).tolist():
        properties[number] = _properties(number)
    anions = np.unique(numbers[:, 2:])
    counts = (numbers[:, 2:, None] == anions).sum(1)
    a, b = properties[numbers[:, 0]], properties[numbers[:, 1]]
    x = properties[numbers[:, 2:]].mean(1)
    # Differences between sites and the charge that remains with the highest common states.
    balance = (a[:, 8] + b[:, 8] + 3 * x[:, 9])[:, None]
    columns = [a, b, counts, a[:, :1] - x[:, :1], b[:, :1] - x[:, :1], balance]
    return np.column_stack(columns).astype(np.float32)


def _properties(number: int) -> list[float]:
    from pymatgen.core import Element

    element = Element.from_Z(number)
    states = element.common_oxidation_states or (0,)
    return [
        element.X,
        element.row,
        element.group,
        element.mendeleev_no,
        float(element.atomic_radius or 0),
        float(element.average_ionic_radius),
        float(element.ionization_energy or 0),
        float(element.electron_affinity or 0),
        max(states),
        min(states),
    ]
