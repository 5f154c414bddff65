"""Policies of Stable-Baselines3 around a ``SkeletonPolicy``: its logits, and a critic beside."""

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
# Its learning rate, as a multiple of the actor's: it begins from nothing.
_CRITIC_PACE = 10.0
# sb3-contrib's logit of an element that a mask forbids.
_FORBIDDEN = -1e8


class Critic(nn.Module):
    r"""The value of a state: :math:`v = \phi_0 + r\,\phi_1`, nought at first.

    :math:`\phi` has one hidden layer; r, the share of empty sites, is the last of what is seen.
    Rewards that come site by site are worth the more, the more sites are left.

    Args:
        size: of what is seen.

    Shapes: (B, size) to (B, 1).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        last = nn.Linear(_HIDDEN, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(size, _HIDDEN), nn.SiLU(), last)

    def forward(self, seen: Tensor) -> Tensor:
        """Values."""
        fixed, growing = self.layers(seen).split(1, -1)
        return fixed + growing * seen[:, -1:]


def _faster(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= group["pace"]


def _as_before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] /= group["pace"]


class ActorCriticSplit(nn.Module):
    """Features into the logits for the actor and the rest for the critic.

    Args:
        n_elements: V.
        size: of the features.
    """

    def __init__(self, n_elements: int, size: int) -> None:
        super().__init__()
        self.latent_dim_pi = n_elements
        self.latent_dim_vf = size - n_elements

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Both parts."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """The logits, (B, V)."""
        return features[:, : self.latent_dim_pi]

    def forward_critic(self, features: Tensor) -> Tensor:
        """What the critic reads."""
        return features[:, self.latent_dim_pi :]


class _Heads(BasePolicy):
    """What both actor-critics are: no layers but the policy's own, and a critic.

    With ``anchored`` a second copy of the policy is carried along, which never learns.
    """

    features_extractor: SkeletonFeatures

    def __init__(self, *args: Any, anchored: bool = False, **kwargs: Any) -> None:
        self.anchored = anchored
        # Coefficients of entropy and of KL divergence; None: evaluate as the parent does.
        self.regularization: tuple[float, float] | None = None
        self.divergences: list[float] = []
        self.entropies: list[float] = []
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        extractor = self.features_extractor
        self.mlp_extractor = ActorCriticSplit(extractor.n_elements, extractor.features_dim)
        self.action_net = nn.Identity()
        self.value_net = Critic(self.mlp_extractor.latent_dim_vf)
        if self.anchored:
            self.reference = self.make_features_extractor().requires_grad_(False)
        groups = [
            {"params": extractor.parameters(), "pace": 1.0},
            {"params": self.value_net.parameters(), "pace": _CRITIC_PACE},
        ]
        arguments = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(groups, **arguments)
        # Stable-Baselines3 sets one learning rate for all, before every update.
        self.optimizer.register_step_pre_hook(_faster)
        self.optimizer.register_step_post_hook(_as_before)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"anchored": self.anchored}

    def evaluate_actions(self, obs: Any, actions: Tensor, **masks: Any) -> tuple[Any, ...]:
        r"""Values, log-probabilities and what the loss subtracts: entropy, or the regularization.

        While ``regularization`` is set, the last is :math:`c\,H(\pi) - \beta\,KL(\pi \| \pi_0)`.
        """
        values, log_prob, entropy = super().evaluate_actions(obs, actions, **masks)  # type: ignore[misc] - a mix-in before a policy
        if self.regularization is None:
            return values, log_prob, entropy
        divergence = self._divergence(obs)
        self.divergences.append(divergence.mean().item())
        self.entropies.append(entropy.mean().item())
        weight, anchor = self.regularization
        return values, log_prob, weight * entropy - anchor * divergence

    def _divergence(self, obs: Any) -> Tensor:
        """KL divergence of the policy from its reference in the states just evaluated, (B,)."""
        current = cast(Any, self.action_dist).distribution
        with torch.no_grad():
            states = preprocess_obs(obs, self.observation_space)
            logits = self.mlp_extractor.forward_actor(self.reference(states))
            allowed = getattr(current, "masks", None)
            if allowed is not None:
                logits = logits.where(allowed, _FORBIDDEN)
            reference = F.log_softmax(logits, -1)
        return (current.probs * (current.logits - reference)).sum(-1)


class SkeletonActorCritic(_Heads, MultiInputActorCriticPolicy):
    """For PPO and A2C."""


class MaskableSkeletonActorCritic(_Heads, MaskableMultiInputActorCriticPolicy):
    """For MaskablePPO."""


class DuelingHead(nn.Module):
    r"""Values of actions from a policy's logits and a value of the state.

    .. math:: Q_i = v + \tau\,(a_i - \max_j a_j)

    The highest of them is :math:`v`, nought at first; how far the others lie below is what a policy
    of temperature :math:`\tau` would say of them.

    Args:
        n_elements: V.
        size: of the features.
        temperature: :math:`\tau`, in units of the return.

    Shapes: (B, size) to (B, V).
    """

    def __init__(self, n_elements: int, size: int, temperature: float) -> None:
        super().__init__()
        self.split = ActorCriticSplit(n_elements, size)
        self.temperature = temperature
        self.value_net = Critic(size - n_elements)

    def forward(self, features: Tensor) -> Tensor:
        """Values of the V actions."""
        logits, seen = self.split(features)
        below = logits - logits.amax(-1, keepdim=True)
        return self.value_net(seen) + self.temperature * below


class SkeletonDQNPolicy(DQNPolicy):
    """For DQN.

    Args:
        temperature: see ``DuelingHead``.
    """

    def __init__(self, *args: Any, temperature: float = 0.1, **kwargs: Any) -> None:
        self.temperature = temperature
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """A network of values around a policy of its own."""
        network = super().make_q_net()
        extractor = cast(SkeletonFeatures, network.features_extractor)
        network.q_net = DuelingHead(extractor.n_elements, extractor.features_dim, self.temperature)  # type: ignore[assignment] - in the place of a plain stack
        return network.to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"temperature": self.temperature}
