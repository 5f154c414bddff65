"""Reward for reaching the target of a goal-conditioned episode."""

import functools

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, RewardError, UnknownNameError
from crystal_gym.rewards.failure_handling import describe_crystal
from crystal_gym.rewards.label_lookup import MISSING, LabelTable, label_table
from crystal_gym.rewards.reward import Reward


class TargetReward(Reward):
    """Minus the distance between the labels of the finished crystal and the target, at the end.

    With T labels y and targets t, the reward is -(1/T) Σ |y - t| / s, where s is the standard
    deviation of the label over the collection. The labels are looked up by the elements on the
    sites, as in ``Perov5DftReward``; the lattice of the skeleton has no effect. The environment
    needs the argument ``target``.

    Components: ``distance``, minus the reward, NaN where a label is missing; ``labeled``, 1 where
    all labels are known, else 0.

    Args:
        missing: The reward where a label is unknown, or where no crystal of the collection has
            these elements. ``worst``: minus the distance of the label farthest from the target;
            ``nan``: NaN; ``error``: raise a ``RewardError``.

    Raises:
        UnknownNameError: If the policy for missing labels does not exist.
    """

    components = ("distance", "labeled")

    def __init__(self, missing: str = "worst") -> None:
        if missing not in MISSING:
            raise UnknownNameError("policy for missing labels", missing, MISSING)
        self.missing = missing

    def prepare(self, table: EpisodeTable) -> None:
        """Check that the environment has a target and the collection its labels.

        Args:
            table: The crystals.

        Raises:
            CrystalGymError: If there is no target, or the collection has no such labels or other
                cells than Perov-5.
        """
        self.labels = table.target_names
        _label_tables(table)

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Look up the labels and compute the distances.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The rewards, (k,), and the components.

        Raises:
            RewardError: If a label is missing and the policy is ``error``.
        """
        distances, largest = [], []
        for column, labels in enumerate(_label_tables(table)):
            target = state.target[:, column]
            spread, lowest, highest = _spread(labels)
            found = labels.find(state.elements)
            values = np.where(found < 0, np.nan, labels.values[found])
            distances.append(np.abs(values - target) / spread)
            largest.append(np.maximum(highest - target, target - lowest) / spread)
        distance = np.mean(distances, axis=0)
        labeled = ~np.isnan(distance)
        reward = -distance
        if not labeled.all():
            if self.missing == "error":
                first = int(np.argmin(labeled))
                place = describe_crystal(table, state.crystal[first], state.elements[first])
                raise RewardError(
                    f"The labels {', '.join(table.target_names)} of {place} are unknown. Use the "
                    "policy 'worst' or 'nan' for missing labels."
                )
            if self.missing == "worst":
                reward = np.where(labeled, reward, -np.mean(largest, axis=0))
        return reward, {"distance": distance, "labeled": labeled.astype(np.float64)}


def _label_tables(table: EpisodeTable) -> list[LabelTable]:
    if not table.target_names:
        raise CrystalGymError(
            "Expected an environment with targets for the reward 'target', got one without. Pass "
            "target, such as target=['dir_gap'] for collection 'perov-5'."
        )
    return [label_table(table, name) for name in table.target_names]


@functools.lru_cache(maxsize=16)
def _spread(labels: LabelTable) -> tuple[float, float, float]:
    """Return the standard deviation, the lowest and the highest of the known labels."""
    known = labels.values[labels.labeled]
    return float(known.std()) or 1.0, float(known.min()), float(known.max())
