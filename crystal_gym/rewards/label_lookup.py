"""DFT labels of cubic perovskites, looked up by the elements on their sites."""

import functools
import logging

import numpy as np

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, MissingDataError, RewardError, UnknownNameError
from crystal_gym.rewards.failure_handling import describe_crystal
from crystal_gym.rewards.reward import Reward
from crystal_gym.utils import settings

_log = logging.getLogger(__name__)

# What is paid for a crystal whose label is not known.
MISSING = ("error", "nan", "worst")

N_SITES = 5


class LabelTable:
    """One label of all crystals of a collection of cubic ABX3 cells, in whatever split they stand.

    Args:
        table: the crystals; sites in the order A, B, X1, X2, X3.
        label: its name in ``collection.labels``.

    Attributes:
        values: the label of each crystal, float64 (C,), NaN where it is not known.
        labelled: whether it is known, bool (C,).
        lattice_constant: Å, float64 (C,).
        coverage: the share of crystals whose label is known.

    Raises:
        CrystalGymError: the cells are not cubic with five sites, or two labelled crystals have the
            same elements on the same sites.
        MissingDataError: no label is known.
    """

    def __init__(self, table: EpisodeTable, label: str) -> None:
        collection = table.collection
        _check_cells(collection, label)
        _check_label(collection, label)
        self.values = collection.labels[label]
        self.labelled = np.isfinite(self.values)
        self.lattice_constant = collection.parameters[:, 0]
        self.coverage = float(self.labelled.mean())
        # Five codes as the digits of one number.
        self._base = (table.n_elements + 1) ** np.arange(N_SITES)
        keys = self._key(table.true_elements)
        _check_labelled_once(collection, label, np.where(self.labelled, keys, -1))
        # Of crystals with the same elements the labelled one is found.
        first = np.argsort(~self.labelled, kind="stable")
        self._keys, found = np.unique(keys[first], return_index=True)
        self._rows = first[found]
        if self.coverage < 1:
            _log.warning(
                "%s: %s is known for %s of %s crystals (%.0f %%); all others are missing, and "
                "regret is relative to the known. %s",
                collection.name,
                label,
                f"{self.labelled.sum():,}",
                f"{len(collection):,}",
                100 * self.coverage,
                _where_labels_are(),
            )

    def find(self, elements: np.ndarray) -> np.ndarray:
        """The crystals with these elements on these sites.

        Args:
            elements: codes, int32 (k, N), padded with -1.

        Returns:
            Rows of the collection, (k,), -1 where it holds no such crystal.
        """
        key = self._key(elements)
        place = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(self._keys[place] == key, self._rows[place], -1)

    def _key(self, elements: np.ndarray) -> np.ndarray:
        return elements[:, :N_SITES].astype(np.int64) @ self._base


class LabelReward(Reward):
    """Base of rewards that look up a label of the finished crystal.

    Components in info: what the label and the skeleton say (NaN where they are missing);
    ``labelled``, 1 where the label is known, else 0; and ``regret``, the best reward that any
    crystal with a known label has on this skeleton, minus the reward.

    Args:
        label: its name in ``collection.labels``.
        missing: what is paid where the label is not known, because it is not at hand or because
            the collection holds no such crystal. ``worst``: what the subclass calls so; ``nan``:
            NaN; ``error``: nothing, a ``RewardError`` is raised.

    Raises:
        UnknownNameError: no such policy.
    """

    def __init__(self, label: str, missing: str) -> None:
        if missing not in MISSING:
            raise UnknownNameError("policy for missing labels", missing, MISSING)
        self.label = label
        self.labels = (label,)
        self.missing = missing

    def prepare(self, table: EpisodeTable) -> None:
        """Look at the labels, and find the optimum of every skeleton."""
        self.extremes(label_table(table, self.label))

    def coverage(self, table: EpisodeTable) -> float:
        """The share of the collection's crystals whose label is known."""
        return label_table(table, self.label).coverage

    def best(self, table: EpisodeTable, crystal: np.ndarray) -> np.ndarray:
        """The highest reward that a crystal with a known label has on these skeletons, (k,)."""
        return self.extremes(label_table(table, self.label))[0][crystal]

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The value of the crystal's label, and the components that the class tells.

        Raises:
            RewardError: a label is missing and the policy is ``error``.
        """
        labels = label_table(table, self.label)
        found = labels.find(elements)
        values, parts = self.judge(labels, crystal, found)
        values, *rest = (np.where(found < 0, np.nan, each) for each in (values, *parts.values()))
        labelled = ~np.isnan(values)
        best, worst = self.extremes(labels)
        if not labelled.all():
            if self.missing == "error":
                first = int(np.argmin(labelled))
                raise RewardError(
                    f"No {self.label!r} is known of "
                    f"{describe_crystal(table, crystal[first], elements[first])}. "
                    + (
                        _where_labels_are()
                        if found[first] >= 0
                        else f"{table.collection.name} holds no crystal with these elements on "
                        "these sites; another policy for missing labels lives with that."
                    )
                )
            if self.missing == "worst":
                values = np.where(labelled, values, worst)
        return values, {
            **dict(zip(parts, rest, strict=True)),
            "labelled": labelled.astype(np.float64),
            "regret": best[crystal] - values,
        }

    def judge(
        self, labels: LabelTable, skeleton: np.ndarray, found: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Rewards and components of crystals put on skeletons.

        Args:
            labels: the collection's labels.
            skeleton: rows of the collection, (k,): whose lattice.
            found: rows of the collection, (k,): whose elements; answers for -1 are dropped.

        Returns:
            Rewards, (k,), NaN where the label is not known, and components by name, each (k,).
        """
        raise NotImplementedError

    def extremes(self, labels: LabelTable) -> tuple[np.ndarray, float]:
        """The best known reward of each skeleton, (C,), and the one that is paid as the worst."""
        raise NotImplementedError


@functools.lru_cache(maxsize=4)
def label_table(table: EpisodeTable, label: str) -> LabelTable:
    """The ``LabelTable`` of these crystals, made once."""
    return LabelTable(table, label)


def _check_cells(collection: CrystalCollection, label: str) -> None:
    lengths, angles = collection.parameters[:, :3], collection.parameters[:, 3:]
    if (
        (collection.n_sites != N_SITES).any()
        or not np.allclose(lengths, lengths[:, :1])
        or not np.allclose(angles, 90)
    ):
        raise CrystalGymError(
            f"{label!r} is looked up by the elements on the sites A, B, X1, X2, X3 of a cubic "
            f"cell, and {collection.name!r} has other cells. Use collection 'perov-5'."
        )


def _check_labelled_once(collection: CrystalCollection, label: str, keys: np.ndarray) -> None:
    """Refuse two labels for the same elements; keys are (C,), -1 where there is no label."""
    distinct, counts = np.unique(keys[keys >= 0], return_counts=True)
    if (counts > 1).any():
        one, other, *_ = np.flatnonzero(keys == distinct[np.argmax(counts > 1)])
        raise CrystalGymError(
            f"{collection.name!r} gives {label!r} of {collection.formula(int(one))} twice, by the "
            f"crystals {str(collection.ids[one])!r} and {str(collection.ids[other])!r}: which is "
            "meant? Keep one of them."
        )


def _check_label(collection: CrystalCollection, label: str) -> None:
    if np.isfinite(collection.labels.get(label, np.nan)).any():
        return
    hint = (
        _where_labels_are()
        if collection.name.startswith("perov-5")
        else "Collection 'perov-5' has such labels."
    )
    raise MissingDataError(f"No {label!r} is known of any crystal of {collection.name!r}. {hint}")


def _where_labels_are() -> str:
    from crystal_gym.collections.perov5 import LABELS

    files = ", ".join(file.name for file in LABELS.values())
    return (
        f"The labels of Perov-5 are in CDVAE's {files}: fetch them by `crystal-gym prepare "
        f"perov-5 --labels`, or put copies into a folder and set {settings.DATA_VARIABLE} to it."
    )
