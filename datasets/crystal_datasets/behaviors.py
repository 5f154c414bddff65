"""Behavior policies: functions that choose the elements of an episode.

A trained policy is passed as a function from observations to probabilities, so this module does not
depend on networks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable, observe
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.masks import Mask, resolve_mask

# Maps the table, the state of B episodes and a random generator to actions from 0 to V - 1,
# int64 (B,).
BehaviorPolicy = Callable[[EpisodeTable, EpisodeState, np.random.Generator], np.ndarray]

# Maps the observations of B episodes to probabilities over the vocabulary, (B, V).
Probabilities = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def expert(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001 - behavior policies share one signature
    """Assign the true element to the site in focus."""
    return table.true_elements[state.crystal, state.focus].astype(np.int64) - 1


def uniform_random(
    table: EpisodeTable, state: EpisodeState, rng: np.random.Generator
) -> np.ndarray:
    """Draw each element uniformly from the vocabulary."""
    return rng.integers(table.n_elements, size=len(state.crystal))


def uniform_under(mask: Mask) -> BehaviorPolicy:
    """Return a behavior policy that draws uniformly from the elements that a mask allows."""

    def act(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:
        allowed = mask(table, state)
        return np.where(allowed, rng.random(allowed.shape), -1.0).argmax(1)

    return act


def sampled(probabilities: Probabilities, temperature: float = 1.0) -> BehaviorPolicy:
    """Return a behavior policy that samples its actions from given probabilities.

    Args:
        probabilities: A function from the observations of B episodes to probabilities over the
            vocabulary, (B, V).
        temperature: Divisor of the log-probabilities. Values above 1 flatten the distribution,
            values below 1 sharpen it.

    Raises:
        CrystalGymError: If the temperature is not above 0. The behavior policy raises it if the
            probabilities do not have the shape (B, V) or contain NaN.
    """
    if not temperature > 0:
        raise CrystalGymError(
            f"Expected a temperature above 0, got {temperature}. Use 1 to sample from the "
            "probabilities unchanged."
        )

    def act(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:
        p = np.asarray(probabilities(observe(table, state)), np.float64)
        shape = (len(state.crystal), table.n_elements)
        if p.shape != shape or np.isnan(p).any():
            problem = f"shape {p.shape}" if p.shape != shape else "NaN among them"
            raise CrystalGymError(
                f"Expected probabilities of shape {shape} (episodes, elements) without NaN, got "
                f"{problem}. Check that the policy has the vocabulary of the dataset."
            )
        with np.errstate(divide="ignore"):  # a probability of 0 becomes a logit of -inf
            logits = np.log(p) / temperature
        # The argmax of logits with Gumbel noise is a sample from their softmax.
        return (logits + rng.gumbel(size=shape)).argmax(1)

    return act


@dataclass(frozen=True)
class MixtureComponent:
    """One behavior policy of a mixture.

    Attributes:
        name: The value of ``behavior`` in the metadata of the component's episodes.
        weight: The component's share of the episodes, relative to the other components.
        act: The behavior policy.
        settings: Further JSON-serializable entries for the metadata of the dataset.
    """

    name: str
    weight: float
    act: BehaviorPolicy
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyMixture:
    """A mixture of behavior policies, each of which fills a fixed share of whole episodes.

    Attributes:
        components: The behavior policies and their mixture weights.

    Raises:
        CrystalGymError: If a mixture weight is negative or not finite, or if all are 0.
    """

    components: tuple[MixtureComponent, ...]

    def __post_init__(self) -> None:
        weights = self._weights()
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise CrystalGymError(
                "Expected mixture weights of 0 or more with a sum above 0, got "
                f"{', '.join(f'{c.name} {c.weight}' for c in self.components)}. Give at least one "
                "component a weight above 0."
            )

    def describe(self) -> str:
        """Return the proportions as text, such as ``50 % expert, 50 % random``."""
        total = sum(component.weight for component in self.components)
        return ", ".join(
            f"{100 * component.weight / total:.4g} % {component.name}"
            for component in self.components
        )

    def settings(self) -> list[dict[str, Any]]:
        """Return the JSON-serializable settings of all components."""
        return [
            {"name": component.name, "weight": float(component.weight), **component.settings}
            for component in self.components
        ]

    def assign(self, episodes: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the component of each episode.

        The proportions are exact up to rounding to whole episodes (largest remainders); the order
        is random.

        Args:
            episodes: The number E of episodes.
            rng: The random generator.

        Returns:
            Indices of components, int64 (E,).
        """
        weights = self._weights()
        quotas = episodes * weights / weights.sum()
        counts = np.floor(quotas).astype(np.int64)
        by_remainder = np.argsort(counts - quotas, kind="stable")
        counts[by_remainder[: episodes - counts.sum()]] += 1
        return rng.permutation(np.repeat(np.arange(len(weights)), counts))

    def behavior_policy(self, component: np.ndarray) -> BehaviorPolicy:
        """Return the behavior policy of a batch whose episodes belong to given components.

        Args:
            component: Index of each episode's component, int (B,).
        """

        def act(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:
            actions = np.empty(len(component), np.int64)
            for index in np.unique(component):
                episodes = np.flatnonzero(component == index)
                policy = self.components[index].act
                actions[episodes] = policy(table, _select(state, episodes), rng)
            return actions

        return act

    def _weights(self) -> np.ndarray:
        return np.array([component.weight for component in self.components], np.float64)


def _select(state: EpisodeState, episodes: np.ndarray) -> EpisodeState:
    """Return a copy of the state of some episodes of a batch, given by their indices (k,)."""
    return state.select(episodes)


def mixed(
    probabilities: Probabilities,
    policy: str,
    mixture_weights: tuple[float, float, float] = (1, 1, 1),
    temperature: float = 1.0,
) -> PolicyMixture:
    """Return a mixture of the expert, a policy and uniform random actions, as in D4RL.

    Args:
        probabilities: The policy's probabilities, such as
            ``load_policy("perov-5/egnn").probabilities``.
        policy: The policy's name, for the metadata of the dataset.
        mixture_weights: The relative numbers of episodes by expert, policy and random.
        temperature: The temperature at which the policy's actions are sampled.

    Raises:
        CrystalGymError: If the mixture weights are invalid or the temperature is not above 0.
    """
    sampled_policy = sampled(probabilities, temperature)
    settings = {"policy": policy, "temperature": float(temperature)}
    return PolicyMixture(
        (
            MixtureComponent("expert", mixture_weights[0], expert),
            MixtureComponent("policy", mixture_weights[1], sampled_policy, settings),
            MixtureComponent("random", mixture_weights[2], uniform_random),
        )
    )


BEHAVIOR_POLICIES: Mapping[str, BehaviorPolicy] = {"expert": expert, "random": uniform_random}
# All behaviors of datasets, including those that need more than a name.
BEHAVIOR_NAMES = (*BEHAVIOR_POLICIES, "mixed", "replay")


def get_behavior_policy(name: str, mask: str = "none") -> BehaviorPolicy:
    """Return the behavior policy with this name.

    Args:
        name: A key of ``BEHAVIOR_POLICIES``.
        mask: A name of ``crystal_gym.masks.MASKS``, from whose elements ``random`` draws. The
            expert does not depend on it.

    Raises:
        UnknownNameError: If there is no such behavior policy.
        CrystalGymError: If the name is ``mixed`` or ``replay``, which need more than a name.
    """
    if name == "mixed":
        raise CrystalGymError(
            "Expected a policy for the behavior 'mixed', got only the name. Pass "
            "crystal_datasets.mixed(probabilities, policy), or --policy on the command line."
        )
    if name == "replay":
        raise CrystalGymError(
            "Expected recorded episodes for the behavior 'replay', got only the name. Record the "
            "episodes with crystal_datasets.EpisodeRecorder and write them with write_replay."
        )
    if name not in BEHAVIOR_POLICIES:
        raise UnknownNameError("behavior policy", name, BEHAVIOR_NAMES)
    if name == "random" and mask != "none":
        return uniform_under(resolve_mask(mask))
    return BEHAVIOR_POLICIES[name]
