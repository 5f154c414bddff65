"""The algorithms by name: those of Stable-Baselines3, with a start that spares the actor."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import numpy as np
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


def get_features_extractor(policy: BasePolicy) -> SkeletonFeatures:
    """The extractor whose network acts."""
    return cast(SkeletonFeatures, getattr(policy, "q_net", policy).features_extractor)


class ActorRestedWarning(UserWarning):
    """A training in which only the critic learned."""


class CriticWarmUpMixin(BaseAlgorithm):
    """The critic learns by itself for some steps; the actor's weights stay as they are, bit by bit.

    Attributes:
        critic_warm_up: steps of the environments, from the beginning of the training. Above 0 it
            covers at least the first update, however long a rollout is.
        actor_has_learned: whether the last call of ``learn`` went beyond that.
    """

    critic_warm_up: int = 0
    actor_has_learned: bool = False

    @property
    def actor_rests(self) -> bool:
        """Whether only the critic learns at present."""
        if not self.critic_warm_up:
            return False
        return self.num_timesteps <= self.critic_warm_up or self._n_updates == 0

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Update from what was collected."""
        # Without gradients the optimizer leaves weights alone.
        network = get_features_extractor(self.policy).network
        resting = self.actor_rests
        network.requires_grad_(not resting)
        super().train(*args, **kwargs)  # type: ignore[misc] - a mix-in before an algorithm
        network.requires_grad_(True)
        self.actor_has_learned |= not resting

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Self:
        """Learn for so many steps of all environments.

        Warns:
            ActorRestedWarning: they were over before the actor learned anything.
        """
        self.actor_has_learned = False
        super().learn(total_timesteps, *args, **kwargs)
        if self.critic_warm_up and not self.actor_has_learned:
            warnings.warn(
                f"The actor is what it was: {self.num_timesteps:,} steps, in which only the critic "
                f"learned (critic_warm_up={self.critic_warm_up:,}, and at least one update). Ask "
                "for more steps, go on with learn(..., reset_num_timesteps=False), or give "
                "critic_warm_up=0.",
                ActorRestedWarning,
                stacklevel=2,
            )
        return self


class KLAnchorMixin(CriticWarmUpMixin, OnPolicyAlgorithm):
    r"""The loss has a term :math:`\beta\,KL(\pi \| \pi_0)` with the policy of the beginning.

    Attributes:
        anchor: :math:`\beta` by the share of the training that remains; ``None``: no such term.
    """

    anchor: Schedule | None = None

    def train(self) -> None:
        """Update from what was collected."""
        strength = self.anchor(self._current_progress_remaining) if self.anchor else 0.0
        if strength == 0 or self.actor_rests:
            return super().train()
        policy: Any = self.policy
        entropy_weight = self.ent_coef
        # The parent's loss subtracts `ent_coef` times what the policy returns as its entropy.
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

    Each environment of a vector explores by itself. Stable-Baselines3 decides once for all of them,
    so that with many side by side a run's share of exploration would be a matter of few draws.
    """

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions, each with probability ``exploration_rate`` any, all equally likely.

        Args:
            observation: of one environment or of B.
            state: of recurrent policies; handed back.
            episode_start: likewise.
            deterministic: no exploration.

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
    """An algorithm with the settings that suit short episodes and a policy that knows its way.

    Attributes:
        model: the class of the algorithm.
        policy: the class of its networks.
        settings: keyword arguments of the algorithm.
        from_scratch: those that differ where training begins from random weights.
        rollout: steps of all environments between updates, for on-policy algorithms.
        minibatches: into how many equal parts a rollout is cut, at most.
        critic_warm_up: steps in which only the critic learns, of a warm start.
        anchor: coefficient of the KL divergence at the beginning of a warm start.
    """

    ANCHORED: ClassVar = (SkeletonPPO, SkeletonA2C, SkeletonMaskablePPO)

    model: type[BaseAlgorithm]
    policy: type[BasePolicy]
    settings: Mapping[str, Any]
    from_scratch: Mapping[str, Any] = field(default_factory=dict)
    rollout: int = 0
    minibatches: int = 1
    critic_warm_up: int = 0
    anchor: float = 0.0

    @property
    def masks(self) -> bool:
        """Whether it keeps to the environment's mask."""
        return issubclass(self.model, MaskablePPO)

    @property
    def can_be_anchored(self) -> bool:
        """Whether its policy is a distribution, which can be held near another."""
        return issubclass(self.model, self.ANCHORED)

    def sizes(self, num_envs: int, max_sites: int) -> dict[str, int]:
        """Lengths of rollouts and minibatches; whole episodes of the largest cell.

        Args:
            num_envs: B.
            max_sites: N.
        """
        if not self.rollout:
            return {}
        n_steps = max(1, round(self.rollout / (num_envs * max_sites))) * max_sites
        if self.minibatches == 1:
            return {"n_steps": n_steps}
        total = n_steps * num_envs
        parts = next(parts for parts in range(self.minibatches, 0, -1) if total % parts == 0)
        return {"n_steps": n_steps, "batch_size": total // parts}


def _ppo(model: type[BaseAlgorithm], policy: type[BasePolicy], buffer: type) -> Algorithm:
    """PPO, with and without masks."""
    return Algorithm(
        model,
        policy,
        {
            # Rewards come within one short episode: none is discounted.
            "gamma": 1.0,
            "gae_lambda": 0.95,
            "learning_rate": 1e-4,
            "n_epochs": 4,
            "clip_range": 0.2,
            "ent_coef": 0.0,
            "rollout_buffer_class": buffer,
        },
        {"learning_rate": 3e-4, "ent_coef": 0.01},
        rollout=640,
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
        rollout=640,
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
            # Until then Stable-Baselines3 draws at random.
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

# Of Stable-Baselines3 and sb3-contrib, those whose actions are real numbers.
_CONTINUOUS = ("ddpg", "td3", "sac", "tqc", "crossq")


def get_algorithm(name: str) -> Algorithm:
    """The algorithm of this name.

    Raises:
        CrystalGymError: its actions are real numbers.
        UnknownNameError: there is none of this name.
    """
    if name in _CONTINUOUS:
        raise CrystalGymError(
            f"{name} chooses real numbers (a Box); the actions here are elements, one of a "
            f"Discrete space. Those that fit: {', '.join(ALGORITHMS)}."
        )
    if name not in ALGORITHMS:
        raise UnknownNameError("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]
