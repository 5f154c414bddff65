"""Generation of whole episodes in batches, without a Python loop over episodes.

A behavior policy chooses the elements. The start state, the observations and the transitions come
from ``crystal_gym.episode``, as in the environment.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from crystal_datasets.behaviors import BehaviorPolicy, PolicyMixture
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, observe, start
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import MatchReward, Reward

# Crystals per batch; the observations of a batch with cells of 20 sites take about 200 MB.
BATCH = 128


@dataclass(frozen=True)
class Episodes:
    """B whole episodes of up to N steps; entries after an episode's last step are padding.

    Attributes:
        crystal: Row of the crystal in the table, int64 (B,).
        start_site: The site filled first, int64 (B,).
        n_steps: The crystal's number of sites, int64 (B,).
        observations: Arrays by key of the observation space, each (B, N + 1, …).
        actions: Integers from 0 to V - 1, int64 (B, N).
        rewards: float64 (B, N), 0 on padding; NaN where the reward failed.
        behavior: Name of the mixture component that chose the actions, str (B,); ``None`` if the
            episodes are not from a mixture.
    """

    crystal: np.ndarray
    start_site: np.ndarray
    n_steps: np.ndarray
    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    behavior: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.crystal)

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted returns, float64 (B,)."""
        return self.rewards.sum(axis=1)

    def select(self, indices: np.ndarray) -> "Episodes":
        """Return the episodes at these indices, int (k,) or bool (B,)."""
        return Episodes(
            crystal=self.crystal[indices],
            start_site=self.start_site[indices],
            n_steps=self.n_steps[indices],
            observations={key: values[indices] for key, values in self.observations.items()},
            actions=self.actions[indices],
            rewards=self.rewards[indices],
            behavior=None if self.behavior is None else self.behavior[indices],
        )


def make_generator(seed: int) -> np.random.Generator:
    """Return a random generator with this seed.

    Raises:
        CrystalGymError: If the seed is below 0.
    """
    if seed < 0:
        raise CrystalGymError(f"Expected a seed of 0 or more, got {seed}. Pass another seed.")
    return np.random.default_rng(seed)


def choose_start_sites(n_sites: np.ndarray, limit: int = 5, seed: int = 0) -> np.ndarray:
    """Choose up to ``limit`` start sites for each of C crystals.

    A crystal with at most ``limit`` sites starts from all of them, a larger one from a random
    sample. With the same seed, the sites chosen under a smaller limit are a subset of those chosen
    under a larger one.

    Args:
        n_sites: Number of sites of each crystal, int (C,).
        limit: Largest number of start sites for each crystal, 1 or more.
        seed: Seed of the sample.

    Returns:
        Start sites in ascending order, int64 (C, limit), padded with -1 at the end.

    Raises:
        CrystalGymError: If ``limit`` is below 1 or ``seed`` is below 0.
    """
    if limit < 1:
        raise CrystalGymError(
            f"Expected at least one start site for each crystal, got {limit}. Set the number of "
            "start sites or trajectories to 1 or more."
        )
    rng = make_generator(seed)
    n_sites = np.asarray(n_sites)
    width = max(int(n_sites.max(initial=0)), limit)
    keys = rng.random((len(n_sites), width))
    keys[np.arange(width) >= n_sites[:, None]] = np.inf
    chosen = np.argsort(keys, axis=1)[:, :limit]
    # Padding gets the value `width`, which sorts after every site, and then becomes -1.
    chosen = np.sort(np.where(chosen < n_sites[:, None], chosen, width), axis=1)
    return np.where(chosen < width, chosen, -1)


def generate_episodes(
    table: EpisodeTable,
    start_sites: np.ndarray,
    behavior: BehaviorPolicy | PolicyMixture,
    seed: int = 0,
    reward: Reward | None = None,
) -> Iterator[Episodes]:
    """Yield the episodes of C crystals, crystal by crystal, in batches of whole crystals.

    Args:
        table: The crystals and the vocabulary.
        start_sites: Start sites as from ``choose_start_sites``, int64 (C, S), padded with -1. A
            crystal whose row contains only -1 has no episode.
        behavior: The behavior policy, or a mixture of several.
        seed: Seed of the behavior policy.
        reward: The reward of the episodes (default: ``match``).

    Raises:
        CrystalGymError: If ``seed`` is below 0.
    """
    rng = make_generator(seed)
    rows = np.flatnonzero((start_sites >= 0).any(axis=1))
    components = np.empty(0, np.int64)
    if isinstance(behavior, PolicyMixture):
        components = behavior.assign(int((start_sites >= 0).sum()), rng)
    n_generated = 0
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        place, column = np.nonzero(start_sites[batch] >= 0)
        crystal, start_site = batch[place], start_sites[batch][place, column]
        if not isinstance(behavior, PolicyMixture):
            yield roll_out(table, crystal, start_site, behavior, rng, reward=reward)
            continue
        component = components[n_generated : n_generated + len(crystal)]
        n_generated += len(crystal)
        policy = behavior.behavior_policy(component)
        episodes = roll_out(table, crystal, start_site, policy, rng, reward=reward)
        names = np.array([entry.name for entry in behavior.components])
        yield dataclasses.replace(episodes, behavior=names[component])


def roll_out(
    table: EpisodeTable,
    crystal: np.ndarray,
    start_site: np.ndarray,
    behavior: BehaviorPolicy,
    rng: np.random.Generator,
    *,
    reward: Reward | None = None,
) -> Episodes:
    """Fill B crystals in breadth-first order from their start sites, all at once.

    Args:
        table: The crystals and the vocabulary.
        crystal: Rows of the table, int (B,).
        start_site: The site to fill first, int (B,).
        behavior: The behavior policy.
        rng: The random generator of the behavior policy.
        reward: The reward of the episodes (default: ``match``).
    """
    reward = reward or MatchReward()
    step_rewards = []

    def act(state: EpisodeState, step: int) -> np.ndarray:
        action = behavior(table, state, rng)
        step_reward = reward.on_fill(table, state, action + 1)
        step_rewards.append(np.where(step < state.n_sites, step_reward, 0.0))
        return action

    order = table.breadth_first(crystal, start_site)
    episodes, final = _run_episodes(table, crystal, order, act)
    rewards = np.stack(step_rewards, axis=1)
    final_reward, components = reward.on_finish(table, final)
    # The fallback value of a failed reward must not be stored in a dataset.
    failed = components.get("failed", np.zeros(len(crystal))) > 0
    rewards[np.arange(len(crystal)), episodes.n_steps - 1] += np.where(failed, np.nan, final_reward)
    return dataclasses.replace(episodes, rewards=rewards)


def replay_episodes(
    table: EpisodeTable,
    crystal: np.ndarray,
    order: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
) -> Episodes:
    """Rebuild B episodes with their observations from recorded actions and rewards.

    Args:
        table: The crystals and the vocabulary.
        crystal: Rows of the table, int (B,).
        order: The sites in the order of filling, int (B, N), padded with -1.
        actions: Integers from 0 to V - 1, (B, N).
        rewards: The recorded rewards, float (B, N), 0 on padding.
    """
    episodes, _ = _run_episodes(table, crystal, order, lambda _, step: actions[:, step])
    return dataclasses.replace(episodes, rewards=rewards[:, : episodes.actions.shape[1]])


def _run_episodes(
    table: EpisodeTable,
    crystal: np.ndarray,
    order: np.ndarray,
    act: Callable[[EpisodeState, int], np.ndarray],
) -> tuple[Episodes, EpisodeState]:
    """Return whole episodes with rewards of 0, and the final state."""
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
            key: np.stack([observation[key] for observation in observations], axis=1)
            for key in observations[0]
        },
        actions=np.stack(actions, axis=1),
        rewards=np.zeros((len(crystal), len(actions))),
    )
    return episodes, state
