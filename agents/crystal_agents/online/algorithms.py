"""Algorithms of Stable-Baselines3 by name, adapted to start from a cloned actor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule

from crystal_agents.online.critic_warm_up import CriticWarmUpMixin
from crystal_agents.online.dqn import SkeletonDQN
from crystal_agents.online.replay_buffers import NStepReplayBuffer
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


@dataclass(frozen=True)
class Algorithm:
    """An algorithm with default settings for short episodes and a pretrained actor.

    Attributes:
        model: Class of the algorithm.
        policy: Class of its networks.
        settings: Keyword arguments of the algorithm.
        from_scratch: Keyword arguments that differ for training from random weights.
        rollout_steps: Steps of all environments between updates, for on-policy algorithms.
        minibatches: Largest number of equal parts into which a rollout is divided, in a warm start
            and from scratch.
        critic_warm_up: Steps of a warm start in which only the critic learns.
        anchor: Initial coefficient of the KL divergence in a warm start.
    """

    ANCHORED: ClassVar = (SkeletonPPO, SkeletonA2C, SkeletonMaskablePPO)

    model: type[BaseAlgorithm]
    policy: type[BasePolicy]
    settings: Mapping[str, Any]
    from_scratch: Mapping[str, Any] = field(default_factory=dict)
    rollout_steps: int = 0
    minibatches: tuple[int, int] = (1, 1)
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

    def rollout_settings(
        self, num_envs: int, max_sites: int, *, from_scratch: bool = False
    ) -> dict[str, int]:
        """Return the sizes of rollouts and minibatches as keyword arguments of the algorithm.

        Rollouts are multiples of the longest episode.

        Args:
            num_envs: B.
            max_sites: N.
            from_scratch: Whether the weights are random.
        """
        if not self.rollout_steps:
            return {}
        n_steps = max(1, round(self.rollout_steps / (num_envs * max_sites))) * max_sites
        minibatches = self.minibatches[from_scratch]
        if minibatches == 1:
            return {"n_steps": n_steps}
        total = n_steps * num_envs
        parts = next(parts for parts in range(minibatches, 0, -1) if total % parts == 0)
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
            "learning_rate": 2e-4,
            "n_epochs": 4,
            "clip_range": 0.2,
            "ent_coef": 0.0,
            "rollout_buffer_class": buffer,
        },
        {"learning_rate": 3e-4, "ent_coef": 0.01},
        rollout_steps=640,
        minibatches=(2, 4),
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
            "conservative": 0.3,
            # Returns to the end of the episode: errors of later values do not accumulate.
            "replay_buffer_class": NStepReplayBuffer,
            "replay_buffer_kwargs": {"n_steps": 20},
            "buffer_size": 50_000,
            # Stable-Baselines3 would act at random until learning starts.
            "learning_starts": 0,
            "batch_size": 128,
            "train_freq": 1,
            "gradient_steps": 2,
            "target_update_interval": 1_000,
            "exploration_initial_eps": 0.05,
            "exploration_final_eps": 0.02,
            "policy_kwargs": {"optimizer_kwargs": {"fused": True}},
        },
        {
            "learning_rate": 3e-4,
            "conservative": 0.0,
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
