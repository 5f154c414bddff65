"""Algorithms of Stable-Baselines3 by name, adapted to start from a cloned actor."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from gymnasium.spaces import Discrete
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule

from crystal_agents.online.features_extractor import SkeletonFeatures
from crystal_agents.online.rollout_buffers import (
    MaskableSkeletonRolloutBuffer,
    SkeletonRolloutBuffer,
)
from crystal_agents.online.sb3_policies import (
    MaskableSkeletonActorCritic,
    SkeletonActorCritic,
    SkeletonDQNPolicy,
)
from crystal_gym.errors import CrystalGymError, UnknownNameError


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


class KLAnchorMixin(CriticWarmUpMixin, OnPolicyAlgorithm):
    r"""Mixin that adds a KL divergence to the loss, :math:`\beta\,KL(\pi \| \pi_0)`.

    :math:`\pi_0` is the initial policy.

    Attributes:
        anchor: :math:`\beta` as a function of the remaining fraction of the training; ``None``: no
            KL term.
    """

    anchor: Schedule | None = None

    def train(self) -> None:
        """Update the networks from the collected data."""
        strength = self.anchor(self._current_progress_remaining) if self.anchor else 0.0
        if strength == 0 or self.actor_is_frozen:
            return super().train()
        policy: Any = self.policy
        entropy_weight = self.ent_coef
        # The parent's loss subtracts `ent_coef` times the entropy that the policy returns.
        policy.regularization, self.ent_coef = (entropy_weight, strength), 1.0
        try:
            super().train()
        finally:
            policy.regularization, self.ent_coef = None, entropy_weight
        self.logger.record("train/anchor", strength)
        self.logger.record("train/anchor_kl", float(np.mean(policy.divergences)))
        self.logger.record("train/entropy_loss", -float(np.mean(policy.entropies)))
        policy.divergences.clear()
        policy.entropies.clear()
        return None


class SkeletonPPO(KLAnchorMixin, PPO):
    """PPO (Schulman et al., 2017)."""


class SkeletonA2C(KLAnchorMixin, A2C):
    """A2C, the synchronous form of A3C (Mnih et al., 2016)."""


class SkeletonMaskablePPO(KLAnchorMixin, MaskablePPO):
    """PPO that chooses among the elements that the mask allows (Huang and Ontañón, 2022)."""


class SkeletonDQN(CriticWarmUpMixin, DQN):
    """DQN (Mnih et al., 2015) with a dueling head (Wang et al., 2016).

    Each environment of a vector explores independently. Stable-Baselines3 draws once for all of
    them, so the fraction of random actions in a run would depend on few draws.
    """

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions; each is uniformly random with probability ``exploration_rate``.

        Args:
            observation: Observation of one environment or of B.
            state: State of a recurrent policy; returned unchanged.
            episode_start: Starts of episodes, for recurrent policies.
            deterministic: Do not explore.

        Returns:
            Actions, () or (B,), and the state.
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if deterministic:
            return actions, state
        rng, n = self.action_space.np_random, cast(Discrete, self.action_space).n
        explores = rng.random(actions.shape) < self.exploration_rate
        return np.where(explores, rng.integers(n, size=actions.shape), actions), state


@dataclass(frozen=True)
class Algorithm:
    """An algorithm with default settings for short episodes and a pretrained actor.

    Attributes:
        model: Class of the algorithm.
        policy: Class of its networks.
        settings: Keyword arguments of the algorithm.
        from_scratch: Keyword arguments that differ for training from random weights.
        rollout_steps: Steps of all environments between updates, for on-policy algorithms.
        minibatches: Largest number of equal parts into which a rollout is divided.
        critic_warm_up: Steps of a warm start in which only the critic learns.
        anchor: Initial coefficient of the KL divergence in a warm start.
    """

    ANCHORED: ClassVar = (SkeletonPPO, SkeletonA2C, SkeletonMaskablePPO)

    model: type[BaseAlgorithm]
    policy: type[BasePolicy]
    settings: Mapping[str, Any]
    from_scratch: Mapping[str, Any] = field(default_factory=dict)
    rollout_steps: int = 0
    minibatches: int = 1
    critic_warm_up: int = 0
    anchor: float = 0.0

    @property
    def supports_masks(self) -> bool:
        """Whether the algorithm respects the environment's mask."""
        return issubclass(self.model, MaskablePPO)

    @property
    def supports_anchor(self) -> bool:
        """Whether the policy is a distribution, which a KL divergence requires."""
        return issubclass(self.model, self.ANCHORED)

    def rollout_settings(self, num_envs: int, max_sites: int) -> dict[str, int]:
        """Return the sizes of rollouts and minibatches as keyword arguments of the algorithm.

        Rollouts are multiples of the longest episode.

        Args:
            num_envs: B.
            max_sites: N.
        """
        if not self.rollout_steps:
            return {}
        n_steps = max(1, round(self.rollout_steps / (num_envs * max_sites))) * max_sites
        if self.minibatches == 1:
            return {"n_steps": n_steps}
        total = n_steps * num_envs
        parts = next(parts for parts in range(self.minibatches, 0, -1) if total % parts == 0)
        return {"n_steps": n_steps, "batch_size": total // parts}


def _ppo(model: type[BaseAlgorithm], policy: type[BasePolicy], buffer: type) -> Algorithm:
    """Return PPO with or without masks."""
    return Algorithm(
        model,
        policy,
        {
            # Episodes are short: rewards are not discounted.
            "gamma": 1.0,
            "gae_lambda": 0.95,
            "learning_rate": 1e-4,
            "n_epochs": 4,
            "clip_range": 0.2,
            "ent_coef": 0.0,
            "rollout_buffer_class": buffer,
        },
        {"learning_rate": 3e-4, "ent_coef": 0.01},
        rollout_steps=640,
        minibatches=4,
        critic_warm_up=1_280,
        anchor=0.1,
    )


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": _ppo(SkeletonPPO, SkeletonActorCritic, SkeletonRolloutBuffer),
    "maskable-ppo": _ppo(
        SkeletonMaskablePPO, MaskableSkeletonActorCritic, MaskableSkeletonRolloutBuffer
    ),
    "a2c": Algorithm(
        SkeletonA2C,
        SkeletonActorCritic,
        {
            "gamma": 1.0,
            "gae_lambda": 0.95,
            "learning_rate": 1e-4,
            "use_rms_prop": False,
            "normalize_advantage": True,
            "rollout_buffer_class": SkeletonRolloutBuffer,
        },
        {"learning_rate": 3e-4, "ent_coef": 0.01},
        rollout_steps=640,
        critic_warm_up=10_240,
        anchor=0.1,
    ),
    "dqn": Algorithm(
        SkeletonDQN,
        SkeletonDQNPolicy,
        {
            "gamma": 1.0,
            "learning_rate": 1e-4,
            "buffer_size": 50_000,
            # Stable-Baselines3 would act at random until learning starts.
            "learning_starts": 0,
            "batch_size": 128,
            "train_freq": 1,
            "gradient_steps": 2,
            "target_update_interval": 1_000,
            "exploration_initial_eps": 0.05,
            "exploration_final_eps": 0.02,
        },
        {
            "learning_rate": 3e-4,
            "learning_starts": 1_000,
            "exploration_initial_eps": 1.0,
            "exploration_fraction": 0.3,
        },
        critic_warm_up=5_000,
    ),
}

# Algorithms of Stable-Baselines3 and sb3-contrib with continuous actions.
_CONTINUOUS = ("ddpg", "td3", "sac", "tqc", "crossq")


def get_algorithm(name: str) -> Algorithm:
    """Return an algorithm by its name.

    Raises:
        CrystalGymError: If the algorithm has continuous actions.
        UnknownNameError: If no algorithm has this name.
    """
    if name in _CONTINUOUS:
        raise CrystalGymError(
            f"Expected an algorithm with discrete actions, got {name}, whose actions are real "
            f"numbers. Choose one of {', '.join(ALGORITHMS)}."
        )
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
