"""DFT labels of cubic perovskites, looked up by the elements on their sites."""

import functools
import logging

import numpy as np

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, MissingDataError, RewardError, UnknownNameError
from crystal_gym.rewards.failure_handling import describe_crystal
from crystal_gym.rewards.reward import Reward
from crystal_gym.utils import settings

_log = logging.getLogger(__name__)

# Policies for crystals whose label is unknown.
MISSING = ("error", "nan", "worst")

N_SITES = 5


class LabelTable:
    """One label of all crystals in a collection of cubic ABX3 cells, over all splits.

    Args:
        table: The crystals, with sites in the order A, B, X1, X2, X3.
        label: Name of the label in ``collection.labels``.

    Attributes:
        values: The label of each crystal, float64 (C,), NaN where it is unknown.
        labeled: Whether the label is known, bool (C,).
        lattice_constant: Lattice constant in Å, float64 (C,).
        coverage: Fraction of crystals whose label is known.

    Raises:
        CrystalGymError: If the cells are not cubic with five sites, or two labeled crystals have
            the same elements on the same sites.
        MissingDataError: If no label is known.
    """

    def __init__(self, table: EpisodeTable, label: str) -> None:
        collection = table.collection
        _check_cells(collection, label)
        _check_labels(collection, label)
        self.values = collection.labels[label]
        self.labeled = np.isfinite(self.values)
        self.lattice_constant = collection.parameters[:, 0]
        self.coverage = float(self.labeled.mean())
        # The codes of five elements are the digits of one number.
        self._base = (table.n_elements + 1) ** np.arange(N_SITES)
        keys = self._key(table.true_elements)
        _check_duplicates(collection, label, np.where(self.labeled, keys, -1))
        # Among crystals with the same elements, prefer the labeled one.
        labeled_first = np.argsort(~self.labeled, kind="stable")
        self._keys, first = np.unique(keys[labeled_first], return_index=True)
        self._rows = labeled_first[first]
        if self.coverage < 1:
            _log.warning(
                "%s: %s is known for %s of %s crystals (%.0f %%). The labels of all others are "
                "missing, and regret is relative to the known labels. %s",
                collection.name,
                label,
                f"{self.labeled.sum():,}",
                f"{len(collection):,}",
                100 * self.coverage,
                _how_to_get_labels(),
            )

    def find(self, elements: np.ndarray) -> np.ndarray:
        """Find the crystals with given elements on their sites.

        Args:
            elements: Codes of the elements, int32 (k, N), padded with -1.

        Returns:
            Rows of the collection, (k,), -1 where no crystal has these elements.
        """
        key = self._key(elements)
        index = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(self._keys[index] == key, self._rows[index], -1)

    def _key(self, elements: np.ndarray) -> np.ndarray:
        return elements[:, :N_SITES].astype(np.int64) @ self._base


class LabelReward(Reward):
    """Base class of rewards that look up a label of the finished crystal.

    Components: those of ``score``, NaN where the label is missing; ``labeled``, 1 where the label
    is known, else 0; and ``regret``, the best reward of any labeled crystal on this skeleton minus
    the reward.

    Attributes:
        scores: Names of the components that ``score`` returns.

    Args:
        label: Name of the label in ``collection.labels``.
        missing: The reward where the label is unknown, or where no crystal of the collection has
            these elements. ``worst``: the value of ``worst_reward``; ``nan``: NaN; ``error``: raise
            a ``RewardError``.

    Raises:
        UnknownNameError: If the policy for missing labels does not exist.
    """

    scores: tuple[str, ...] = ()

    def __init__(self, label: str, missing: str) -> None:
        self.components = (*self.scores, "labeled", "regret")
        if missing not in MISSING:
            raise UnknownNameError("policy for missing labels", missing, MISSING)
        self.label = label
        self.labels = (label,)
        self.missing = missing

    def score(
        self, labels: LabelTable, skeleton: np.ndarray, crystal: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Compute rewards and components of crystals on skeletons.

        Args:
            labels: The labels of the collection.
            skeleton: Rows of the collection, (k,), which determine the lattice.
            crystal: Rows of the collection, (k,), which determine the elements; values for -1 are
                ignored.

        Returns:
            Rewards, (k,), NaN where the label is unknown, and components by name, each (k,).
        """
        raise NotImplementedError

    def best_rewards(self, labels: LabelTable) -> np.ndarray:
        """Return the best reward of a labeled crystal on each skeleton, (C,)."""
        raise NotImplementedError

    def worst_reward(self, labels: LabelTable) -> float:
        """Return the reward of missing labels under the policy ``worst``."""
        raise NotImplementedError

    def prepare(self, table: EpisodeTable) -> None:
        """Check the labels and compute the optimum of every skeleton.

        Args:
            table: The crystals.

        Raises:
            CrystalGymError: If the collection has no such labels or other cells.
        """
        self.best_rewards(label_table(table, self.label))

    def coverage(self, table: EpisodeTable) -> float:
        """Return the fraction of the collection's crystals whose label is known."""
        return label_table(table, self.label).coverage

    def best(self, table: EpisodeTable, crystal: np.ndarray) -> np.ndarray:
        """Return the highest reward of a labeled crystal on given skeletons.

        Args:
            table: The crystals.
            crystal: Rows of the table, (k,).

        Returns:
            Rewards, (k,).
        """
        return self.best_rewards(label_table(table, self.label))[crystal]

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Look up the labels and compute the rewards.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The rewards, (k,), and the components, each (k,).

        Raises:
            RewardError: If a label is missing and the policy is ``error``.
        """
        labels = label_table(table, self.label)
        crystal, elements = state.crystal, state.elements
        found = labels.find(elements)
        values, components = self.score(labels, crystal, found)
        values = np.where(found < 0, np.nan, values)
        components = {
            name: np.where(found < 0, np.nan, component) for name, component in components.items()
        }
        labeled = ~np.isnan(values)
        if not labeled.all():
            if self.missing == "error":
                first = int(np.argmin(labeled))
                raise RewardError(
                    f"The label {self.label!r} of "
                    f"{describe_crystal(table, crystal[first], elements[first])} is unknown. "
                    + (
                        _how_to_get_labels()
                        if found[first] >= 0
                        else f"{table.collection.name} contains no crystal with these elements on "
                        "these sites. Use the policy 'worst' or 'nan' for missing labels."
                    )
                )
            if self.missing == "worst":
                values = np.where(labeled, values, self.worst_reward(labels))
        return values, {
            **components,
            "labeled": labeled.astype(np.float64),
            "regret": self.best_rewards(labels)[crystal] - values,
        }


@functools.lru_cache(maxsize=4)
def label_table(table: EpisodeTable, label: str) -> LabelTable:
    """Return the ``LabelTable`` of the crystals, made once for each table."""
    return LabelTable(table, label)


def _check_cells(collection: CrystalCollection, label: str) -> None:
    lengths, angles = collection.parameters[:, :3], collection.parameters[:, 3:]
    if (
        (collection.n_sites != N_SITES).any()
        or not np.allclose(lengths, lengths[:, :1])
        or not np.allclose(angles, 90)
    ):
        raise CrystalGymError(
            f"Expected cubic cells with the sites A, B, X1, X2, X3 for the label {label!r}, but "
            f"{collection.name!r} has other cells. Use collection 'perov-5'."
        )


def _check_labels(collection: CrystalCollection, label: str) -> None:
    """Raise if no crystal has the label."""
    if np.isfinite(collection.labels.get(label, np.nan)).any():
        return
    hint = (
        _how_to_get_labels()
        if collection.name.startswith("perov-5")
        else "Use collection 'perov-5', which has such labels."
    )
    raise MissingDataError(
        f"The label {label!r} is unknown for all crystals of {collection.name!r}. {hint}"
    )


def _check_duplicates(collection: CrystalCollection, label: str, keys: np.ndarray) -> None:
    """Raise if two labels belong to the same elements; keys are (C,), -1 where unlabeled."""
    distinct, counts = np.unique(keys[keys >= 0], return_counts=True)
    if (counts > 1).any():
        first, second, *_ = np.flatnonzero(keys == distinct[np.argmax(counts > 1)])
        raise CrystalGymError(
            f"Expected one label {label!r} of {collection.formula(int(first))} in "
            f"{collection.name!r}, got two, of the crystals {str(collection.ids[first])!r} and "
            f"{str(collection.ids[second])!r}. Keep one of them."
        )


def _how_to_get_labels() -> str:
    from crystal_gym.collections.perov5 import LABELS

    files = ", ".join(file.name for file in LABELS.values())
    return (
        f"The labels of Perov-5 are in CDVAE's {files}. Download them with `crystal-gym prepare "
        f"perov-5 --labels`, or set {settings.DATA_VARIABLE} to a folder with copies."
    )
