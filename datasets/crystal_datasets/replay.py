"""Recording of the episodes of an online learner, and their Minari dataset ``replay``."""

import zipfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from crystal_datasets.episodes import Episodes, replay_episodes
from crystal_datasets.minari_writer import (
    DatasetSpec,
    dataset_id,
    environment_spec,
    origin_of,
    resolve_named_reward,
    write_dataset,
)
from crystal_gym.collections import canonical_split_by, load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CollectionMismatchError, CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.identity import describe_crystals, require_same_crystals

if TYPE_CHECKING:
    from crystal_datasets.minari_writer import NamedReward

# Names of the arrays in a file of episodes, in the order of `EpisodeRecorder.arrays`.
_ARRAYS = ("crystal", "order", "actions", "rewards")
_FINGERPRINT = "collection_sha256"
# Episodes whose observations are rebuilt together when a dataset is written.
_BATCH = 640


class EpisodeRecorder:
    """A store of the finished episodes of an online run, about 100 bytes each.

    Args:
        table: The table of the environment, ``env.table``.

    Attributes:
        table: The crystals and the vocabulary of the episodes.
    """

    def __init__(self, table: EpisodeTable) -> None:
        self.table = table
        self._crystal: list[np.ndarray] = []
        self._order: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._rewards: list[np.ndarray] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(
        self, crystal: np.ndarray, order: np.ndarray, actions: np.ndarray, rewards: np.ndarray
    ) -> None:
        """Add k finished episodes; entries after a crystal's n sites are ignored.

        Args:
            crystal: Rows of the table, int (k,).
            order: The sites in the order of filling, int (k, N).
            actions: Integers from 0 to V - 1 in the order of filling, (k, N).
            rewards: The reward of each step, float (k, N).

        Raises:
            CrystalGymError: If a shape is wrong, a row or an action is out of range, or an order is
                not a permutation of the crystal's sites.
        """
        crystal = np.asarray(crystal)
        k, table = len(crystal), self.table
        expected = (k, table.max_sites)
        shapes = {np.shape(values) for values in (order, actions, rewards)}
        if crystal.shape != (k,) or shapes != {expected}:
            raise CrystalGymError(
                f"Expected orders, actions and rewards of shape {expected} for {k} crystals, got "
                f"{', '.join(map(str, sorted(shapes)))} for crystals of shape {crystal.shape}. Pad "
                "the arrays to the largest cell of the table."
            )
        if not k:
            return
        last_row = len(table.n_sites) - 1
        if crystal.min() < 0 or crystal.max() > last_row:
            raise CrystalGymError(
                f"Expected rows from 0 to {last_row}, got {crystal}. Use a recorder with the table "
                "of the environment."
            )
        sites = np.arange(table.max_sites)
        padding = sites >= table.n_sites[crystal][:, None]
        actions = np.where(padding, 0, actions)
        if actions.min() < 0 or actions.max() >= table.n_elements:
            raise CrystalGymError(
                f"Expected actions from 0 to {table.n_elements - 1}, got values from "
                f"{actions.min()} to {actions.max()}. Use a recorder with the table of the "
                "environment."
            )
        order = np.where(padding, -1, order)
        wrong = (np.sort(np.where(padding, sites, order), axis=1) != sites).any(axis=1)
        if wrong.any():
            index = int(np.argmax(wrong))
            raise CrystalGymError(
                f"Expected an order with each site of the crystal once, got {order[index]} for "
                f"episode {index} of this call. Pass the sites in the order of filling."
            )
        # Small types, because an online run has many episodes.
        self._crystal.append(crystal.astype(np.int32))
        self._order.append(order.astype(np.int16))
        self._actions.append(actions.astype(np.int16))
        self._rewards.append(np.where(padding, 0.0, rewards))
        self._count += k

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return all E recorded episodes in order.

        Returns:
            crystal, int64 (E,); order and actions, int64 (E, N); rewards, float64 (E, N).

        Raises:
            CrystalGymError: If no episode was recorded.
        """
        if not self._count:
            raise CrystalGymError(
                "Expected recorded episodes, got none. Run the environment until at least one "
                "episode has ended."
            )
        recorded = (self._crystal, self._order, self._actions, self._rewards)
        crystal, order, actions, rewards = (np.concatenate(chunks) for chunks in recorded)
        return crystal.astype(np.int64), order.astype(np.int64), actions.astype(np.int64), rewards

    def save(self, path: Path) -> None:
        """Write all recorded episodes to an ``.npz`` file, which is complete or absent.

        Raises:
            StorageError: If the file cannot be written.
        """
        arrays: dict[str, Any] = {_FINGERPRINT: self.table.collection.fingerprint()}
        if len(self):
            arrays |= zip(_ARRAYS, self.arrays(), strict=True)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def load(self, path: Path) -> None:
        """Add the episodes of a file that ``save`` wrote.

        Raises:
            CollectionMismatchError: If the episodes are those of other crystals.
            DamagedFileError: If the file is damaged or its episodes do not fit the table.
        """
        collection = self.table.collection
        try:
            with np.load(path, allow_pickle=False) as file:
                recorded = str(file[_FINGERPRINT])
                require_same_crystals(
                    f"the recorded episodes in {path}",
                    ("the recorded run", recorded),
                    (repr(collection.name), collection.fingerprint()),
                    "Restore the original crystals, or delete the run's folder to start again.",
                )
                if len(file.files) > 1:
                    self.add(*(file[name] for name in _ARRAYS))
        except CollectionMismatchError:
            raise
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, CrystalGymError) as error:
            raise DamagedFileError(
                f"Expected recorded episodes of the run's crystals in {path}, got "
                f"{type(error).__name__}: {error}. Delete the run's folder to start again."
            ) from error


class RecordEpisodes(VectorWrapper):
    """A wrapper of ``CrystalSkeletonVectorEnv`` that adds each finished episode to a recorder.

    It supports both autoreset modes. A ``reset`` discards the episodes that have not ended.
    Episodes that a limit of steps truncates are incomplete: they are counted, not recorded.

    Args:
        env: The vector environment, which may be wrapped.
        recorder: The recorder, with the environment's table.

    Attributes:
        recorder: The recorder.
        n_truncated: Number of truncated episodes so far.
    """

    def __init__(self, env: VectorEnv, recorder: EpisodeRecorder) -> None:
        super().__init__(env)
        self.recorder = recorder
        self.n_truncated = 0
        shape = (env.num_envs, recorder.table.max_sites)
        self._order = np.zeros(shape, np.int64)
        self._actions = np.zeros(shape, np.int64)
        self._rewards = np.zeros(shape)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments.

        Raises:
            CrystalGymError: If sites are filled from the start.
        """
        observations, infos = self.env.reset(seed=seed, options=options)
        self._step = np.zeros(self.num_envs, np.int64)
        # Episodes that ended at the last step and are reset by the next, which ignores its action.
        self._ended = np.zeros(self.num_envs, bool)
        self._crystal, self._focus = infos["crystal"], observations["focus"]
        if (observations["element"] > 0).any():
            raise CrystalGymError(
                "Expected episodes that start from empty skeletons, got kept sites. Record an "
                "environment with start='empty'."
            )
        return observations, infos

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments and record the episodes that end."""
        results = self.env.step(actions)
        observations, rewards, terminations, truncations, infos = results
        running = np.flatnonzero(~self._ended)
        entries = (running, self._step[running])
        self._order[entries] = self._focus[running]
        self._actions[entries] = np.asarray(actions)[running]
        self._rewards[entries] = rewards[running]
        self._step[running] += 1
        finished = np.flatnonzero(terminations)
        if len(finished):
            arrays = (self._order, self._actions, self._rewards)
            self.recorder.add(self._crystal[finished], *(values[finished] for values in arrays))
        ended = terminations | truncations
        self.n_truncated += int((truncations & ~terminations).sum())
        self._step[ended] = 0
        if "final_obs" not in infos:
            self._ended = ended
        self._crystal, self._focus = infos["crystal"], observations["focus"]
        return results


def write_replay(
    recorder: EpisodeRecorder,
    collection: str | Path | CrystalCollection,
    split: str,
    algorithm: str,
    *,
    reward: "NamedReward" = "match",
    split_by: str | PathLike[str] = "origin",
    on_error: str = "raise",
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Write the recorded episodes of an online learner, in order, as the dataset ``replay``.

    Collection, split, reward and ``split_by`` are those of the run's environment. The dataset has
    the recorded rewards; episodes with a non-finite reward are dropped, and the dataset card
    reports how many.

    Args:
        recorder: The recorder of the run.
        collection: The collection's name, its path, or a ``CrystalCollection``.
        split: ``train``, ``val``, ``test`` or ``all``.
        algorithm: The learner in words, such as ``PPO, 100,000 steps, seed 0``.
        reward: A key of ``crystal_gym.rewards.REWARDS``, or a pair of a new name and any reward
            that the environment accepts.
        split_by: ``origin``, ``composition``, ``prototype``, ``random:SEED`` or the path of a split
            file, see ``crystal_gym.load_collection``.
        on_error: ``raise`` or ``skip``, see ``crystal_gym.load_collection``.
        overwrite: Whether to replace an existing dataset, once the new one is complete.
        progress: Whether to show a progress bar.

    Returns:
        The dataset's id, for ``minari.load_dataset`` and ``load_transitions``.

    Raises:
        CrystalGymError: If no episode was recorded, the collection or the split is not that of the
            recorder, no episode has a finite reward, or the dataset exists and ``overwrite`` is
            false.
        StorageError: If the folder of Minari datasets cannot be written or the disk is full.
    """
    split_by = canonical_split_by(split_by)
    crystals = load_collection(collection, split_by=split_by, on_error=on_error, progress=progress)
    table = recorder.table
    if crystals.fingerprint() != table.collection.fingerprint():
        recorded, given = table.collection, origin_of(collection) or repr(crystals.name)
        raise CollectionMismatchError(
            "Expected the collection of the recorded episodes, "
            f"{describe_crystals(repr(recorded.name), recorded.fingerprint())}, got "
            f"{describe_crystals(given, crystals.fingerprint())} split by {split_by}, which has "
            "other crystals or splits. Pass the collection and split_by of the run's environment."
        )
    arrays = recorder.arrays()
    outside = np.setdiff1d(arrays[0], crystals.in_split(split))
    if len(outside):
        raise CrystalGymError(
            f"Expected recorded crystals in the split {split!r} of {crystals.name!r}, got "
            f"{len(outside)} crystals of other splits. Pass the split of the run's environment."
        )
    reward_name, resolved_reward = resolve_named_reward(reward)
    spec = DatasetSpec(
        dataset_id=dataset_id(crystals.name, split, "replay", reward_name),
        table=table,
        split=split,
        behavior="replay",
        algorithm=f"replay of an online learner: {algorithm}",
        reward=reward_name,
        labels=resolved_reward.labels,
        origin=origin_of(collection),
        environment=environment_spec(collection, split, split_by, table, reward, on_error=on_error),
        reward_definition=resolved_reward.definition,
        settings={
            "split_by": split_by,
            "crystals": len(np.unique(arrays[0])),
            "algorithm": algorithm,
        },
    )
    write_dataset(spec, _batches(table, *arrays), len(recorder), overwrite, progress)
    return spec.dataset_id


def _batches(table: EpisodeTable, *arrays: np.ndarray) -> Iterator[Episodes]:
    for first in range(0, len(arrays[0]), _BATCH):
        yield replay_episodes(table, *(values[first : first + _BATCH] for values in arrays))
