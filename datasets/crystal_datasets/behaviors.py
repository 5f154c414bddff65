"""Behaviours: who chooses the elements of an episode.

Policies come from outside as a function from observations to probabilities, so that nothing here
depends on how they are made.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable, observe
from crystal_gym.errors import CrystalGymError, UnknownNameError

# (table, state of B episodes, random numbers) → actions 0 to V - 1, int64 (B,).
BehaviorPolicy = Callable[[EpisodeTable, EpisodeState, np.random.Generator], np.ndarray]

# Observations of B episodes → probabilities over the vocabulary, (B, V), as
# ``SkeletonPolicy.probabilities`` gives them.
Probabilities = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def expert(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001 - behaviors share one signature
    """Put back the crystal's true element."""
    return table.true_elements[state.crystal, state.focus].astype(np.int64) - 1


def uniform_random(
    table: EpisodeTable, state: EpisodeState, rng: np.random.Generator
) -> np.ndarray:
    """Any element of the vocabulary, all equally likely."""
    return rng.integers(table.n_elements, size=len(state.crystal))


def sampled(probabilities: Probabilities, temperature: float = 1.0) -> BehaviorPolicy:
    """A policy whose elements are drawn by its probabilities.

    Args:
        probabilities: the policy.
        temperature: above 1 more varied, below 1 closer to the most probable element.

    Raises:
        CrystalGymError: the temperature is not above 0; while acting, the probabilities are not of
            shape (B, V) or hold NaN.
    """
    if not temperature > 0:
        raise CrystalGymError(f"A temperature is above 0, not {temperature}.")

    def act(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:
        p = np.asarray(probabilities(observe(table, state)), np.float64)
        shape = (len(state.crystal), table.n_elements)
        if p.shape != shape or np.isnan(p).any():
            raise CrystalGymError(
                f"The policy's probabilities must be numbers of shape {shape} (episodes, "
                f"elements); they have shape {p.shape}"
                + (" and hold NaN." if np.isnan(p).any() else ".")
            )
        with np.errstate(divide="ignore"):  # what is impossible stays so
            logits = np.log(p) / temperature
        # The largest of logits with Gumbel noise is a draw from their softmax.
        return (logits + rng.gumbel(size=shape)).argmax(1)

    return act


@dataclass(frozen=True)
class MixtureComponent:
    """One of those who share the episodes of a mixture.

    Attributes:
        name: told in the metadata of each of its episodes.
        share: of the episodes, in any unit.
        act: chooses the elements.
        settings: what else is to be remembered of it, in types that JSON can hold.
    """

    name: str
    share: float
    act: BehaviorPolicy
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyMixture:
    """Episodes shared out among several behaviors, each of them whole by one.

    Attributes:
        parts: who takes part; shares are relative to their sum.

    Raises:
        CrystalGymError: a share is negative or no number, or all are 0.
    """

    parts: tuple[MixtureComponent, ...]

    def __post_init__(self) -> None:
        mixture_weights = np.array([part.share for part in self.parts])
        if not (
            np.isfinite(mixture_weights).all()
            and (mixture_weights >= 0).all()
            and mixture_weights.sum() > 0
        ):
            told = ", ".join(f"{part.name} {part.share}" for part in self.parts)
            raise CrystalGymError(
                f"Shares of a mixture are 0 or more, and one of them is above 0; not {told}."
            )

    def describe(self) -> str:
        """In words, such as ``50 % expert, 50 % random``."""
        total = sum(part.share for part in self.parts)
        return ", ".join(f"{100 * part.share / total:.4g} % {part.name}" for part in self.parts)

    def settings(self) -> list[dict[str, Any]]:
        """Everything that can be told of it, in types that JSON can hold."""
        return [
            {"name": part.name, "share": float(part.share), **part.settings} for part in self.parts
        ]

    def assign(self, episodes: int, rng: np.random.Generator) -> np.ndarray:
        """Who plays each episode: shuffled numbers of parts, int64 (episodes,).

        The proportions are exact, up to the rounding to whole episodes (largest remainders).
        """
        mixture_weights = np.array([part.share for part in self.parts], np.float64)
        wanted = episodes * mixture_weights / mixture_weights.sum()
        counts = np.floor(wanted).astype(np.int64)
        remainders = np.argsort(counts - wanted, kind="stable")
        counts[remainders[: episodes - counts.sum()]] += 1
        return rng.permutation(np.repeat(np.arange(len(mixture_weights)), counts))

    def acting(self, part: np.ndarray) -> BehaviorPolicy:
        """The behavior of a batch whose episodes belong to these parts, (B,)."""

        def act(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:
            actions = np.empty(len(part), np.int64)
            for number in np.unique(part):
                which = np.flatnonzero(part == number)
                actions[which] = self.parts[number].act(table, _some(state, which), rng)
            return actions

        return act


def mixed(
    probabilities: Probabilities,
    policy: str,
    mixture_weights: tuple[float, float, float] = (1, 1, 1),
    temperature: float = 1.0,
) -> PolicyMixture:
    """Each episode by the expert, a policy, or uniformly at random, in the manner of D4RL.

    Args:
        probabilities: the policy, such as ``load_policy("perov-5/egnn").probabilities``.
        policy: its name, to be remembered with the data.
        shares: of expert, policy and random.
        temperature: at which the policy's elements are drawn.

    Raises:
        CrystalGymError: the shares are no proportions, or the temperature is not above 0.
    """
    told = {"policy": policy, "temperature": float(temperature)}
    return PolicyMixture(
        (
            MixtureComponent("expert", mixture_weights[0], expert),
            MixtureComponent(
                "policy", mixture_weights[1], sampled(probabilities, temperature), told
            ),
            MixtureComponent("random", mixture_weights[2], uniform_random),
        )
    )


BEHAVIOR_POLICIES: Mapping[str, BehaviorPolicy] = {"expert": expert, "random": uniform_random}
# With those that more is needed for than a name.
BEHAVIOR_NAMES = (*BEHAVIOR_POLICIES, "mixed", "replay")


def get_behavior_policy(name: str) -> BehaviorPolicy:
    """The behavior of this name.

    Raises:
        CrystalGymError: it needs more than a name.
        UnknownNameError: there is none.
    """
    if name == "mixed":
        raise CrystalGymError(
            "The behavior 'mixed' needs a policy: pass crystal_datasets.mixed(probabilities, "
            "policy), or name a policy on the command line (--policy)."
        )
    if name == "replay":
        raise CrystalGymError(
            "The behavior 'replay' is what an online learner saw: record its episodes with "
            "crystal_datasets.EpisodeRecorder and write them with write_replay."
        )
    if name not in BEHAVIOR_POLICIES:
        raise UnknownNameError("behavior", name, BEHAVIOR_NAMES)
    return BEHAVIOR_POLICIES[name]


def _some(state: EpisodeState, which: np.ndarray) -> EpisodeState:
    """Some episodes of a batch, by their indices (k,); fresh arrays."""
    arrays = ("crystal", "order", "elements", "n_sites", "step", "focus")
    some = {name: getattr(state, name)[which] for name in arrays}
    return dataclasses.replace(state, **some, rows=(np.arange(len(which)),))
