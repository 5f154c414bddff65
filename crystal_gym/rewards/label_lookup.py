"""Labels of cubic perovskites, looked up by the elements on their sites."""

import functools
import logging
from collections.abc import Sequence

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

# Labels by version of the heat of formation.
HEATS = {"original": "heat_all", "corrected": "heat_all_corrected"}


class LabelTable:
    """Labels of all crystals in a collection of cubic ABX3 cells, over all splits.

    Args:
        table: The crystals, with sites in the order A, B, X1, X2, X3.
        names: Names of the labels in ``collection.labels``, at least one.

    Attributes:
        columns: The labels of each crystal by name, float64 (C,), NaN where they are unknown.
        labeled: Whether all these labels are known, bool (C,).
        lattice_constant: Lattice constant in Å, float64 (C,).
        coverage: Fraction of crystals whose labels are known.

    Raises:
        CrystalGymError: If the cells are not cubic with five sites, or two labeled crystals have
            the same elements on the same sites.
        MissingDataError: If no crystal has one of the labels.
    """

    def __init__(self, table: EpisodeTable, *names: str) -> None:
        collection = table.collection
        described = _describe(names)
        _check_cells(collection, described)
        _check_labels(collection, names)
        self.columns = {name: collection.labels[name] for name in names}
        self.labeled = np.logical_and.reduce([np.isfinite(v) for v in self.columns.values()])
        self.lattice_constant = collection.parameters[:, 0]
        self.coverage = float(self.labeled.mean())
        # The codes of five elements are the digits of one number.
        self._base = (table.n_elements + 1) ** np.arange(N_SITES)
        keys = self._key(table.true_elements)
        _check_duplicates(collection, described, np.where(self.labeled, keys, -1))
        # Among crystals with the same elements, prefer the labeled one.
        labeled_first = np.argsort(~self.labeled, kind="stable")
        self._keys, first = np.unique(keys[labeled_first], return_index=True)
        self._rows = labeled_first[first]
        if self.coverage < 1:
            _log.warning(
                "%s: %s known for %s of %s crystals (%.0f %%). The labels of all others are "
                "missing, and regret is relative to the known labels. %s",
                collection.name,
                f"{described} {'is' if len(names) == 1 else 'are'}",
                f"{self.labeled.sum():,}",
                f"{len(collection):,}",
                100 * self.coverage,
                _how_to_get_labels(names),
            )

    @property
    def values(self) -> np.ndarray:
        """The first label of each crystal, float64 (C,), NaN where it is unknown."""
        return next(iter(self.columns.values()))

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
    """Base class of rewards that look up labels of the finished crystal.

    Components: those of ``score``, NaN where a label is missing; ``labeled``, 1 where the labels
    are known, else 0; and ``regret``, the best reward of any labeled crystal on this skeleton minus
    the reward.

    Attributes:
        scores: Names of the components that ``score`` returns.

    Args:
        labels: Names of the labels in ``collection.labels``.
        missing: The reward where a label is unknown, or where no crystal of the collection has
            these elements. ``worst``: the value of ``worst_reward``; ``nan``: NaN; ``error``: raise
            a ``RewardError``.

    Raises:
        UnknownNameError: If the policy for missing labels does not exist.
    """

    scores: tuple[str, ...] = ()

    def __init__(self, labels: tuple[str, ...], missing: str) -> None:
        self.components = (*self.scores, "labeled", "regret")
        if missing not in MISSING:
            raise UnknownNameError("policy for missing labels", missing, MISSING)
        self.labels = labels
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
        self.best_rewards(label_table(table, *self.labels))

    def coverage(self, table: EpisodeTable) -> float:
        """Return the fraction of the collection's crystals whose labels are known."""
        return label_table(table, *self.labels).coverage

    def best(self, table: EpisodeTable, crystal: np.ndarray) -> np.ndarray:
        """Return the highest reward of a labeled crystal on given skeletons.

        Args:
            table: The crystals.
            crystal: Rows of the table, (k,).

        Returns:
            Rewards, (k,).
        """
        return self.best_rewards(label_table(table, *self.labels))[crystal]

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
        labels = label_table(table, *self.labels)
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
                place = describe_crystal(table, crystal[first], elements[first])
                raise RewardError(
                    f"Expected labels {_describe(self.labels)} of {place}, got none. "
                    + (
                        _how_to_get_labels(self.labels)
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


@functools.lru_cache(maxsize=8)
def label_table(table: EpisodeTable, *names: str) -> LabelTable:
    """Return the ``LabelTable`` of the crystals, made once for each table and these labels."""
    return LabelTable(table, *names)


def heat_label(heat: str) -> str:
    """Return the name of the label of a heat of formation of Perov-5.

    Args:
        heat: ``original``, the published heats, which are also in CDVAE's files; or ``corrected``,
            in which the heats of 1,604 oxyfluorides are lower by 0.02 to 0.62 eV/atom.

    Raises:
        UnknownNameError: If there is no such heat.
    """
    if not isinstance(heat, str) or heat not in HEATS:
        raise UnknownNameError("heat of formation", heat, HEATS)
    return HEATS[heat]


def _check_cells(collection: CrystalCollection, labels: str) -> None:
    lengths, angles = collection.parameters[:, :3], collection.parameters[:, 3:]
    if (
        (collection.n_sites != N_SITES).any()
        or not np.allclose(lengths, lengths[:, :1])
        or not np.allclose(angles, 90)
    ):
        raise CrystalGymError(
            f"Expected cubic cells with the sites A, B, X1, X2, X3 for the labels {labels}, but "
            f"{collection.name!r} has other cells. Use collection 'perov-5'."
        )


def _check_labels(collection: CrystalCollection, names: tuple[str, ...]) -> None:
    """Raise if one of the labels is unknown for all crystals."""
    missing = [name for name in names if not np.isfinite(collection.labels.get(name, np.nan)).any()]
    if not missing:
        return
    hint = (
        _how_to_get_labels(missing)
        if collection.name.startswith("perov-5")
        else "Use collection 'perov-5', which has such labels."
    )
    raise MissingDataError(
        f"Expected the labels {_describe(missing)} of {collection.name!r}, which are unknown for "
        f"all crystals. {hint}"
    )


def _check_duplicates(collection: CrystalCollection, labels: str, keys: np.ndarray) -> None:
    """Raise if two labels belong to the same elements; keys are (C,), -1 where unlabeled."""
    distinct, counts = np.unique(keys[keys >= 0], return_counts=True)
    if (counts > 1).any():
        first, second, *_ = np.flatnonzero(keys == distinct[np.argmax(counts > 1)])
        raise CrystalGymError(
            f"Expected one set of labels {labels} of {collection.formula(int(first))} in "
            f"{collection.name!r}, got two, of the crystals {str(collection.ids[first])!r} and "
            f"{str(collection.ids[second])!r}. Keep one of them."
        )


def _describe(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _how_to_get_labels(names: Sequence[str]) -> str:
    from crystal_gym.collections.perov5_labels import label_files

    files = ", ".join(dict.fromkeys(file.name for name in names for file in label_files(name)))
    return (
        f"In Perov-5, these labels are from {files}. Download them with `crystal-gym prepare "
        f"perov-5 --labels`, or set {settings.DATA_VARIABLE} to a folder with copies."
    )
