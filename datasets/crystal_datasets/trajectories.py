"""Behaviours → episodes: crystals are filled in batches, with no Python loop over episodes.

A behaviour chooses the elements; everything else (start, observation, filling, order of the sites)
is ``crystal_gym.episode``, the same moves as the environment's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable, fill, observe, start
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards.match import MatchReward

# (table, state of B episodes, random numbers) → actions 0 to V - 1, int64 (B,).
Behaviour = Callable[[EpisodeTable, EpisodeState, np.random.Generator], np.ndarray]

# Crystals rolled out together; with cells of 20 sites their observations take some 200 MB.
BATCH = 128


def expert(table: EpisodeTable, state: EpisodeState, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001 - behaviours share one signature
    """Put back the crystal's true element."""
    return table.true[state.crystal, state.focus].astype(np.int64) - 1


def uniform_random(
    table: EpisodeTable, state: EpisodeState, rng: np.random.Generator
) -> np.ndarray:
    """Any element of the vocabulary, all equally likely."""
    return rng.integers(table.n_elements, size=len(state.crystal))


BEHAVIOURS: Mapping[str, Behaviour] = {"expert": expert, "random": uniform_random}


def behaviour_named(name: str) -> Behaviour:
    """The behaviour of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in BEHAVIOURS:
        raise UnknownNameError("behaviour", name, BEHAVIOURS)
    return BEHAVIOURS[name]


@dataclass(frozen=True)
class Episodes:
    """B whole episodes of up to N steps; what lies beyond an episode's own steps is padding.

    Attributes:
        crystal: row in the table, int64 (B,).
        source: the site filled first, int64 (B,).
        n_steps: the crystal's number of sites, int64 (B,).
        observations: by key of the observation space, each (B, N + 1, …).
        actions: 0 to V - 1, int64 (B, N).
        rewards: of the reward ``match``, float64 (B, N).
    """

    crystal: np.ndarray
    source: np.ndarray
    n_steps: np.ndarray
    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray

    def __len__(self) -> int:
        return len(self.crystal)


def choose_sources(n_sites: np.ndarray, limit: int = 5, seed: int = 0) -> np.ndarray:
    """Up to ``limit`` source sites for each crystal: all sites, or a sample where there are more.

    With one seed, the sites chosen under a smaller limit are among those of a larger one.

    Args:
        n_sites: (C,).
        limit: at most so many sources, 1 or more.
        seed: of the sample.

    Returns:
        int64 (C, limit), ascending, padded with -1 at the end.

    Raises:
        CrystalGymError: ``limit`` is below 1, or ``seed`` below 0.
    """
    if limit < 1:
        raise CrystalGymError(f"At least one source site is needed for each crystal, not {limit}.")
    if seed < 0:
        raise CrystalGymError(f"A seed is 0 or more, not {seed}.")
    n_sites = np.asarray(n_sites)
    width = max(int(n_sites.max(initial=0)), limit)
    keys = np.random.default_rng(seed).random((len(n_sites), width))
    keys[np.arange(width) >= n_sites[:, None]] = np.inf
    chosen = np.argsort(keys, axis=1)[:, :limit]
    # Padding sorts behind every site, then becomes -1.
    chosen = np.sort(np.where(chosen < n_sites[:, None], chosen, width), axis=1)
    return np.where(chosen < width, chosen, -1)


def roll_out(
    table: EpisodeTable,
    crystal: np.ndarray,
    source: np.ndarray,
    behaviour: Behaviour,
    rng: np.random.Generator,
) -> Episodes:
    """Fill crystals from their sources, all at once.

    Args:
        table: the crystals.
        crystal: rows of the table, (B,).
        source: the site to fill first, (B,).
        behaviour: chooses the elements.
        rng: random numbers for the behaviour.
    """
    state = start(table, crystal, table.traversals[crystal, source])
    n_steps = state.n_sites
    longest = int(n_steps.max())
    observations, actions, rewards = [observe(table, state)], [], []
    reward = MatchReward()
    for step in range(longest):
        action = behaviour(table, state, rng)
        earned = reward.on_fill(table, crystal, state.focus, action + 1)
        rewards.append(np.where(step < n_steps, earned, 0.0))
        actions.append(action)
        fill(state, action)
        observations.append(observe(table, state))
    return Episodes(
        crystal=crystal,
        source=source,
        n_steps=n_steps,
        observations={
            key: np.stack([seen[key] for seen in observations], axis=1) for key in observations[0]
        },
        actions=np.stack(actions, axis=1),
        rewards=np.stack(rewards, axis=1),
    )


def generate_episodes(
    table: EpisodeTable, sources: np.ndarray, behaviour: Behaviour, seed: int = 0
) -> Iterator[Episodes]:
    """The episodes of every crystal of a table, crystal by crystal, in batches of whole crystals.

    Args:
        table: C crystals.
        sources: int64 (C, S) as from ``choose_sources``.
        behaviour: chooses the elements.
        seed: of the behaviour's random numbers.
    """
    rng = np.random.default_rng(seed)
    for first in range(0, len(sources), BATCH):
        batch = sources[first : first + BATCH]
        crystal, column = np.nonzero(batch >= 0)
        yield roll_out(table, crystal + first, batch[crystal, column], behaviour, rng)
