"""Targets of conditional policies: the labels that a policy can be asked for."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, TargetRangeWarning

# Requested values by name, or an array (…, T) in the order of the names, NaN for no request.
TargetValues = Mapping[str, float] | np.ndarray


@dataclass(frozen=True)
class PolicyTargets:
    """The T labels that a conditional policy can be asked for, with their training statistics.

    Attributes:
        names: Names of the labels.
        mean: Mean of each label over the training crystals, T.
        deviation: Standard deviation of each label, T, 1 if the label is constant.
        low: Lowest value of each label, T.
        high: Highest value of each label, T.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def from_labels(cls, names: Sequence[str], labels: np.ndarray) -> "PolicyTargets":
        """Return the targets with the statistics of training labels.

        Args:
            names: Names of the labels, T.
            labels: Labels of the training crystals, (C, T), NaN where unknown.

        Raises:
            CrystalGymError: If a label is unknown for all crystals.
        """
        unknown = ~np.isfinite(labels).any(axis=0)
        if unknown.any():
            raise CrystalGymError(
                f"Expected training crystals with the label {names[int(np.argmax(unknown))]!r}, "
                "got none. Use another label, or download the labels with `crystal-gym prepare`."
            )
        statistics = [
            np.nanmean(labels, axis=0),
            np.nanstd(labels, axis=0),
            np.nanmin(labels, axis=0),
            np.nanmax(labels, axis=0),
        ]
        statistics[1][statistics[1] == 0] = 1
        return cls(tuple(names), *(tuple(values.tolist()) for values in statistics))

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "PolicyTargets":
        """Return the targets of a record of ``as_record``.

        Raises:
            ValueError: If the record is not one of targets.
        """
        if not isinstance(record, dict) or set(record) != set(cls.__dataclass_fields__):
            raise ValueError("expected names, mean, deviation, low and high in targets")
        targets = cls(**{name: tuple(values) for name, values in record.items()})
        statistics = np.array([targets.mean, targets.deviation, targets.low, targets.high], float)
        if statistics.shape != (4, len(targets.names)) or not np.isfinite(statistics).all():
            raise ValueError("expected finite statistics of each label in targets")
        return targets

    def as_record(self) -> dict[str, Any]:
        """Return the targets as plain values."""
        return {name: list(values) for name, values in asdict(self).items()}

    def standardize(self, values: TargetValues, *, clip: bool = False) -> np.ndarray:
        """Return requested values relative to the mean, in units of the deviation.

        Args:
            values: Requested values by name, or an array (…, T). Labels that are missing or NaN are
                not requested.
            clip: Move values outside the range of the training labels to its ends, for drawn
                targets.

        Returns:
            float32 (T,) or (…, T), NaN where a label is not requested.

        Raises:
            CrystalGymError: If a name is unknown, or a value is outside the range of the training
                labels.
        """
        if isinstance(values, Mapping):
            unknown = [name for name in values if name not in self.names]
            if unknown:
                raise CrystalGymError(
                    f"Expected targets among {', '.join(self.names)}, for which the policy was "
                    f"trained, got {unknown[0]!r}."
                )
            values = np.array([values.get(name, np.nan) for name in self.names], np.float64)
        values = np.asarray(values, np.float64)
        if values.shape[-1:] != (len(self.names),):
            raise CrystalGymError(
                f"Expected one value for each of {', '.join(self.names)}, got an array of shape "
                f"{values.shape}."
            )
        if clip:
            values = np.clip(values, self.low, self.high)
        problem = self._outside(values)
        if problem:
            raise CrystalGymError(f"{problem} Choose a value in this range.")
        return ((values - self.mean) / self.deviation).astype(np.float32)

    def standardize_episodes(self, values: np.ndarray) -> np.ndarray:
        """Return the targets of episodes as ``standardize`` does, moved to the range of the labels.

        Args:
            values: Requested values, (..., T).

        Warns:
            TargetRangeWarning: If a value is outside the range of the training labels.
        """
        standardized = self.standardize(values, clip=True)
        problem = self._outside(np.asarray(values, np.float64))
        if problem:
            warnings.warn(
                f"{problem} The nearest end of the range is requested instead.",
                TargetRangeWarning,
                stacklevel=4,
            )
        return standardized

    def _outside(self, values: np.ndarray) -> str:
        """Describe the first value, of (..., T), outside the range; empty if there is none."""
        # Labels in single precision may be outside by rounding.
        tolerance = 1e-5 * np.array(self.deviation)
        outside = (values < self.low - tolerance) | (values > self.high + tolerance)
        if not outside.any():
            return ""
        column = int(np.argmax(outside.reshape(-1, len(self.names)).any(axis=0)))
        value = values[..., column][outside[..., column]].flat[0]
        return (
            f"Expected {self.names[column]} from {self.low[column]:g} to {self.high[column]:g}, "
            f"the range of the training labels, got {value:g}."
        )

    def observed(self, observation: Mapping[str, np.ndarray], focus: Tensor) -> Tensor | None:
        """Return the standardized targets of B observations, (B, T); ``None`` for no request.

        Args:
            observation: One observation or B of them; those without ``target`` request nothing.
            focus: Their sites in focus, (B,), which determines the device.
        """
        if "target" not in observation:
            return None
        values = self.standardize_episodes(np.asarray(observation["target"]))
        return torch.as_tensor(values, device=focus.device).view(len(focus), -1)


def require_conditional(targets: PolicyTargets | None) -> PolicyTargets:
    """Return the targets of a policy.

    Raises:
        CrystalGymError: If the policy is unconditional.
    """
    if targets is None:
        raise CrystalGymError(
            "Expected a conditional policy, which a target requires, got one that was trained "
            "without targets. Train a policy with `crystal-gym train COLLECTION --target LABEL`."
        )
    return targets


class EpisodeTargets:
    """The standardized targets of the episodes of a scorer.

    Args:
        targets: The labels of the policy; ``None``: it is unconditional.
        table: The crystals.
        target: Requested labels by name for all crystals, ``{}`` for no request, or an array (C, T)
            with those of each crystal (default: the targets of the episodes if they are those of
            the policy, otherwise none).

    Raises:
        CrystalGymError: If a target is invalid, or given to an unconditional policy.
    """

    def __init__(
        self,
        targets: PolicyTargets | None,
        table: EpisodeTable,
        target: TargetValues | None = None,
    ) -> None:
        self._fixed = None
        if target is not None:
            values = require_conditional(targets).standardize(target)
            self._fixed = np.broadcast_to(values, (len(table.n_sites), values.shape[-1]))
        self._drawn = None
        if target is None and targets is not None and targets.names == table.target_names:
            self._drawn = targets

    def __call__(self, state: EpisodeState, focus: Tensor) -> Tensor | None:
        """Return the targets of a batch of K x S episodes, (K, S, T); ``None`` for no request.

        Args:
            state: The episodes.
            focus: Their sites in focus, (K, S), which determines the shape and the device.
        """
        if self._fixed is not None:
            values = self._fixed[state.crystal]
        elif self._drawn is not None:
            values = self._drawn.standardize_episodes(state.target)
        else:
            return None
        return torch.as_tensor(values, device=focus.device).view(*focus.shape, -1)
