"""What an online learner saw, as a behavior data set."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from crystal_datasets.episodes import Episodes, replay
from crystal_datasets.minari_writer import (
    DatasetPlan,
    canonical_reward_name,
    dataset_id,
    environment_spec,
    write_dataset,
)
from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    from crystal_datasets.minari_writer import NamedReward

# In a file of episodes, in the order of `EpisodeRecorder.arrays`.
_KEPT = ("crystal", "order", "actions", "rewards")
# Episodes made anew together while they are written.
_BATCH = 640


class EpisodeRecorder:
    """Keeps the finished episodes of an online run, in their order, some 100 bytes each.

    Args:
        table: the crystals, whose rows are told; of an environment: ``env.table``.
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
        """Keep k finished episodes; what lies beyond a crystal's own n sites is not looked at.

        Args:
            crystal: rows of the table, (k,).
            order: the sites in the order of filling, (k, N).
            actions: 0 to V - 1, in the order of filling, (k, N).
            rewards: of each step, (k, N).

        Raises:
            CrystalGymError: shapes do not fit, a row or an element is unknown, or an order is none
                of the crystal's sites.
        """
        crystal = np.asarray(crystal)
        k, table = len(crystal), self.table
        shapes = {np.shape(values) for values in (order, actions, rewards)}
        if crystal.shape != (k,) or shapes != {(k, table.max_sites)}:
            raise CrystalGymError(
                f"Episodes of {k} crystals have orders, actions and rewards of shape "
                f"{(k, table.max_sites)}, not {sorted(shapes)}."
            )
        if not k:
            return
        if crystal.min() < 0 or crystal.max() >= len(table.n_sites):
            raise CrystalGymError(f"Rows are 0 to {len(table.n_sites) - 1}, not {crystal}.")
        sites = np.arange(table.max_sites)
        beyond = sites >= table.n_sites[crystal][:, None]
        actions = np.where(beyond, 0, actions)
        if actions.min() < 0 or actions.max() >= table.n_elements:
            raise CrystalGymError(f"Actions are integers from 0 to {table.n_elements - 1}.")
        order = np.where(beyond, -1, order)
        if (np.sort(np.where(beyond, sites, order), axis=1) != sites).any():
            raise CrystalGymError("An order names each site of its crystal once.")
        # Sites and elements are few.
        self._crystal.append(crystal.astype(np.int32))
        self._order.append(order.astype(np.int16))
        self._actions.append(actions.astype(np.int16))
        self._rewards.append(np.where(beyond, 0.0, rewards))
        self._count += k

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Everything so far: crystal (E,), order, actions and rewards (E, N).

        Raises:
            CrystalGymError: nothing was recorded yet.
        """
        if not self._count:
            raise CrystalGymError("No episode was recorded: none has ended yet.")
        kept = (self._crystal, self._order, self._actions, self._rewards)
        crystal, order, actions, rewards = (np.concatenate(chunks) for chunks in kept)
        return crystal.astype(np.int64), order.astype(np.int64), actions.astype(np.int64), rewards

    def save(self, path: Path) -> None:
        """Write everything so far into a file of NumPy's, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        kept = dict(zip(_KEPT, self.arrays(), strict=True)) if len(self) else {}
        with atomic_write(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **kept)

    def load(self, path: Path) -> None:
        """Add the episodes that ``save`` wrote.

        Raises:
            DamagedFileError: the file is damaged, or of other crystals.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if file.files:
                    self.add(*(file[name] for name in _KEPT))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, CrystalGymError) as error:
            raise DamagedFileError(
                f"{path} holds no episodes of these crystals ({type(error).__name__}). Delete the "
                "run's folder to begin anew."
            ) from error


class RecordEpisodes(VectorWrapper):
    """Passes on a ``CrystalSkeletonVectorEnv`` and tells a recorder of every finished episode.

    Works with both ways of resetting. Episodes that are under way at a ``reset`` are dropped.

    Args:
        env: the vector environment, as it is or wrapped.
        recorder: keeps the episodes; its table is the environment's.
    """

    def __init__(self, env: VectorEnv, recorder: EpisodeRecorder) -> None:
        super().__init__(env)
        self.recorder = recorder
        shape = (env.num_envs, recorder.table.max_sites)
        self._order = np.zeros(shape, np.int64)
        self._actions = np.zeros(shape, np.int64)
        self._rewards = np.zeros(shape)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every environment."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._step = np.zeros(self.num_envs, np.int64)
        # Ended at the last step and not yet begun anew: the next action is ignored.
        self._over = np.zeros(self.num_envs, bool)
        self._crystal, self._focus = infos["crystal"], observations["focus"]
        return observations, infos

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and remember what happened."""
        results = self.env.step(actions)
        observations, rewards, terminations, _, infos = results
        going = np.flatnonzero(~self._over)
        here = (going, self._step[going])
        self._order[here] = self._focus[going]
        self._actions[here] = np.asarray(actions)[going]
        self._rewards[here] = rewards[going]
        self._step[going] += 1
        ended = np.flatnonzero(terminations)
        if len(ended):
            kept = (self._order, self._actions, self._rewards)
            self.recorder.add(self._crystal[ended], *(values[ended] for values in kept))
            self._step[ended] = 0
        if "final_obs" not in infos:
            self._over = terminations.copy()
        self._crystal, self._focus = infos["crystal"], observations["focus"]
        return results


def write_replay(
    recorder: EpisodeRecorder,
    collection: str | Path | CrystalCollection,
    split: str,
    algorithm: str,
    *,
    reward: "NamedReward" = "match",
    split_by: str = "origin",
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Write what an online learner saw as the data set ``replay``, in the order of its episodes.

    Rewards are those that were recorded; episodes where they are NaN or infinite are left out.

    Args:
        recorder: of the run.
        collection: the crystals of the run's environment, as it was given them.
        split: of the run's environment.
        algorithm: the learner in words, such as ``PPO, 100,000 steps, seed 0``.
        reward: of the run's environment, a name or a name with the reward.
        split_by: of the run's environment.
        overwrite: replace an existing data set, once the new one is complete.
        progress: show a progress bar.

    Returns:
        The id, to be passed to ``minari.load_dataset`` or ``load_transitions``.

    Raises:
        CrystalGymError: nothing was recorded, the collection is not the recorder's, an episode is
            of another split, or the data set exists.
        StorageError: the folder of Minari's data sets cannot be written or the disk is full.
    """
    crystals = load_collection(collection, split_by=split_by, progress=progress)
    table = recorder.table
    if crystals.fingerprint() != table.collection.fingerprint():
        raise CrystalGymError(
            f"The recorded episodes are of other crystals than {crystals.name!r}, split by "
            f"{split_by}. Name the collection as for the run's environment."
        )
    arrays = recorder.arrays()
    strange = np.setdiff1d(arrays[0], crystals.in_split(split))
    if len(strange):
        raise CrystalGymError(
            f"{len(strange)} of the crystals that were recorded stand in other splits than "
            f"{split!r}; name the split of the run's environment."
        )
    reward_name, earned = canonical_reward_name(reward)
    plan = DatasetPlan(
        dataset_id(crystals.name, split, "replay", reward_name),
        table,
        split,
        "replay",
        f"replay of an online learner: {algorithm}",
        reward_name,
        earned.labels,
        environment_spec(collection, split, split_by, table, reward),
        {
            "split_by": split_by,
            "crystals": len(np.unique(arrays[0])),
            "algorithm": algorithm,
        },
    )
    write_dataset(plan, _replayed(table, *arrays), len(recorder), overwrite, progress)
    return plan.name


def _replayed(table: EpisodeTable, *arrays: np.ndarray) -> Iterator[Episodes]:
    for first in range(0, len(arrays[0]), _BATCH):
        yield replay(table, *(values[first : first + _BATCH] for values in arrays))
