"""A data set → flat arrays for training: one pass over the Minari file, cached."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5s, h5t  # pyright: ignore - compiled, without stubs
from minari.dataset.minari_storage import MinariStorage
from minari.storage import get_dataset_path

from crystal_datasets.episodes import choose_start_sites, make_generator
from crystal_gym.collections.preparation import load_arrays, save_arrays
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.utils import settings
from crystal_gym.utils.progress import progress_bar

# Raise when the cached arrays would come out differently.
FORMAT = 1
# Bytes of HDF5's metadata cache while reading; its default initial size.
_METADATA_CACHE = 2**21
# Episodes between two movements of the progress bar.
_STRIDE = 500


@dataclass(frozen=True, eq=False)
class Transitions:
    """T transitions over S skeletons, flat.

    A transition's geometry is row ``skeleton[t]`` of the skeleton arrays; ``elements[t]``,
    ``focus[t]`` and the geometry are what the agent saw when it chose ``action[t]``.

    Attributes:
        dataset_id: the Minari id.
        vocabulary: V element symbols; action ``a`` puts the element with code ``a + 1``.
        skeleton_ids: the crystals' ids, str (S,).
        n_sites: int32 (S,).
        frac_coords: fractional coordinates, float32 (S, N, 3), padded with 0.
        lattice: lengths in Å and angles in degrees, float32 (S, 6).
        edges: ``(source, target, i, j, k)``, int16 (S, E, 5), padded with -1.
        skeleton: row of the skeleton arrays, int32 (T,).
        trajectory: the episode's index in the Minari data set, int32 (T,).
        source: the site that the episode filled first, int16 (T,).
        step: sites filled before, int16 (T,).
        elements: codes before the action, int16 (T, N): -1 no site, 0 empty, 1 to V filled.
        focus: the site to be filled, int16 (T,).
        action: 0 to V - 1, int16 (T,).
        reward: float32 (T,).
        done: whether the episode ends with this action, bool (T,).
    """

    dataset_id: str
    vocabulary: tuple[str, ...]
    skeleton_ids: np.ndarray
    n_sites: np.ndarray
    frac_coords: np.ndarray
    lattice: np.ndarray
    edges: np.ndarray
    skeleton: np.ndarray
    trajectory: np.ndarray
    start_site: np.ndarray
    step: np.ndarray
    elements: np.ndarray
    focus: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    done: np.ndarray

    def __len__(self) -> int:
        return len(self.action)

    @property
    def first(self) -> np.ndarray:
        """Index of each trajectory's first transition, int64; its steps follow one another."""
        return np.flatnonzero(np.diff(self.trajectory, prepend=-1))

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each trajectory, in the order of ``first``, float64."""
        return np.add.reduceat(self.reward.astype(np.float64), self.first)

    def __repr__(self) -> str:
        return (
            f"Transitions({self.dataset_id!r}, {len(self):,} transitions, "
            f"{len(np.unique(self.trajectory)):,} trajectories, {len(self.n_sites):,} skeletons)"
        )


_PER_SKELETON = ("skeleton_ids", "n_sites", "frac_coords", "lattice", "edges")
_PER_TRANSITION = (
    *("skeleton", "trajectory", "start_site", "step"),
    *("elements", "focus", "action", "reward", "done"),
)


def load_transitions(
    dataset_id: str, trajectories: int | None = None, seed: int = 0, *, progress: bool = True
) -> Transitions:
    """The transitions of a data set written by ``build_dataset``, from the Minari file alone.

    The first call reads the file and keeps the arrays in the cache folder; they are used until the
    data set changes.

    Args:
        dataset_id: as returned by ``build_dataset``.
        trajectories: keep so many trajectories of each crystal (all where it has no more), drawn
            by ``seed``; those of a smaller number are among those of a larger one. Default: all.
        seed: of the draw.
        progress: show a progress bar while the file is read.

    Raises:
        MissingDataError: there is no such data set here.
        DamagedFileError: the data set's files or the cached arrays are damaged.
        CrystalGymError: the data set was not written by ``build_dataset``, ``trajectories`` is
            below 1, or ``seed`` below 0.
        StorageError: the cache folder cannot be written.
    """
    folder = get_dataset_path(dataset_id) / "data"
    metadata = _read_metadata(dataset_id, folder)
    path = _cache_path(dataset_id, folder, metadata)
    if not path.is_file():
        save_arrays(path, _read_episodes(dataset_id, folder, metadata, progress))
    arrays = load_arrays(path)
    if trajectories is not None:
        kept = _choose(arrays, trajectories, seed)
        arrays |= {name: arrays[name][kept] for name in _PER_TRANSITION}
    return Transitions(dataset_id, tuple(metadata["crystal_gym"]["vocabulary"]), **arrays)


def best_episodes(transitions: Transitions, fraction: float, seed: int = 0) -> Transitions:
    """The transitions of the trajectories with the highest returns; equal ones go by lot.

    Args:
        transitions: to choose from.
        fraction: of the trajectories, rounded up, above 0 and at most 1.
        seed: of the lot.

    Raises:
        CrystalGymError: the fraction is out of range, or ``seed`` below 0.
    """
    if not 0 < fraction <= 1:
        raise CrystalGymError(f"A fraction is above 0 and at most 1, not {fraction}.")
    # Equal returns must stay equal when they are sums of rounded rewards.
    returns = transitions.returns.round(6)
    lot = make_generator(seed).permutation(len(returns))
    ranked = np.lexsort((lot, -returns))
    chosen = np.zeros(len(returns), bool)
    chosen[ranked[: math.ceil(fraction * len(returns))]] = True
    lengths = np.diff(np.append(transitions.first, len(transitions)))
    kept = np.repeat(chosen, lengths)
    arrays = {name: getattr(transitions, name)[kept] for name in _PER_TRANSITION}
    return dataclasses.replace(transitions, **arrays)


def _choose(arrays: Mapping[str, np.ndarray], trajectories: int, seed: int) -> np.ndarray:
    """Which transitions belong to the trajectories drawn, bool (T,)."""
    episodes, first = np.unique(arrays["trajectory"], return_index=True)
    skeleton = arrays["skeleton"][first]
    counts = np.bincount(skeleton, minlength=len(arrays["n_sites"]))
    # Position of each episode among those of its crystal.
    by_skeleton = np.argsort(skeleton, kind="stable")
    position = np.empty_like(by_skeleton)
    position[by_skeleton] = np.arange(len(episodes)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = choose_start_sites(counts, trajectories, seed)
    kept = (drawn[skeleton] == position[:, None]).any(axis=1)
    return np.isin(arrays["trajectory"], episodes[kept])


def _read_metadata(dataset_id: str, folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise MissingDataError(
            f"There is no Minari data set {dataset_id!r} in {get_dataset_path()}. Build it with "
            "crystal_datasets.build_dataset, or set MINARI_DATASETS_PATH to where it lies."
        )
    try:
        metadata = MinariStorage.read_raw_metadata(folder)
        (folder / "main_data.hdf5").stat()
    except (ValueError, OSError) as error:
        raise _damaged(dataset_id, folder, error) from error
    if "crystal_gym" not in metadata:
        raise CrystalGymError(
            f"{dataset_id!r} was not written by crystal_datasets.build_dataset: its metadata do "
            "not tell the vocabulary."
        )
    return metadata


def _cache_path(dataset_id: str, folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Changes whenever the data set does."""
    state = (folder / "main_data.hdf5").stat()
    content = [FORMAT, str(folder), metadata, state.st_size, state.st_mtime_ns]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    name = dataset_id.replace("/", "-")
    return settings.cache_folder() / "transitions" / f"{name}-{key}.npz"


def _read_episodes(
    dataset_id: str, folder: Path, metadata: Mapping[str, Any], progress: bool
) -> dict[str, np.ndarray]:
    """The arrays of ``Transitions``, in one pass."""
    path = folder / "main_data.hdf5"
    try:
        with h5py.File(path, "r") as file:
            # HDF5's metadata cache never helps a single pass; in full size it takes 400 MB.
            limits = file.id.get_mdc_config()
            limits.max_size = _METADATA_CACHE
            file.id.set_mdc_config(limits)
            episodes = metadata["total_episodes"]
            with progress_bar(f"Reading {dataset_id}", episodes, shown=progress) as advance:
                reader = _Reader(file, metadata["total_steps"])
                for episode in range(episodes):
                    reader.read(episode)
                    if episode % _STRIDE == _STRIDE - 1:
                        advance(_STRIDE)
            return reader.arrays()
    except CrystalGymError:
        raise
    # HDF5 raises whatever it stumbles over.
    except (OSError, RuntimeError, KeyError, ValueError, IndexError) as error:
        raise _damaged(dataset_id, path, error) from error


def _damaged(dataset_id: str, path: Path, error: Exception) -> DamagedFileError:
    return DamagedFileError(
        f"{path} is damaged or incomplete ({error}). Build {dataset_id!r} again with "
        "overwrite=True."
    )


class _Reader:
    """Reads episodes one after the other through HDF5's own interface."""

    def __init__(self, file: h5py.File, total_steps: int) -> None:
        self._file = file
        observations: Any = file["episode_0/observations"]
        n_max, e_max = observations["element"].shape[1], observations["edges"].shape[1]
        # Observations have one row more than steps: the next episode writes over it.
        self._elements = np.empty((total_steps + 1, n_max), np.int16)
        self._focus = np.empty(total_steps + 1, np.int16)
        self._action = np.empty(total_steps, np.int16)
        self._reward = np.empty(total_steps, np.float32)
        self._done = np.empty(total_steps, bool)
        self._start_site: list[int] = []
        self._skeleton: list[int] = []
        self._lengths: list[int] = []
        self._start = 0
        self._index_of_row: dict[int, int] = {}
        self._ids: list[str] = []
        # One geometry for each step; only the first is kept.
        self._geometry = {
            "frac_coords": (np.empty((n_max + 1, n_max, 3), np.float32), []),
            "lattice": (np.empty((n_max + 1, 6), np.float32), []),
            "edges": (np.empty((n_max + 1, e_max, 5), np.int16), []),
        }
        self._n_sites: list[int] = []
        # Creating types and shapes anew for every array would double the time.
        self._types: dict[np.dtype, Any] = {}
        self._shapes: dict[tuple[int, ...], Any] = {}

    def read(self, episode: int) -> None:
        """Append one episode."""
        group = h5g.open(self._file.id, b"episode_%d" % episode)
        try:
            row, start_site = self._integer(group, b"row"), self._integer(group, b"start_site")
        except KeyError:
            raise CrystalGymError(
                f"Episode {episode} does not tell its crystal and source; only episodes written "
                "by crystal_datasets.build_dataset can be read."
            ) from None
        start, n = self._start, self._integer(group, b"total_steps")
        self._fill(group, b"actions", self._action[start : start + n])
        self._fill(group, b"observations/element", self._elements[start : start + n + 1])
        self._fill(group, b"observations/focus", self._focus[start : start + n + 1])
        self._fill(group, b"rewards", self._reward[start : start + n])
        self._fill(group, b"terminations", self._done[start : start + n])
        if row not in self._index_of_row:
            self._index_of_row[row] = len(self._index_of_row)
            self._ids.append(str(h5py.Group(group).attrs["crystal"]))
            self._n_sites.append(int(np.count_nonzero(self._elements[start] >= 0)))
            for name, (buffer, kept) in self._geometry.items():
                self._fill(group, b"observations/" + name.encode(), buffer[: n + 1])
                kept.append(buffer[0].copy())
        self._skeleton.append(self._index_of_row[row])
        self._start_site.append(start_site)
        self._lengths.append(n)
        self._start += n

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything read, in the types of ``Transitions``."""
        if self._start != len(self._action):
            raise ValueError(f"{self._start} of {len(self._action)} steps")
        lengths = np.array(self._lengths)
        starts = np.cumsum(lengths) - lengths
        return {
            "skeleton_ids": np.array(self._ids),
            "n_sites": np.array(self._n_sites, np.int32),
            **{name: np.stack(kept) for name, (_, kept) in self._geometry.items()},
            "skeleton": np.repeat(np.array(self._skeleton, np.int32), lengths),
            "trajectory": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            "start_site": np.repeat(np.array(self._start_site, np.int16), lengths),
            "step": (np.arange(self._start) - np.repeat(starts, lengths)).astype(np.int16),
            "elements": self._elements[:-1],
            "focus": self._focus[:-1],
            "action": self._action,
            "reward": self._reward,
            "done": self._done,
        }

    def _fill(self, group: Any, name: bytes, target: np.ndarray) -> None:
        """Read an array; HDF5 refuses where its size is not the target's."""
        if target.dtype not in self._types:
            self._types[target.dtype] = h5t.py_create(target.dtype, logical=True)
        if target.shape not in self._shapes:
            self._shapes[target.shape] = h5s.create_simple(target.shape)
        shape, kind = self._shapes[target.shape], self._types[target.dtype]
        h5d.open(group, name).read(shape, h5s.ALL, target, kind)

    def _integer(self, group: Any, name: bytes) -> int:
        value = np.empty((), np.int64)
        h5a.open(group, name).read(value, h5t.NATIVE_INT64)
        return int(value)
