"""Build the Minari dataset of a behavior policy on one split of a collection."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from crystal_datasets.behaviors import PolicyMixture, get_behavior_policy
from crystal_datasets.episodes import generate_episodes
from crystal_datasets.flat import flat_layout
from crystal_datasets.minari_writer import (
    DatasetSpec,
    dataset_id,
    environment_spec,
    origin_of,
    resolve_named_reward,
    write_dataset,
)
from crystal_datasets.start_states import StartStates, rows_of_split
from crystal_datasets.task import DatasetTask
from crystal_gym.collections import canonical_split_by, load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.envs.targets import TargetDraw
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_datasets.minari_writer import NamedReward

_ALGORITHMS = {
    "expert": "expert: assigns the true element to each site",
    "random": "uniform random over the vocabulary",
}


def build_dataset(
    collection: str | Path | CrystalCollection,
    split: str,
    behavior: str | PolicyMixture = "expert",
    *,
    reward: "NamedReward" = "match",
    split_by: str | PathLike[str] = "origin",
    on_error: str = "raise",
    vocabulary: Vocabulary | None = None,
    observations: str = "dict",
    start: str = "empty",
    keep: float | Sequence[int] | None = None,
    mask: str = "none",
    target: str | Sequence[str] = (),
    trajectories: int = 5,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Write the episodes of every crystal of a split as a Minari dataset, with its dataset card.

    The dataset is built in a hidden folder, which is renamed once the dataset is complete. Minari
    can recover the environment of the dataset if the collection is given by name or path and the
    reward by names.

    Args:
        collection: The collection's name, its path, or a ``CrystalCollection``.
        split: ``train``, ``val``, ``test`` or ``all``.
        behavior: A key of ``BEHAVIOR_POLICIES``, or a mixture such as ``mixed`` returns.
        reward: A key of ``crystal_gym.rewards.REWARDS``, or a pair of a new name and any reward
            that the environment accepts. Episodes with a non-finite reward are dropped; the dataset
            card reports how many.
        split_by: ``origin``, ``composition``, ``prototype``, ``random:SEED`` or the path of a split
            file, see ``crystal_gym.load_collection``. In the id, the collection is called
            ``<collection>-by-composition``, ``<collection>-by-prototype``,
            ``<collection>-by-random-<seed>`` or ``<collection>-by-file-<name>``.
        on_error: ``raise`` an error for crystals that cannot be read, or ``skip`` them; the dataset
            card reports how many.
        vocabulary: The elements of the action space (default: those of the collection).
        observations: ``dict``, as the environment returns them; ``flat``, float32 vectors for
            libraries that require a ``Box``, see ``crystal_gym.envs.flat_layout.FlatLayout``; or
            ``flat-pairs``, with pair features of the neighbor graph.
        start: ``empty``, or ``partial`` to keep the true elements of some sites from the start.
        keep: The kept sites of a partial start, as in the environment: a fraction (float), so that
            they are drawn for each episode, or site numbers (default: 0.5).
        mask: A name of ``crystal_gym.masks.MASKS``, the mask of the environment. The behavior
            ``random`` draws from its elements.
        target: Names of labels, which observations contain as ``target``. Crystals without these
            labels are left out; the dataset card reports how many.
        trajectories: Number of episodes for each crystal, each from a different start site. A
            crystal with fewer sites has one episode from each site.
        seed: Seed of the start sites and of the behavior policy.
        overwrite: Whether to replace an existing dataset, once the new one is complete.
        progress: Whether to show progress bars.

    Returns:
        The dataset's id, for ``minari.load_dataset`` and ``load_transitions``.

    Raises:
        UnknownNameError: If the collection, split, behavior policy, reward, ``split_by`` or
            ``observations`` is unknown.
        CrystalGymError: If the dataset exists and ``overwrite`` is false, the split is empty, the
            kept sites do not fit a crystal, a mixture is combined with a mask, a
            crystal has an element outside the vocabulary, a lattice is outside the bounds of flat
            observations, ``trajectories`` is below 1, ``seed`` is below 0, or no episode has a
            finite reward.
        StorageError: If the folder of Minari datasets cannot be written or the disk is full.
    """
    mixture = behavior if isinstance(behavior, PolicyMixture) else None
    task = DatasetTask.of(start, keep, mask, target)
    if mixture and task.mask != "none":
        raise CrystalGymError(
            f"Expected no mask with a mixture of behavior policies, got {mask!r}. Their actions do "
            "not follow it: leave the mask out, or use another behavior."
        )
    policy = mixture or get_behavior_policy(str(behavior), task.mask)
    behavior_name = "mixed" if mixture else str(behavior)
    reward_name, resolved_reward = resolve_named_reward(reward)
    split_by = canonical_split_by(split_by)
    crystals = load_collection(collection, split_by=split_by, on_error=on_error, progress=progress)
    rows = rows_of_split(crystals, split)
    table = EpisodeTable(crystals, vocabulary, target=task.target)
    n_crystals = len(rows)
    rows = TargetDraw(task.target).select_rows(table, rows)
    layout = flat_layout(table, observations)
    resolved_reward.prepare(table)
    states = StartStates(table, task.start, task.keep, limit=trajectories, seed=seed)
    states.check(rows)
    start_sites = states.start_sites_of(rows)
    spec = DatasetSpec(
        dataset_id=dataset_id(
            crystals.name, split, behavior_name, reward_name, observations, task=task
        ),
        table=table,
        split=split,
        behavior=behavior_name,
        algorithm=_describe(behavior_name, mixture, task),
        reward=reward_name,
        labels=resolved_reward.labels,
        origin=origin_of(collection),
        environment=environment_spec(
            collection, split, split_by, table, reward, on_error=on_error, layout=layout, task=task
        ),
        reward_definition=resolved_reward.definition,
        layout=layout,
        task=task,
        settings={
            "split_by": split_by,
            "crystals": len(rows),
            "trajectories": trajectories,
            "seed": seed,
            **({"mixture": mixture.settings()} if mixture else {}),
            **({"crystals_without_labels": n_crystals - len(rows)} if task.target else {}),
        },
    )
    episodes = generate_episodes(
        table, start_sites, policy, seed, resolved_reward, start_states=states
    )
    write_dataset(spec, episodes, int((start_sites >= 0).sum()), overwrite, progress)
    return spec.dataset_id


def _describe(behavior: str, mixture: PolicyMixture | None, task: DatasetTask) -> str:
    """Describe the behavior policy, for Minari's entry ``algorithm_name``."""
    if mixture:
        return f"mixture of {mixture.describe()}"
    if behavior == "random" and task.mask != "none":
        return f"uniform random over the elements that the mask {task.mask} allows"
    return _ALGORITHMS[behavior]
