"""Generation of whole episodes in batches, without a Python loop over episodes.

A behavior policy chooses the elements. The start state, the observations and the transitions come
from ``crystal_gym.episode``, as in the environment.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from crystal_datasets.behaviors import BehaviorPolicy, PolicyMixture
from crystal_datasets.start_states import StartStates, make_generator
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, observe, start
from crystal_gym.rewards import MatchReward, Reward

# Crystals per batch; the observations of a batch with cells of 20 sites take about 200 MB.
BATCH = 128


@dataclass(frozen=True)
class Episodes:
    """B whole episodes of up to N steps; entries after an episode's last step are padding.

    Attributes:
        crystal: Row of the crystal in the table, int64 (B,).
        start_site: The site that the agent fills first, int64 (B,).
        n_steps: The crystal's number of sites without the kept sites, int64 (B,).
        observations: Arrays by key of the observation space, each (B, N + 1, …).
        actions: Integers from 0 to V - 1, int64 (B, N).
        rewards: float64 (B, N), 0 on padding; NaN where the reward failed.
        behavior: Name of the mixture component that chose the actions, str (B,); ``None`` if the
            episodes are not from a mixture.
        kept: Whether each site is kept, bool (B, N); ``None`` if all skeletons are empty.
    """

    crystal: np.ndarray
    start_site: np.ndarray
    n_steps: np.ndarray
    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    behavior: np.ndarray | None = None
    kept: np.ndarray | None = None

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
            kept=None if self.kept is None else self.kept[indices],
        )


def generate_episodes(
    table: EpisodeTable,
    start_sites: np.ndarray,
    behavior: BehaviorPolicy | PolicyMixture,
    seed: int = 0,
    reward: Reward | None = None,
    *,
    start_states: StartStates | None = None,
) -> Iterator[Episodes]:
    """Yield the episodes of C crystals, crystal by crystal, in batches of whole crystals.

    Args:
        table: The crystals and the vocabulary.
        start_sites: Start sites as from ``choose_start_sites``, int64 (C, S), padded with -1. A
            crystal whose row contains only -1 has no episode.
        behavior: The behavior policy, or a mixture of several.
        seed: Seed of the behavior policy.
        reward: The reward of the episodes (default: ``match``).
        start_states: The kept sites of the episodes (default: every skeleton is empty).

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
        options = {"reward": reward, "start_states": start_states}
        if not isinstance(behavior, PolicyMixture):
            yield roll_out(table, crystal, start_site, behavior, rng, **options)
            continue
        component = components[n_generated : n_generated + len(crystal)]
        n_generated += len(crystal)
        policy = behavior.behavior_policy(component)
        episodes = roll_out(table, crystal, start_site, policy, rng, **options)
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
    start_states: StartStates | None = None,
) -> Episodes:
    """Fill B crystals in breadth-first order from their start sites, all at once.

    Args:
        table: The crystals and the vocabulary.
        crystal: Rows of the table, int (B,).
        start_site: The site to fill first, int (B,).
        behavior: The behavior policy.
        rng: The random generator of the behavior policy.
        reward: The reward of the episodes (default: ``match``).
        start_states: The kept sites of the episodes (default: every skeleton is empty).
    """
    reward = reward or MatchReward()
    step_rewards = []

    def act(state: EpisodeState, step: int) -> np.ndarray:
        action = behavior(table, state, rng)
        step_reward = reward.on_fill(table, state, action + 1)
        running = step < state.n_sites - state.n_kept
        step_rewards.append(np.where(running, step_reward, 0.0))
        return action

    if start_states is None:
        order, n_kept = table.breadth_first(crystal, start_site), None
    else:
        order, n_kept = start_states.orders(crystal, start_site)
    episodes, final = _run_episodes(table, crystal, order, act, n_kept)
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
    n_kept: np.ndarray | None = None,
) -> tuple[Episodes, EpisodeState]:
    """Return whole episodes with rewards of 0, and the final state."""
    state = start(table, crystal, order, n_kept)
    n_steps = state.n_sites - state.n_kept
    start_site = state.start_site.copy()
    kept = None if n_kept is None else state.elements > 0
    observations, actions = [observe(table, state)], []
    for step in range(int(n_steps.max())):
        actions.append(act(state, step))
        fill(state, actions[-1])
        observations.append(observe(table, state))
    episodes = Episodes(
        crystal=crystal,
        start_site=start_site,
        n_steps=n_steps,
        observations={
            key: np.stack([observation[key] for observation in observations], axis=1)
            for key in observations[0]
        },
        actions=np.stack(actions, axis=1),
        rewards=np.zeros((len(crystal), len(actions))),
        kept=kept,
    )
    return episodes, state
