"""A mixin for algorithms of Stable-Baselines3 that train only the critic at first."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from crystal_agents.online.features_extractor import SkeletonFeatures


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Replace subnormal numbers by zero in this thread.

    Probabilities of a cloned policy are as small as 1e-30. Their gradients are subnormal, and
    matrix products with such numbers are several times slower.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def get_features_extractor(policy: BasePolicy) -> SkeletonFeatures:
    """Return the features extractor with the network that acts."""
    return cast(SkeletonFeatures, getattr(policy, "q_net", policy).features_extractor)


class FrozenActorWarning(UserWarning):
    """Issued when a call of ``learn`` ends before the first update of the actor."""


class CriticWarmUpMixin(BaseAlgorithm):
    """Mixin for algorithms that train only the critic at first.

    The actor's weights do not change during this warm-up.

    Attributes:
        critic_warm_up: Length of the warm-up in steps of all environments. If it is above 0, it
            includes at least the first update, for any length of the rollouts.
        actor_was_updated: Whether the last call of ``learn`` updated the actor.
    """

    critic_warm_up: int = 0
    actor_was_updated: bool = False

    @property
    def actor_is_frozen(self) -> bool:
        """Whether only the critic is currently trained."""
        if not self.critic_warm_up:
            return False
        return self.num_timesteps <= self.critic_warm_up or self._n_updates == 0

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Update the networks from the collected data."""
        # The optimizer does not change weights without gradients.
        extractor = get_features_extractor(self.policy)
        frozen = self.actor_is_frozen
        extractor.require_gradients(not frozen)
        with flushed_denormals():
            super().train(*args, **kwargs)  # type: ignore[misc] - a mixin before an algorithm
        extractor.require_gradients(True)
        self.actor_was_updated |= not frozen

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Self:
        """Learn for a number of steps of all environments.

        Warns:
            FrozenActorWarning: If training ends before the first update of the actor.
        """
        self.actor_was_updated = False
        super().learn(total_timesteps, *args, **kwargs)
        if self.critic_warm_up and not self.actor_was_updated:
            warnings.warn(
                f"Only the critic learned in {self.num_timesteps:,} steps: its warm-up covers "
                f"critic_warm_up={self.critic_warm_up:,} steps and at least one update. The actor "
                "is unchanged. Train for more steps, continue with learn(..., "
                "reset_num_timesteps=False), or set critic_warm_up=0.",
                FrozenActorWarning,
                stacklevel=2,
            )
        return self
