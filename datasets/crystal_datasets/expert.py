"""The expert's transitions of a collection, generated in memory."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from crystal_datasets.behaviors import get_behavior_policy
from crystal_datasets.episodes import Episodes, generate_episodes
from crystal_datasets.minari_writer import dataset_id, origin_of
from crystal_datasets.start_states import StartStates, rows_of_split
from crystal_datasets.transitions import Transitions
from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable


def expert_transitions(
    collection: str | Path | CrystalCollection,
    split: str,
    *,
    split_by: str | PathLike[str] = "origin",
    vocabulary: Vocabulary | None = None,
    trajectories: int = 5,
    seed: int = 0,
) -> Transitions:
    """Return the transitions of the expert without writing a dataset.

    The result equals ``load_transitions(build_dataset(collection, split))``, without the time that
    writing and reading the file takes.

    Args:
        collection: The collection's name, its path, or a ``CrystalCollection``.
        split: ``train``, ``val``, ``test`` or ``all``.
        split_by: ``origin``, ``composition``, ``prototype``, ``random:SEED`` or the path of a split
            file, see ``crystal_gym.load_collection``.
        vocabulary: The elements of the action space (default: those of the collection).
        trajectories: Number of trajectories for each crystal, each from a different start site. A
            crystal with fewer sites has one from each site.
        seed: Seed of the start sites.

    Raises:
        UnknownNameError: If the collection, the split or ``split_by`` is unknown.
        CrystalGymError: If the split is empty, a crystal has an element outside the vocabulary,
            ``trajectories`` is below 1 or ``seed`` is below 0.
    """
    crystals = load_collection(collection, split_by=split_by, progress=False)
    rows = rows_of_split(crystals, split)
    table = EpisodeTable(crystals, vocabulary)
    start_sites = StartStates(table, limit=trajectories, seed=seed).start_sites_of(rows)
    episodes = generate_episodes(table, start_sites, get_behavior_policy("expert"), seed)
    return Transitions(
        dataset_id=dataset_id(crystals.name, split),
        vocabulary=table.vocabulary.symbols,
        collections={crystals.fingerprint(): origin_of(collection) or crystals.name},
        skeleton_ids=np.array([crystals.ids[row] for row in rows]),
        n_sites=table.n_sites[rows].astype(np.int32),
        **_arrays(episodes),
    )


def _arrays(batches: Iterable[Episodes]) -> dict[str, Any]:
    """Return the other array fields of ``Transitions``."""
    columns: dict[str, list[np.ndarray]] = {}
    n_skeletons = n_episodes = 0
    for episodes in batches:
        n_steps, observations = episodes.n_steps, episodes.observations
        steps = np.arange(episodes.actions.shape[1])
        taken = steps < n_steps[:, None]
        crystal, first, skeleton = np.unique(
            episodes.crystal, return_index=True, return_inverse=True
        )
        part = {
            "frac_coords": observations["frac_coords"][first, 0],
            "lattice": observations["lattice"][first, 0],
            "edges": observations["edges"][first, 0].astype(np.int16),
            "skeleton": np.repeat(n_skeletons + skeleton, n_steps).astype(np.int32),
            "trajectory": np.repeat(n_episodes + np.arange(len(episodes)), n_steps).astype(
                np.int32
            ),
            "start_site": np.repeat(episodes.start_site, n_steps).astype(np.int16),
            "step": np.broadcast_to(steps, taken.shape)[taken].astype(np.int16),
            "elements": observations["element"][:, :-1][taken].astype(np.int16),
            "focus": observations["focus"][:, :-1][taken].astype(np.int16),
            "action": episodes.actions[taken].astype(np.int16),
            "reward": episodes.rewards[taken].astype(np.float32),
            "done": (steps == n_steps[:, None] - 1)[taken],
        }
        for name, values in part.items():
            columns.setdefault(name, []).append(values)
        n_skeletons += len(crystal)
        n_episodes += len(episodes)
    return {name: np.concatenate(parts) for name, parts in columns.items()}
