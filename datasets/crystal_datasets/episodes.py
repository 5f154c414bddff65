"""Behaviours → episodes: crystals are filled in batches, with no Python loop over episodes.

A behavior chooses the elements; everything else (start, observation, filling, order of the sites)
is ``crystal_gym.episode``, the same moves as the environment's.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from crystal_datasets.behaviors import BehaviorPolicy, PolicyMixture
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, observe, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import MatchReward, Reward

# Crystals rolled out together; with cells of 20 sites their observations take some 200 MB.
BATCH = 128


@dataclass(frozen=True)
class Episodes:
    """B whole episodes of up to N steps; what lies beyond an episode's own steps is padding.

    Attributes:
        crystal: row in the table, int64 (B,).
        source: the site filled first, int64 (B,).
        n_steps: the crystal's number of sites, int64 (B,).
        observations: by key of the observation space, each (B, N + 1, …).
        actions: 0 to V - 1, int64 (B, N).
        rewards: float64 (B, N), 0 on padding; NaN where the reward failed.
        made_by: who played each episode, str (B,), where several behaviors share them.
    """

    crystal: np.ndarray
    start_site: np.ndarray
    n_steps: np.ndarray
    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    made_by: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.crystal)

    @property
    def returns(self) -> np.ndarray:
        """The undiscounted returns, float64 (B,)."""
        return self.rewards.sum(axis=1)

    def select(self, which: np.ndarray) -> "Episodes":
        """Some of the episodes, by indices (k,) or bool (B,)."""
        return Episodes(
            crystal=self.crystal[which],
            start_site=self.start_site[which],
            n_steps=self.n_steps[which],
            observations={key: values[which] for key, values in self.observations.items()},
            actions=self.actions[which],
            rewards=self.rewards[which],
            made_by=None if self.made_by is None else self.made_by[which],
        )


def make_generator(seed: int) -> np.random.Generator:
    """Random numbers of a seed.

    Raises:
        CrystalGymError: the seed is below 0.
    """
    if seed < 0:
        raise CrystalGymError(f"A seed is 0 or more, not {seed}.")
    return np.random.default_rng(seed)


def choose_start_sites(n_sites: np.ndarray, limit: int = 5, seed: int = 0) -> np.ndarray:
    """Up to ``limit`` start sites for each crystal: all sites, or a sample where there are more.

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
        raise CrystalGymError(f"At least one start site is needed for each crystal, not {limit}.")
    rng = make_generator(seed)
    n_sites = np.asarray(n_sites)
    width = max(int(n_sites.max(initial=0)), limit)
    keys = rng.random((len(n_sites), width))
    keys[np.arange(width) >= n_sites[:, None]] = np.inf
    chosen = np.argsort(keys, axis=1)[:, :limit]
    # Padding sorts behind every site, then becomes -1.
    chosen = np.sort(np.where(chosen < n_sites[:, None], chosen, width), axis=1)
    return np.where(chosen < width, chosen, -1)


def roll_out(
    table: EpisodeTable,
    crystal: np.ndarray,
    start_site: np.ndarray,
    behavior: BehaviorPolicy,
    rng: np.random.Generator,
    *,
    reward: Reward | None = None,
) -> Episodes:
    """Fill crystals from their sources, all at once.

    Args:
        table: the crystals.
        crystal: rows of the table, (B,).
        source: the site to fill first, (B,).
        behavior: chooses the elements.
        rng: random numbers for the behavior.
        reward: what is earned (default: ``match``).
    """
    reward = reward or MatchReward()
    earned = []

    def act(state: EpisodeState, step: int) -> np.ndarray:
        action = behavior(table, state, rng)
        here = reward.on_fill(table, crystal, state.focus, action + 1)
        earned.append(np.where(step < state.n_sites, here, 0.0))
        return action

    episodes, finished = _play(table, crystal, table.traversals[crystal, start_site], act)
    rewards = np.stack(earned, axis=1)
    last, components = reward.on_finish(table, crystal, finished)
    # Where the reward failed, what it pays instead is no observation.
    last = np.where(components.get("failed", np.zeros(len(crystal))) > 0, np.nan, last)
    rewards[np.arange(len(crystal)), episodes.n_steps - 1] += last
    return dataclasses.replace(episodes, rewards=rewards)


def replay(
    table: EpisodeTable,
    crystal: np.ndarray,
    order: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
) -> Episodes:
    """Episodes once more, from what was done in them.

    Args:
        table: the crystals.
        crystal: rows of the table, (B,).
        order: the sites in the order of filling, (B, N), padded with -1.
        actions: 0 to V - 1, (B, N).
        rewards: as they were earned, (B, N), 0 on padding.
    """
    episodes, _ = _play(table, crystal, order, lambda _, step: actions[:, step])
    return dataclasses.replace(episodes, rewards=rewards[:, : episodes.actions.shape[1]])


def _play(
    table: EpisodeTable,
    crystal: np.ndarray,
    order: np.ndarray,
    act: Callable[[EpisodeState, int], np.ndarray],
) -> tuple[Episodes, np.ndarray]:
    """Whole episodes without rewards, and the codes of the finished crystals, (B, N)."""
    state = start(table, crystal, order)
    n_steps = state.n_sites
    observations, actions = [observe(table, state)], []
    for step in range(int(n_steps.max())):
        actions.append(act(state, step))
        fill(state, actions[-1])
        observations.append(observe(table, state))
    episodes = Episodes(
        crystal=crystal,
        start_site=order[:, 0].copy(),
        n_steps=n_steps,
        observations={
            key: np.stack([seen[key] for seen in observations], axis=1) for key in observations[0]
        },
        actions=np.stack(actions, axis=1),
        rewards=np.zeros((len(crystal), len(actions))),
    )
    return episodes, state.elements


def generate_episodes(
    table: EpisodeTable,
    start_sites: np.ndarray,
    behavior: BehaviorPolicy | PolicyMixture,
    seed: int = 0,
    reward: Reward | None = None,
) -> Iterator[Episodes]:
    """The episodes of a table's crystals, crystal by crystal, in batches of whole crystals.

    Args:
        table: C crystals.
        sources: int64 (C, S) as from ``choose_start_sites``; a crystal without any has no episode.
        behavior: chooses the elements.
        seed: of the behavior's random numbers.
        reward: what is earned (default: ``match``).
    """
    rng = make_generator(seed)
    rows = np.flatnonzero((start_sites >= 0).any(axis=1))
    parts = np.empty(0, np.int64)
    if isinstance(behavior, PolicyMixture):
        parts = behavior.assign(int((start_sites >= 0).sum()), rng)
    begin = 0
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        place, column = np.nonzero(start_sites[batch] >= 0)
        crystal, start_site = batch[place], start_sites[batch][place, column]
        if not isinstance(behavior, PolicyMixture):
            yield roll_out(table, crystal, start_site, behavior, rng, reward=reward)
            continue
        part = parts[begin : begin + len(crystal)]
        begin += len(crystal)
        act = behavior.acting(part)
        episodes = roll_out(table, crystal, start_site, act, rng, reward=reward)
        names = np.array([each.name for each in behavior.parts])
        yield dataclasses.replace(episodes, made_by=names[part])
