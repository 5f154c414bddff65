"""Targets of goal-conditioned episodes: the requested values of labels."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.episode.kept_sites import scale
from crystal_gym.errors import CrystalGymError, TargetRangeWarning, UnknownNameError
from crystal_gym.rewards.validation import require_finite

_log = logging.getLogger(__name__)

TARGET_ORIGINS = ("own", "split")

# Names of labels, whose values are drawn, or a mapping to fixed values.
TargetLike = str | Sequence[str] | Mapping[str, float] | None


class TargetDraw:
    """The choice of the target of each episode.

    Args:
        target: Names of T labels, whose values are drawn; a mapping to fixed values; or ``None``.
        target_from: ``own``: the labels of the crystal of the episode; ``split``: the labels of a
            crystal drawn from the split.

    Attributes:
        names: Names of the labels, T.
        fixed: The fixed values, float32 (T,), or ``None`` if targets are drawn.

    Raises:
        CrystalGymError: If ``target`` is invalid.
        UnknownNameError: If ``target_from`` does not exist.
    """

    def __init__(self, target: TargetLike = None, target_from: str = "own") -> None:
        if target_from not in TARGET_ORIGINS:
            raise UnknownNameError("target_from", target_from, TARGET_ORIGINS)
        self.fixed: np.ndarray | None = None
        names = (target,) if isinstance(target, str) else tuple(target or ())
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise CrystalGymError(
                "Expected target to be different names of labels, or a mapping from names to "
                f"values, got {target!r}."
            )
        self.names = names
        if isinstance(target, Mapping):
            values = [require_finite(target[name], f"the target {name!r}") for name in names]
            self.fixed = np.array(values, np.float32)
        self._from_split = target_from == "split"

    @property
    def drawn_from_split(self) -> bool:
        """Whether targets are the labels of a crystal drawn from the split."""
        return bool(self.names) and self.fixed is None and self._from_split

    def select_rows(self, table: EpisodeTable, rows: np.ndarray) -> np.ndarray:
        """Select the crystals of a split whose labels can be targets.

        Args:
            table: The crystals.
            rows: Rows of the table, (k,).

        Returns:
            Those of the rows whose labels are all known; all rows if no targets are drawn.

        Raises:
            CrystalGymError: If the labels of no crystal are known.

        Warns:
            TargetRangeWarning: If a fixed value is outside the range of the collection's labels.
        """
        if self.fixed is not None:
            self._warn_outside(table, self.fixed)
        if not self.names or self.fixed is not None:
            return rows
        known = rows[np.isfinite(table.targets[rows]).all(axis=1)]
        name = table.collection.name
        if not known.size:
            raise CrystalGymError(
                f"Expected crystals of {name!r} with the labels {', '.join(self.names)}, got none "
                "in this split. Use another split or other labels."
            )
        if known.size < rows.size:
            _log.warning(
                "%s: the labels %s are unknown for %s of %s crystals, which are never targets.",
                name,
                ", ".join(self.names),
                f"{rows.size - known.size:,}",
                f"{rows.size:,}",
            )
        return known

    def draw(
        self,
        table: EpisodeTable,
        rows: np.ndarray,
        crystal: Any,
        uniform: Any,
        given: Any,
    ) -> np.ndarray | None:
        """Return the targets of episodes.

        Args:
            table: The crystals.
            rows: Rows of the table whose labels can be targets, (k,).
            crystal: The crystals of the episodes, an int or (B,).
            uniform: Random numbers in [0, 1), a float or (B,), if targets are drawn from the split.
            given: Values to use instead, T or (B, T), or a mapping from the names; or ``None``.

        Returns:
            float32 (T,) or (B, T); ``None`` for the labels of the crystals.

        Raises:
            CrystalGymError: If a value is not finite, or given values have another shape.

        Warns:
            TargetRangeWarning: If a given value is outside the range of the collection's labels.
        """
        shape = (*np.shape(crystal), len(self.names))
        if given is not None:
            values = self._given(given, shape)
            self._warn_outside(table, values)
            return values
        if not self.names:
            return None
        if self.fixed is not None:
            return np.broadcast_to(self.fixed, shape)
        chosen = rows[scale(uniform, len(rows))] if self._from_split else crystal
        targets = table.targets[chosen]
        if not np.isfinite(targets).all():
            row = np.ravel(chosen)[int(np.argmin(np.isfinite(np.atleast_2d(targets)).all(axis=1)))]
            raise CrystalGymError(
                f"Expected a crystal whose labels {', '.join(self.names)} are known, got "
                f"{str(table.collection.ids[row])!r}. Choose another crystal or pass a target."
            )
        return targets

    def _given(self, given: Any, shape: tuple[int, ...]) -> np.ndarray:
        if isinstance(given, Mapping):
            if set(given) != set(self.names):
                raise CrystalGymError(
                    f"Expected reset option 'target' with the names {list(self.names)}, got "
                    f"{list(given)}. Set `target` when the environment is made."
                )
            given = np.stack([np.asarray(given[name]) for name in self.names], axis=-1)
        values = np.asarray(given, np.float32)
        if values.shape not in {shape, shape[-1:]} or not np.isfinite(values).all():
            raise CrystalGymError(
                f"Expected finite values of shape {shape[-1:]} for reset option 'target' (one for "
                f"each of {list(self.names)}), got {given!r}."
            )
        return np.broadcast_to(values, shape)

    def _warn_outside(self, table: EpisodeTable, values: np.ndarray) -> None:
        """Warn if one of the values, (..., T), is outside the range of the known labels."""
        for column, name in enumerate(self.names):
            labels = table.targets[:, column]
            if not np.isfinite(labels).any():
                continue
            low, high = np.nanmin(labels), np.nanmax(labels)
            asked = values[..., column].ravel()
            outside = asked[(asked < low) | (asked > high)]
            if outside.size:
                warnings.warn(
                    f"Expected the target {name!r} from {low:g} to {high:g}, the range of the "
                    f"labels of {table.collection.name!r}, got {outside[0]:g}. No crystal of the "
                    "collection has this label; choose a value in the range.",
                    TargetRangeWarning,
                    stacklevel=5,
                )
