"""Policies of Stable-Baselines3 with the logits of a ``SkeletonPolicy`` and a critic."""

from typing import Any, cast

import torch
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.online.features_extractor import SkeletonFeatures

# Channels of the critic's hidden layer.
_HIDDEN = 128
# Learning rate of the critic as a multiple of the actor's: the critic is not pretrained.
_CRITIC_LR_FACTOR = 10.0
# sb3-contrib's logit of an element that a mask forbids.
_FORBIDDEN = -1e8


class Critic(nn.Module):
    r"""Value of a state, :math:`v = \phi_0 + r\,\phi_1`, initially zero.

    :math:`\phi` has one hidden layer. r, the fraction of empty sites, is the last feature: the sum
    of the rewards that are paid site by site grows with the number of empty sites.

    Args:
        size: Number of features.

    Shapes:
        Features (B, size) to values (B, 1).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        last = nn.Linear(_HIDDEN, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(size, _HIDDEN), nn.SiLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the values."""
        constant, slope = self.layers(features).split(1, -1)
        return constant + slope * features[:, -1:]


class ActorCriticSplit(nn.Module):
    """Split of the features into the actor's logits and the critic's features.

    Args:
        n_elements: V.
        size: Number of features.

    Shapes:
        Features (B, size) to logits (B, V) and critic features (B, size - V).
    """

    def __init__(self, n_elements: int, size: int) -> None:
        super().__init__()
        self.latent_dim_pi = n_elements
        self.latent_dim_vf = size - n_elements

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return both parts."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Return the logits, (B, V)."""
        return features[:, : self.latent_dim_pi]

    def forward_critic(self, features: Tensor) -> Tensor:
        """Return the critic's features, (B, size - V)."""
        return features[:, self.latent_dim_pi :]


class _ActorCriticMixin(BasePolicy):
    """Mixin for actor-critics with the logits of a ``SkeletonPolicy`` and a ``Critic``.

    Args:
        anchored: Keep a second, frozen copy of the policy as the reference of the KL divergence.

    Attributes:
        regularization: Coefficients of entropy and KL divergence in the loss; ``None``: evaluate
            actions as the parent class does.
        divergences: Mean KL divergence of each minibatch since the last log entry.
        entropies: Mean entropy of each minibatch since the last log entry.
    """

    features_extractor: SkeletonFeatures

    def __init__(self, *args: Any, anchored: bool = False, **kwargs: Any) -> None:
        self.anchored = anchored
        self.regularization: tuple[float, float] | None = None
        self.divergences: list[float] = []
        self.entropies: list[float] = []
        super().__init__(*args, **kwargs)

    def evaluate_actions(self, obs: Any, actions: Tensor, **masks: Any) -> tuple[Any, ...]:
        r"""Return values, log-probabilities, and the entropy or the regularization.

        While ``regularization`` is set, the last item is :math:`c\,H(\pi) - \beta\,KL(\pi \|
        \pi_0)`, which the loss subtracts.
        """
        values, log_prob, entropy = super().evaluate_actions(obs, actions, **masks)  # type: ignore[misc] - a mixin before a policy
        if self.regularization is None:
            return values, log_prob, entropy
        divergence = self._divergence(obs)
        self.divergences.append(divergence.mean().item())
        self.entropies.append(entropy.mean().item())
        entropy_weight, anchor = self.regularization
        return values, log_prob, entropy_weight * entropy - anchor * divergence

    def _divergence(self, obs: Any) -> Tensor:
        """Return the KL divergence from the reference in the states just evaluated, (B,)."""
        current = cast(Any, self.action_dist).distribution
        with torch.no_grad():
            states = preprocess_obs(obs, self.observation_space)
            logits = self.mlp_extractor.forward_actor(self.reference(states))
            allowed = getattr(current, "masks", None)
            if allowed is not None:
                logits = logits.where(allowed, _FORBIDDEN)
            reference = F.log_softmax(logits, -1)
        return (current.probs * (current.logits - reference)).sum(-1)

    def _build(self, lr_schedule: Schedule) -> None:
        extractor = self.features_extractor
        self.mlp_extractor = ActorCriticSplit(extractor.n_elements, extractor.features_dim)
        self.action_net = nn.Identity()
        self.value_net = Critic(self.mlp_extractor.latent_dim_vf)
        if self.anchored:
            self.reference = self.make_features_extractor().requires_grad_(False)
        groups = [
            {"params": extractor.parameters(), "lr_factor": 1.0},
            {"params": self.value_net.parameters(), "lr_factor": _CRITIC_LR_FACTOR},
        ]
        arguments = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        if self.optimizer_class is torch.optim.Adam:
            # One kernel for all weights: most of them are small.
            arguments.setdefault("fused", True)
        self.optimizer = self.optimizer_class(groups, **arguments)
        # Stable-Baselines3 sets one learning rate for all groups before each update.
        self.optimizer.register_step_pre_hook(_multiply_rates)
        self.optimizer.register_step_post_hook(_restore_rates)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"anchored": self.anchored}


def _multiply_rates(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_factor"]


def _restore_rates(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] /= group["lr_factor"]


class SkeletonActorCritic(_ActorCriticMixin, MultiInputActorCriticPolicy):
    """Actor-critic of PPO and A2C."""


class MaskableSkeletonActorCritic(_ActorCriticMixin, MaskableMultiInputActorCriticPolicy):
    """Actor-critic of MaskablePPO."""


class DuelingHead(nn.Module):
    r"""Action values from a policy's logits and a value of the state.

    .. math:: Q_i = v + \tau\,(a_i - \max_j a_j)

    The highest action value is :math:`v`, initially zero. The differences between action values
    are those of a Boltzmann policy of temperature :math:`\tau`.

    Args:
        n_elements: V.
        size: Number of features.
        temperature: :math:`\tau`, in units of the return.

    Shapes:
        Features (B, size) to action values (B, V).
    """

    def __init__(self, n_elements: int, size: int, temperature: float) -> None:
        super().__init__()
        self.split = ActorCriticSplit(n_elements, size)
        self.temperature = temperature
        self.value_net = Critic(size - n_elements)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the values of the V actions."""
        logits, critic_features = self.split(features)
        advantage = logits - logits.amax(-1, keepdim=True)
        return self.value_net(critic_features) + self.temperature * advantage


class SkeletonDQNPolicy(DQNPolicy):
    """Q-networks of DQN, each with its own copy of the policy.

    Args:
        temperature: Temperature of the ``DuelingHead``.
    """

    def __init__(self, *args: Any, temperature: float = 0.1, **kwargs: Any) -> None:
        self.temperature = temperature
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """Create a Q-network with a features extractor of its own."""
        network = super().make_q_net()
        extractor = cast(SkeletonFeatures, network.features_extractor)
        network.q_net = DuelingHead(extractor.n_elements, extractor.features_dim, self.temperature)  # type: ignore[assignment] - replaces a plain stack of layers
        return network.to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"temperature": self.temperature}
