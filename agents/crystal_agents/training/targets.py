"""Targets of conditional behavioral cloning: the labels of the crystals of each transition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from crystal_agents.policies.targets import PolicyTargets
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions
    from crystal_gym.collections.collection import CrystalCollection


@dataclass(frozen=True, eq=False)
class SkeletonTargets:
    """The own labels of the crystals of transitions, as targets of a conditional policy.

    Attributes:
        targets: Names and statistics of the T labels, to store with the policy.
        values: Standardized labels of each skeleton, float32 (S, T), NaN where unknown.
        dropout: Probability with which all labels of a skeleton are dropped from a batch, so that
            the network also learns the unconditional policy, which guidance requires.
    """

    targets: PolicyTargets
    values: np.ndarray
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise CrystalGymError(f"Expected target_dropout from 0 to 1, got {self.dropout}.")

    @classmethod
    def from_labels(
        cls,
        data: "Transitions",
        collection: "CrystalCollection",
        names: Sequence[str],
        dropout: float = 0.1,
    ) -> "SkeletonTargets":
        """Return the labels of the crystals of training transitions.

        Args:
            data: Transitions of crystals of the collection.
            collection: The collection.
            names: Names of the labels.
            dropout: See ``SkeletonTargets``.

        Raises:
            UnknownNameError: If the collection has no label of this name.
            CrystalGymError: If a label is unknown for all crystals of the transitions.
        """
        labels = _labels(data, collection, names)
        targets = PolicyTargets.from_labels(names, labels)
        return cls(targets, targets.standardize(labels), dropout)

    def drop(self, target: Tensor, draws: Tensor) -> Tensor:
        """Drop the targets of some skeletons.

        Args:
            target: Standardized labels, (S, T).
            draws: Uniform random numbers in [0, 1), (S,).

        Returns:
            The labels, NaN where they are dropped, (S, T).
        """
        dropped = draws.to(target.device)[:, None] < self.dropout
        return torch.where(dropped, torch.nan, target)


def standardized_labels(
    data: "Transitions", collection: "CrystalCollection", targets: PolicyTargets
) -> np.ndarray:
    """Return the labels of the crystals of held-out transitions, float32 (S, T), NaN if unknown.

    Args:
        data: Transitions of crystals of the collection.
        collection: The collection.
        targets: The labels of the policy. Values outside their range are moved to its ends.
    """
    return targets.standardize(_labels(data, collection, targets.names), clip=True)


def _labels(
    data: "Transitions", collection: "CrystalCollection", names: Sequence[str]
) -> np.ndarray:
    for name in names:
        if name not in collection.labels:
            raise UnknownNameError(f"label of {collection.name!r}:", name, collection.labels)
    rows = [collection.index(str(crystal)) for crystal in data.skeleton_ids]
    return np.stack([collection.labels[name][rows] for name in names], axis=1)
