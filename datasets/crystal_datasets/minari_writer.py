"""Writer of Minari datasets for many short episodes.

Minari's own writers need minutes for the 56,780 expert episodes of Perov-5's split ``train``. This
writer passes the metadata through Minari's storage class and writes the episodes directly in
Minari's HDF5 layout. It depends on the file layout of the pinned Minari version; a test compares
its output with that of the official writer.
"""

import copy
import importlib.metadata
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from minari.dataset.minari_storage import MinariStorage

from crystal_datasets.dataset_card import dataset_card
from crystal_datasets.dataset_folder import create_namespaces, staged_folder
from crystal_datasets.dataset_metadata import (
    DATA_FILE,
    ENVIRONMENT,
    FLAT_ENVIRONMENT,
    identify_existing,
    require_collection,
)
from crystal_datasets.episodes import Episodes
from crystal_datasets.hdf5_file import EpisodeWriter
from crystal_datasets.task import EMPTY_SKELETONS, DatasetTask
from crystal_gym.collections import canonical_origin
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.episode import EpisodeTable, observation_space
from crystal_gym.errors import CollectionMismatchWarning, CrystalGymError
from crystal_gym.rewards import REWARDS, Reward, resolve_reward
from crystal_gym.utils.identity import describe_crystals, readable, safe_name
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

    # A key of ``crystal_gym.rewards.REWARDS``, or a new name and anything that ``resolve_reward``
    # accepts, such as ``("halves", {"match": 0.5, "validity": 0.5})``.
    NamedReward = str | tuple[str, RewardLike]

NAMESPACE = "crystal-gym"
AUTHOR = "The crystal-gym developers"
RENAME_OR_OVERWRITE = (
    "The name of the file or folder is part of the dataset's id: rename one of them, or pass "
    "overwrite=True (--overwrite) to replace the dataset."
)
# Minari asks for an email address "or some other obvious contact information".
CONTACT = "the issue tracker of crystal-gym"


def dataset_id(
    collection: str,
    split: str,
    behavior: str = "expert",
    reward: str = "match",
    observations: str = "dict",
    *,
    task: DatasetTask = EMPTY_SKELETONS,
) -> str:
    """Return the Minari id of a dataset: ``crystal-gym/<collection>/<behavior>-<split>-v0``.

    A reward other than ``match`` is part of the id: ``…/<behavior>-<split>-<reward>-v0``. Flat
    observations come first: ``…/flat-<behavior>-<split>-v0``. Another task follows the behavior:
    ``…/expert-partial-0_5-train-v0``, ``…/expert-composition-train-v0``.

    Args:
        collection: The collection's name. Characters that an id does not allow become ``-``; such
            names, and ``data``, which Minari reserves, get a suffix that keeps them distinct.
        split: ``train``, ``val``, ``test`` or ``all``.
        behavior: ``expert``, ``random``, ``mixed`` or ``replay``.
        reward: The reward's name, changed in the same way.
        observations: ``dict``, ``flat`` or ``flat-pairs``.
        task: The task (default: filling empty skeletons).
    """
    prefix = "" if observations == "dict" else f"{observations}-"
    suffix = "" if reward == "match" else f"-{safe_name(reward, 'reward')}"
    name = f"{prefix}{behavior}{task.name}-{split}{suffix}-v0"
    return f"{NAMESPACE}/{safe_name(collection, 'crystals')}/{name}"


def resolve_named_reward(reward: "NamedReward") -> tuple[str, Reward]:
    """Return the name of a dataset's reward and the reward.

    Args:
        reward: A key of ``REWARDS``, or a pair of a new name and a reward.

    Raises:
        UnknownNameError: If there is no reward with this name.
        CrystalGymError: If the new name is a key of ``REWARDS``.
    """
    if isinstance(reward, str):
        return reward, resolve_reward(reward)
    name, definition = reward
    if name in REWARDS:
        raise CrystalGymError(
            f"Expected a new name for a custom reward, got {name!r}, which is a reward of "
            "crystal-gym. Choose another name, so that the ids of the datasets differ."
        )
    return name, resolve_reward(definition)


def origin_of(collection: object) -> str | None:
    """Return the name or the absolute path of a collection; ``None`` for other objects."""
    return canonical_origin(collection) if isinstance(collection, str | Path) else None


def environment_spec(
    collection: str | Path | CrystalCollection,
    split: str,
    split_by: str,
    table: EpisodeTable,
    reward: "NamedReward",
    *,
    on_error: str = "raise",
    layout: FlatLayout | None = None,
    task: DatasetTask = EMPTY_SKELETONS,
) -> EnvSpec | None:
    """Return the specification of a dataset's environment.

    Args:
        collection: The collection's name, its path, or the collection itself.
        split: The split of the dataset.
        split_by: Kind of the splits, as ``canonical_split_by`` returns it.
        table: The crystals and the vocabulary.
        reward: The reward of the dataset.
        on_error: ``raise`` or ``skip``, see ``crystal_gym.load_collection``.
        layout: The layout of flat observations (default: the observations are dicts).
        task: The task (default: filling empty skeletons).

    Returns:
        The specification, or ``None`` if JSON cannot represent the collection or the reward.
    """
    reward_argument = reward if isinstance(reward, str) else reward[1]
    origin = origin_of(collection)
    if origin is None or not isinstance(reward_argument, str | Mapping):
        return None
    spec = copy.deepcopy(gymnasium.spec(ENVIRONMENT if layout is None else FLAT_ENVIRONMENT))
    spec.kwargs |= {
        "collection": origin,
        "split": split,
        "split_by": split_by,
        "vocabulary": list(table.vocabulary.symbols),
        "collection_sha256": table.collection.fingerprint(),
    }
    if layout is not None:
        # d3rlpy requires a limit; no episode reaches this one.
        spec.max_episode_steps = table.max_sites + 1
        spec.kwargs["pairs"] = layout.pairs
    if on_error != "raise":
        spec.kwargs["on_error"] = on_error
    if table.max_sites > table.collection.max_sites:
        spec.kwargs["max_sites"] = table.max_sites
    spec.kwargs |= task.settings()
    if reward_argument != "match":
        spec.kwargs["reward"] = reward_argument
    return spec


@dataclass(frozen=True)
class DatasetSpec:
    """The description of a dataset without its episodes.

    Attributes:
        dataset_id: The Minari id.
        table: The crystals and the vocabulary.
        split: The split of the crystals.
        behavior: ``expert``, ``random``, ``mixed`` or ``replay``.
        algorithm: The behavior policy in words.
        reward: The reward's name.
        labels: Names of the crystal labels that the reward uses.
        origin: Name or path of the collection; ``None`` if it was created in Python.
        environment: The environment of the episodes, or ``None`` if JSON cannot represent it.
        settings: Further entries for the section ``crystal_gym`` of the metadata.
        reward_definition: ``Reward.definition`` of the reward.
        layout: The layout of flat observations, or ``None`` if the observations are dicts.
        task: Start states, mask and targets.
    """

    dataset_id: str
    table: EpisodeTable
    split: str
    behavior: str
    algorithm: str
    reward: str
    labels: tuple[str, ...]
    origin: str | None
    environment: EnvSpec | None
    settings: dict[str, Any]
    reward_definition: str | None = None
    layout: FlatLayout | None = None
    task: DatasetTask = EMPTY_SKELETONS

    def metadata(self) -> dict[str, Any]:
        """Return the metadata required by Minari and ``load_transitions``."""
        collection, vocabulary = self.table.collection, self.table.vocabulary
        metadata = {
            "dataset_id": self.dataset_id,
            **self._provenance(),
            "crystal_gym": {
                "collection": collection.name,
                "origin": self.origin,
                "excluded_crystals": len(collection.excluded),
                "split": self.split,
                "behavior": self.behavior,
                "reward": self.reward,
                "reward_definition": self.reward_definition,
                "collection_sha256": collection.fingerprint(),
                "labels_sha256": collection.labels_fingerprint(self.labels),
                "vocabulary": list(vocabulary.symbols),
                **self._flat_blocks(),
                **self.task.settings(),
                **self.settings,
            },
        }
        if self.reward == "match" and self.task.mask == "none":
            # Exact expected returns of uniform random actions and of the expert.
            metadata |= {
                "ref_min_score": 1 / len(vocabulary),
                "ref_max_score": 1.0,
                "num_episodes_average_score": self.settings["crystals"],
            }
        return metadata

    def _flat_blocks(self) -> dict[str, Any]:
        """Return the start and stop of each block of flat observations, in ``flat_blocks``."""
        if self.layout is None:
            return {}
        blocks = self.layout.blocks.items()
        return {"flat_blocks": {name: [place.start, place.stop] for name, place in blocks}}

    def _provenance(self) -> dict[str, Any]:
        """Return Minari's entries on the author, the algorithm and the requirements."""
        version = importlib.metadata.version("crystal-gym")
        collection = self.table.collection
        reward = "" if self.reward == "match" else f" Reward: {self.reward}."
        environment = ENVIRONMENT if self.layout is None else FLAT_ENVIRONMENT
        provenance = {
            "minari_version": importlib.metadata.version("minari"),
            "algorithm_name": self.algorithm,
            "author": {AUTHOR},
            "author_email": {CONTACT},
            "code_permalink": f"crystal-gym {version}, crystal_datasets",
            "requirements": [f"crystal-gym>={version}"],
            "description": (
                f"Episodes of {environment} on the split {self.split!r} of {collection.name!r}. "
                "Each step assigns an element to one site of a crystal skeleton. Behavior policy: "
                f"{self.algorithm}.{reward} {collection.description}"
            ),
        }
        if self.environment is not None:
            provenance["eval_env_spec"] = self.environment.to_json()
        return provenance


def write_dataset(
    spec: DatasetSpec,
    episodes: Iterable[Episodes],
    total: int,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Write the episodes with a finite return as a Minari dataset, with its dataset card.

    Metadata and card report how many episodes were dropped because their reward is NaN or infinite.

    Args:
        spec: The description of the dataset.
        episodes: Batches of episodes; their crystals are rows of ``spec.table``.
        total: The number of episodes in all batches.
        overwrite: Whether to replace an existing dataset, once the new one is complete.
        progress: Whether to show a progress bar.

    Raises:
        CollectionMismatchError: If a dataset of other crystals exists and ``overwrite`` is false.
        CrystalGymError: If the dataset exists and ``overwrite`` is false, or if no episode has a
            finite return.
        StorageError: If the folder of Minari datasets cannot be written or the disk is full.

    Warns:
        CollectionMismatchWarning: If a dataset of another origin is replaced.
    """
    crystals, table = spec.table.collection, spec.table
    _check_existing(spec, overwrite)
    with staged_folder(spec.dataset_id, overwrite) as folder:
        observations = observation_space(
            table.max_sites, table.max_edges, table.n_elements, len(table.target_names)
        )
        storage = MinariStorage.new(
            folder / "data",
            observation_space=observations if spec.layout is None else spec.layout.space(),
            action_space=spaces.Discrete(table.n_elements),
            env_spec=spec.environment,
        )
        with (
            EpisodeWriter(folder / "data" / DATA_FILE, observations, spec.layout) as file,
            progress_bar(f"Writing {spec.dataset_id}", total, shown=progress) as advance,
        ):
            returns, behaviors = _write_episodes(file, episodes, crystals, advance)
        if not file.total_episodes:
            raise CrystalGymError(
                f"Expected episodes of {spec.dataset_id} with a finite reward, got NaN or infinite "
                f"rewards {spec.reward!r} in all {total} episodes. Check the reward."
            )
        metadata = spec.metadata()
        metadata["crystal_gym"] |= {
            "dropped_episodes": total - file.total_episodes,
            **_return_statistics(returns, behaviors),
        }
        storage.update_metadata(
            {
                **metadata,
                "total_episodes": file.total_episodes,
                "total_steps": file.total_steps,
                "dataset_size": storage.get_size(),
            }
        )
        card = readable(dataset_card(storage.metadata, crystals))
        (folder / "README.md").write_text(card, "utf-8")
        create_namespaces(spec.dataset_id, crystals.description)


def _check_existing(spec: DatasetSpec, overwrite: bool) -> None:
    """Raise an error or a warning if a dataset of other crystals has the same id."""
    existing = identify_existing(spec.dataset_id)
    if existing is None:
        return
    collection = spec.table.collection
    if not overwrite:
        require_collection(
            spec.dataset_id, existing.collections, spec.origin, collection, RENAME_OR_OVERWRITE
        )
        return
    name = spec.origin or collection.name
    if existing.fingerprints != (collection.fingerprint(),) and existing.origins != (name,):
        warnings.warn(
            f"The dataset {spec.dataset_id} of {existing.describe()} is replaced by one of "
            f"{describe_crystals(name, collection.fingerprint())}.",
            CollectionMismatchWarning,
            stacklevel=4,
        )


def _write_episodes(
    file: EpisodeWriter,
    episodes: Iterable[Episodes],
    crystals: CrystalCollection,
    advance: Callable[[int], None],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Write the episodes with a finite return.

    Returns:
        The returns and the names of the behavior policies of the episodes written, as arrays (B,)
        for each batch. Without a mixture the second list is empty.
    """
    returns, behaviors = [], []
    for batch in episodes:
        kept = batch.select(np.flatnonzero(np.isfinite(batch.returns)))
        file.append(kept, crystals)
        returns.append(kept.returns)
        if kept.behavior is not None:
            behaviors.append(kept.behavior)
        advance(len(batch))
    return returns, behaviors


def _return_statistics(returns: list[np.ndarray], behaviors: list[np.ndarray]) -> dict[str, Any]:
    """Return statistics of the returns of all episodes, and by behavior policy in a mixture."""
    all_returns = np.concatenate(returns)
    if not behaviors:
        return {"returns": _statistics(all_returns)}
    names = np.concatenate(behaviors)
    return {
        "returns": _statistics(all_returns),
        "returns_by": {
            str(name): _statistics(all_returns[names == name]) for name in np.unique(names)
        },
    }


def _statistics(returns: np.ndarray) -> dict[str, float]:
    return {
        "episodes": len(returns),
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "min": float(returns.min()),
        "max": float(returns.max()),
    }
