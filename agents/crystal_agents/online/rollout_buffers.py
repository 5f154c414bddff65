"""Rollout buffers whose minibatches keep the states of a skeleton together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer


class _BlockShuffleMixin:
    """Mixin that shuffles blocks of consecutive steps of one environment, not single steps.

    A block is as long as the longest episode. If all episodes have this length, a block is one
    episode, and its states share the encoding of their skeleton's geometry.
    """

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        """Yield minibatches of ``batch_size`` steps, the last one smaller; all steps by default."""
        # The first item makes the parent concatenate the steps of each environment.
        next(super().get(1))  # type: ignore[misc] - a mixin before a rollout buffer
        total = self.buffer_size * self.n_envs  # type: ignore[attr-defined] - as above
        block = self.observation_space["element"].shape[0]  # type: ignore[attr-defined] - as above
        order = np.random.permutation(-(-total // block))  # noqa: NPY002 - SB3's own generator
        steps = (order[:, None] * block + np.arange(block)).ravel()
        steps = steps[steps < total]
        size = batch_size or total
        for first in range(0, total, size):
            yield self._get_samples(steps[first : first + size])  # type: ignore[attr-defined] - as above


class SkeletonRolloutBuffer(_BlockShuffleMixin, DictRolloutBuffer):
    """Rollout buffer of PPO and A2C."""


class MaskableSkeletonRolloutBuffer(_BlockShuffleMixin, MaskableDictRolloutBuffer):
    """Rollout buffer of MaskablePPO."""
