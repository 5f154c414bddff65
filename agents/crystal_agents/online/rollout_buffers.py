"""Rollout buffers for episodes on skeletons."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from torch import Tensor


class _SkeletonBufferMixin(RolloutBuffer):
    """Mixin with minibatches of whole episodes and, on request, a floor of the advantages.

    Blocks of consecutive steps of one environment are shuffled, not single steps. A block is as
    long as the longest episode. If all episodes have this length, a block is one episode, and its
    states share the encoding of their skeleton's geometry.

    Args:
        args: Positional arguments of the buffer of Stable-Baselines3.
        advantage_floor: Quantile of a rollout's advantages. Lower advantages are raised to it, so
            that the policy learns from the best actions, and very low rewards do not dominate the
            normalization of the advantages. This is a form of the risk-seeking policy gradient
            (Petersen et al., 2021). 0: advantages do not change.
        settings: Keyword arguments of the buffer of Stable-Baselines3.
    """

    def __init__(self, *args: Any, advantage_floor: float = 0.0, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.advantage_floor = advantage_floor

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Compute returns and advantages of the rollout."""
        super().compute_returns_and_advantage(last_values, dones)
        floor = np.quantile(self.advantages, self.advantage_floor)
        self.advantages = np.maximum(self.advantages, floor.astype(np.float32))

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        """Yield minibatches of ``batch_size`` steps, the last one smaller; all steps by default."""
        # The first item makes the parent concatenate the steps of each environment.
        next(super().get(1))
        total = self.buffer_size * self.n_envs
        block = cast(Any, self.observation_space)["element"].shape[0]
        order = np.random.permutation(-(-total // block))  # noqa: NPY002 - SB3's own generator
        steps = (order[:, None] * block + np.arange(block)).ravel()
        steps = steps[steps < total]
        size = batch_size or total
        for first in range(0, total, size):
            yield self._get_samples(steps[first : first + size])


class SkeletonRolloutBuffer(_SkeletonBufferMixin, DictRolloutBuffer):
    """Rollout buffer of PPO and A2C."""


class MaskableSkeletonRolloutBuffer(_SkeletonBufferMixin, MaskableDictRolloutBuffer):
    """Rollout buffer of MaskablePPO."""
