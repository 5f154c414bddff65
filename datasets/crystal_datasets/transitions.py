"""The transitions of a dataset as flat arrays for training, read once and cached."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from crystal_datasets.dataset_metadata import (
    DATA_FILE,
    DatasetIdentity,
    damaged_dataset,
    data_folder,
    identify,
    read_metadata,
    require_dict_observations,
    require_no_targets,
)
from crystal_datasets.hdf5_file import EpisodeReader
from crystal_datasets.start_states import choose_start_sites, make_generator
from crystal_gym.collections.preparation import load_arrays, save_arrays
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.utils import settings
from crystal_gym.utils.progress import progress_bar

# Version of the cached arrays; increase it whenever their names, types or contents change.
FORMAT = 3
# Size in bytes of HDF5's metadata cache, which is its initial default.
_METADATA_CACHE = 2**21
# Episodes between two updates of the progress bar.
_PROGRESS_STEP = 500


@dataclass(frozen=True, eq=False)
class Transitions:
    """T transitions over S skeletons, as flat arrays.

    The geometry of transition ``t`` is in row ``skeleton[t]`` of the arrays with leading axis S.
    This geometry, ``elements[t]`` and ``focus[t]`` are the observation in which ``action[t]`` was
    chosen.

    Attributes:
        dataset_id: The Minari id.
        vocabulary: V element symbols; action ``a`` assigns the element with code ``a + 1``.
        collections: Fingerprint (``CrystalCollection.fingerprint()``) and origin of each collection
            of the crystals. There is one, unless Minari combined datasets of several.
        skeleton_ids: Ids of the crystals, str (S,).
        n_sites: Number of sites, int32 (S,).
        frac_coords: Fractional coordinates, float32 (S, N, 3), padded with 0.
        lattice: Lengths in Å and angles in degrees, float32 (S, 6).
        edges: ``(source, target, i, j, k)``, int16 (S, E, 5), padded with -1.
        skeleton: Row of the skeleton, int32 (T,).
        trajectory: Index of the episode in the Minari dataset, int32 (T,).
        start_site: The site that the episode fills first, int16 (T,).
        step: Number of sites filled before the action, the kept sites included, int16 (T,).
        elements: Codes before the action, int16 (T, N): -1 no site, 0 empty, 1 to V filled.
        focus: The site to fill, int16 (T,).
        action: Integers from 0 to V - 1, int16 (T,).
        reward: Reward of the action, float32 (T,).
        done: Whether the episode ends with the action, bool (T,).
    """

    dataset_id: str
    vocabulary: tuple[str, ...]
    collections: Mapping[str, str | None]
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

    def __repr__(self) -> str:
        return (
            f"Transitions({self.dataset_id!r}, {len(self):,} transitions, "
            f"{len(np.unique(self.trajectory)):,} trajectories, {len(self.n_sites):,} skeletons)"
        )

    @property
    def first(self) -> np.ndarray:
        """Index of each trajectory's first transition, int64; its other transitions follow it."""
        return np.flatnonzero(np.diff(self.trajectory, prepend=-1))

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each trajectory, in the order of ``first``, float64."""
        return np.add.reduceat(self.reward.astype(np.float64), self.first)

    @property
    def fillings(self) -> np.ndarray:
        """Codes of all sites after the last action of each finished episode, int32 (E, N)."""
        # The last transition has all elements but the one that its action assigns.
        elements = self.elements[self.done].astype(np.int32)
        focus, action = self.focus[self.done, None], self.action[self.done, None]
        np.put_along_axis(elements, focus.astype(np.int64), action.astype(np.int32) + 1, 1)
        return elements

    def select(self, mask: np.ndarray) -> "Transitions":
        """Return the transitions where a mask, bool (T,), is true; all skeletons are kept."""
        arrays = {name: getattr(self, name)[mask] for name in _TRANSITION_ARRAYS}
        return dataclasses.replace(self, **arrays)


# The fields of `Transitions` with leading axis T.
_TRANSITION_ARRAYS = (
    *("skeleton", "trajectory", "start_site", "step"),
    *("elements", "focus", "action", "reward", "done"),
)
# The fields with leading axis S; the ids are first.
_SKELETON_ARRAYS = ("skeleton_ids", "n_sites", "frac_coords", "lattice", "edges")
_NOT_ARRAYS = {"dataset_id", "vocabulary", "collections"}
_ARRAYS = {field.name for field in dataclasses.fields(Transitions)} - _NOT_ARRAYS
# Name of the array of a cache file with the fingerprints of the collections.
_FINGERPRINTS = "fingerprints"


def load_transitions(
    dataset_id: str, trajectories: int | None = None, seed: int = 0, *, progress: bool = True
) -> Transitions:
    """Load the transitions of a dataset that ``build_dataset`` or ``write_replay`` wrote.

    The first call reads the Minari file and stores the arrays in the cache folder, where later
    calls find them until the dataset changes. The collection itself is not needed.

    Datasets that ``minari.combine_datasets`` combined from such datasets have the vocabulary of
    their environment. Minari drops the crystals' ids, which are restored from the combined
    datasets as long as these exist. Otherwise, equal geometries are one skeleton, whose id is a
    digest of the geometry.

    Args:
        dataset_id: The dataset's id, as ``build_dataset`` returns it.
        trajectories: Number of trajectories to keep for each crystal, drawn at random; a crystal
            with fewer keeps all. With the same seed, a smaller number gives a subset of a larger
            one. Default: all trajectories.
        seed: Seed of the draw.
        progress: Whether to show a progress bar while the file is read.

    Raises:
        MissingDataError: If there is no such dataset.
        DamagedFileError: If the dataset's files or the cached arrays are damaged.
        CrystalGymError: If the dataset was written by other software or an earlier version, its
            observations are flat or have targets, Minari combined datasets with different
            vocabularies, ``trajectories`` is below 1, or ``seed`` is below 0.
        StorageError: If the cache folder cannot be written.
    """
    metadata = read_metadata(dataset_id)
    identity = identify(dataset_id, metadata)
    require_dict_observations(dataset_id, metadata)
    require_no_targets(dataset_id, metadata)
    cache = _cache_path(dataset_id, metadata)
    if not cache.is_file():
        arrays = _read_episodes(identity, metadata, progress)
        fingerprints = np.array(identity.fingerprints, np.str_)
        save_arrays(cache, {**arrays, _FINGERPRINTS: fingerprints})
    arrays = _load_cached(cache, identity)
    transitions = Transitions(dataset_id, identity.vocabulary, identity.collections, **arrays)
    if trajectories is None:
        return transitions
    return transitions.select(draw_trajectories(transitions, trajectories, seed))


def best_episodes(transitions: Transitions, fraction: float, seed: int = 0) -> Transitions:
    """Return the transitions of the trajectories with the highest returns.

    Args:
        transitions: The transitions to choose from.
        fraction: The fraction of trajectories to keep, above 0 and at most 1; their number is
            rounded up.
        seed: Seed of the random choice among trajectories with equal returns.

    Raises:
        CrystalGymError: If the fraction is out of range or ``seed`` is below 0.
    """
    if not 0 < fraction <= 1:
        raise CrystalGymError(
            f"Expected a fraction above 0 and at most 1, got {fraction}. Use 1 to keep all "
            "trajectories."
        )
    # Without rounding, equal returns would differ by the floating-point errors of the rewards.
    returns = transitions.returns.round(6)
    tie_break = make_generator(seed).permutation(len(returns))
    ranked = np.lexsort((tie_break, -returns))
    chosen = np.zeros(len(returns), bool)
    chosen[ranked[: math.ceil(fraction * len(returns))]] = True
    lengths = np.diff(np.append(transitions.first, len(transitions)))
    return transitions.select(np.repeat(chosen, lengths))


def draw_trajectories(transitions: Transitions, trajectories: int, seed: int) -> np.ndarray:
    """Draw trajectories of each crystal as ``load_transitions`` does.

    Args:
        transitions: All transitions of a dataset.
        trajectories: Number of trajectories to keep for each crystal.
        seed: Seed of the draw.

    Returns:
        A mask of their transitions, bool (T,).

    Raises:
        CrystalGymError: If ``trajectories`` is below 1, or ``seed`` is below 0.
    """
    episodes, first = np.unique(transitions.trajectory, return_index=True)
    skeleton = transitions.skeleton[first]
    counts = np.bincount(skeleton, minlength=len(transitions.n_sites))
    # Position of each episode among the episodes of its crystal.
    by_skeleton = np.argsort(skeleton, kind="stable")
    position = np.empty_like(by_skeleton)
    position[by_skeleton] = np.arange(len(episodes)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = choose_start_sites(counts, trajectories, seed)
    kept = (drawn[skeleton] == position[:, None]).any(axis=1)
    return np.isin(transitions.trajectory, episodes[kept])


def _cache_path(dataset_id: str, metadata: Mapping[str, Any]) -> Path:
    """Return a path in the cache that changes whenever the dataset does."""
    folder = data_folder(dataset_id)
    state = (folder / DATA_FILE).stat()
    content = [FORMAT, str(folder), metadata, state.st_size, state.st_mtime_ns]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    name = dataset_id.replace("/", "-")
    return settings.cache_folder() / "transitions" / f"{name}-{key}.npz"


def _load_cached(path: Path, identity: DatasetIdentity) -> dict[str, np.ndarray]:
    """Load the cached arrays of a dataset, and check that they are of the same collections."""
    arrays = load_arrays(path)
    expected = _ARRAYS | {_FINGERPRINTS}
    if set(arrays) != expected:
        raise DamagedFileError(
            f"Expected the arrays {', '.join(sorted(expected))} in {path}, got "
            f"{', '.join(sorted(arrays))}. Delete the file; load_transitions then reads the "
            "dataset again."
        )
    if tuple(arrays.pop(_FINGERPRINTS).tolist()) != identity.fingerprints:
        raise DamagedFileError(
            f"Expected transitions of {identity.describe()} in {path}, got those of other "
            "crystals. Delete the file; load_transitions then reads the dataset again."
        )
    return arrays


def _read_episodes(
    identity: DatasetIdentity, metadata: Mapping[str, Any], progress: bool
) -> dict[str, np.ndarray]:
    """Read the array fields of ``Transitions`` in one pass over the file."""
    name = identity.dataset_id
    path = data_folder(name) / DATA_FILE
    try:
        with h5py.File(path, "r") as file:
            # A single pass never reuses HDF5's metadata cache, which would grow to 400 MB.
            cache_settings = file.id.get_mdc_config()
            cache_settings.max_size = _METADATA_CACHE
            file.id.set_mdc_config(cache_settings)
            episodes = metadata["total_episodes"]
            with progress_bar(f"Reading {name}", episodes, shown=progress) as advance:
                reader = EpisodeReader(file, metadata["total_steps"], combined=bool(identity.parts))
                for episode in range(episodes):
                    reader.read(episode)
                    if episode % _PROGRESS_STEP == _PROGRESS_STEP - 1:
                        advance(_PROGRESS_STEP)
            arrays = reader.arrays()
    except CrystalGymError:
        raise
    # A damaged file can raise any of these in h5py.
    except (OSError, RuntimeError, KeyError, ValueError, IndexError) as error:
        raise damaged_dataset(name, path, error) from error
    return _with_crystals_of_parts(arrays, identity.parts) if identity.parts else arrays


def _with_crystals_of_parts(
    arrays: dict[str, np.ndarray], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Replace the skeletons of a combined dataset by those of its parts, with their ids.

    Args:
        arrays: The arrays of the combined dataset.
        names: Ids of the parts.

    Returns:
        The arrays; unchanged if a part is missing or was built again since.
    """
    try:
        parts = [load_transitions(name, progress=False) for name in names]
    except MissingDataError:
        return arrays
    if sum(len(part) for part in parts) != len(arrays["action"]):
        return arrays
    index: dict[tuple[tuple[str, ...], str], int] = {}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in _SKELETON_ARRAYS}
    skeleton: list[np.ndarray] = []
    begin = 0
    for part in parts:
        if not _has_episodes(arrays, begin, part):
            return arrays
        begin += len(part)
        collection = tuple(part.collections) or (part.dataset_id,)
        numbers = []
        for row, crystal in enumerate(part.skeleton_ids.tolist()):
            if (collection, crystal) not in index:
                index[collection, crystal] = len(index)
                for name, rows in kept.items():
                    rows.append(getattr(part, name)[row])
            numbers.append(index[collection, crystal])
        skeleton.append(np.array(numbers, np.int32)[part.skeleton])
    restored = {name: np.array(rows) for name, rows in kept.items()}
    return {**arrays, **restored, "skeleton": np.concatenate(skeleton)}


def _has_episodes(arrays: Mapping[str, np.ndarray], begin: int, part: Transitions) -> bool:
    """Return whether the arrays contain the episodes of a dataset from a transition on."""
    steps = slice(begin, begin + len(part))
    names = set(_TRANSITION_ARRAYS) - {"skeleton", "trajectory"}
    skeletons = arrays["skeleton"][steps][part.first]
    return all(np.array_equal(arrays[name][steps], getattr(part, name)) for name in names) and all(
        np.array_equal(arrays[name][skeletons], getattr(part, name)[part.skeleton[part.first]])
        for name in _SKELETON_ARRAYS[1:]
    )
