"""FIXDOC."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crystal_datasets.behaviors import PolicyMixture, get_behavior_policy
from crystal_datasets.episodes import choose_start_sites, generate_episodes
from crystal_datasets.minari_writer import (
    _ALGORITHMS,
    DatasetPlan,
    canonical_reward_name,
    dataset_id,
    environment_spec,
    write_dataset,
)
from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

    # A name of ``crystal_gym.rewards.REWARDS``, or a name of your own and what ``resolve_reward``
    # takes: ``("halves", {"match": 0.5, "validity": 0.5})``.
    NamedReward = str | tuple[str, RewardLike]


def build_dataset(
    collection: str | Path | CrystalCollection,
    split: str,
    behavior: str | PolicyMixture = "expert",
    *,
    reward: "NamedReward" = "match",
    split_by: str = "origin",
    vocabulary: Vocabulary | None = None,
    trajectories: int = 5,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Write the episodes of every crystal of a split as a Minari data set, with its card.

    The data set is built in a hidden folder and gets its name when it is complete. An environment
    can be recovered from it when the collection is given by name or path and the reward by names; a
    collection or a reward at hand has no address that could be written down.

    Args:
        collection: a name, a path, or a collection at hand.
        split: ``train``, ``val``, ``test`` or ``all``.
        behavior: a name of ``BEHAVIOR_POLICIES``, or a mixture, such as ``mixed`` makes one.
        reward: what is earned: a name, or a pair of a name of your own and any reward that the
            environment takes. Episodes on whose crystal it fails are left out and counted.
        split_by: ``source`` or ``composition``, see ``crystal_gym.load_collection``; the latter
            gives the data set the name ``<collection>-by-composition``.
        vocabulary: the elements of the action space (default: those of the collection).
        trajectories: episodes for each crystal, one from each start site; crystals with more
            sites get a sample of them, crystals with fewer get one from each site.
        seed: of that sample and of the behavior.
        overwrite: replace an existing data set, once the new one is complete.
        progress: show progress bars.

    Returns:
        The id, to be passed to ``minari.load_dataset`` or ``load_transitions``.

    Raises:
        UnknownNameError: an unknown collection, split, behavior, reward or ``split_by``.
        CrystalGymError: the data set exists, the split is empty, a crystal holds an element that
            the vocabulary lacks, ``trajectories`` is below 1, ``seed`` below 0, or no episode has
            a reward that is a number.
        StorageError: the folder of Minari's data sets cannot be written or the disk is full.
    """
    mixture = behavior if isinstance(behavior, PolicyMixture) else None
    act = mixture or get_behavior_policy(str(behavior))
    kind = "mixed" if mixture else str(behavior)
    reward_name, earned = canonical_reward_name(reward)
    crystals = load_collection(collection, split_by=split_by, progress=progress)
    rows = crystals.in_split(split)
    if not len(rows):
        raise CrystalGymError(f"{crystals.name!r} has no crystals in its split {split!r}.")
    table = EpisodeTable(crystals, vocabulary)
    earned.prepare(table)
    start_sites = choose_start_sites(crystals.n_sites, trajectories, seed)
    start_sites[np.isin(np.arange(len(crystals)), rows, invert=True)] = -1
    plan = DatasetPlan(
        dataset_id(crystals.name, split, kind, reward_name),
        table,
        split,
        kind,
        _ALGORITHMS[kind] if mixture is None else f"each episode by one of: {mixture.describe()}",
        reward_name,
        earned.labels,
        environment_spec(collection, split, split_by, table, reward),
        {
            "split_by": split_by,
            "crystals": len(rows),
            "trajectories": trajectories,
            "seed": seed,
            **({"mixture": mixture.settings()} if mixture else {}),
        },
    )
    episodes = generate_episodes(table, start_sites, act, seed, earned)
    write_dataset(plan, episodes, int((start_sites >= 0).sum()), overwrite, progress)
    return plan.name
