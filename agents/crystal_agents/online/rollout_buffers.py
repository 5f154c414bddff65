"""Rollout buffers whose minibatches keep the states of a skeleton together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer


class _InBlocks:
    """Shuffle blocks of consecutive steps of one environment in the place of single steps.

    A block is as long as the longest episode, and where all are of this length it is an episode:
    its states share the reading of their skeleton's geometry.
    """

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        """Minibatches of about this many steps; all steps by default."""
        # At its first item the parent lays the steps of each environment end to end.
        next(super().get(1))  # type: ignore[misc] - a mix-in before a rollout buffer
        total = self.buffer_size * self.n_envs  # type: ignore[attr-defined] - as above
        block = self.observation_space["element"].shape[0]  # type: ignore[attr-defined] - as above
        order = np.random.permutation(-(-total // block))  # noqa: NPY002 - SB3's own generator
        steps = (order[:, None] * block + np.arange(block)).ravel()
        steps = steps[steps < total]
        size = batch_size or total
        for first in range(0, total, size):
            yield self._get_samples(steps[first : first + size])  # type: ignore[attr-defined] - as above


class SkeletonRolloutBuffer(_InBlocks, DictRolloutBuffer):
    """For PPO and A2C."""


class MaskableSkeletonRolloutBuffer(_InBlocks, MaskableDictRolloutBuffer):
    """For MaskablePPO."""
