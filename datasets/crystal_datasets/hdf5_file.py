"""The HDF5 file of a Minari dataset, ``main_data.hdf5``, written and read episode by episode.

Each group ``episode_<i>`` has the episode's metadata as attributes and contains
``observations/<key>`` (``observations`` if they are flat), ``actions``, ``rewards``,
``terminations``, ``truncations`` and an empty group ``infos``. Arrays that all episodes of a
crystal share are stored once and hard-linked. This module uses the low-level interface of h5py,
which is several times faster for many small arrays.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from gymnasium import spaces
from h5py import h5a, h5d, h5g, h5p, h5s, h5t  # pyright: ignore - compiled, without stubs

from crystal_datasets.episodes import Episodes
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.errors import CrystalGymError

# Stored once for each crystal and hard-linked by its other episodes.
SHARED_OBSERVATIONS = ("frac_coords", "lattice", "edges")
_SHARED_ENDS = (b"terminations", b"truncations")
_SHARED_ARRAYS = (*(b"observations/" + key.encode() for key in SHARED_OBSERVATIONS), *_SHARED_ENDS)

# HDF5 stores up to 64 kB in an object's header (compact layout); larger arrays are chunked and
# compressed.
COMPACT_LIMIT = 60_000
# Edges, which are padded and repeat at every step, are compressed above this size: for crystals of
# many sites, a tenth of the size on disk.
EDGES_COMPACT_LIMIT = 8_000
# Flat observations, mostly zeros, are compressed above this size: a fifth of the size on disk.
FLAT_COMPACT_LIMIT = 2_000


class EpisodeWriter:
    """A context manager that writes episodes to a new ``main_data.hdf5``.

    Args:
        path: The file to create.
        observation_space: The Dict observation space, which sets the types of the observations.
        layout: The layout of flat observations (default: the observations are dicts).

    Attributes:
        total_episodes: The number of episodes written so far.
        total_steps: The number of steps written so far.
    """

    def __init__(
        self, path: Path, observation_space: spaces.Dict, layout: FlatLayout | None = None
    ) -> None:
        self._file = h5py.File(path, "w", libver="latest", track_order=True)
        self._observation_space = observation_space
        self._layout = layout
        self._shared_arrays = _SHARED_ARRAYS if layout is None else _SHARED_ENDS
        self.total_episodes = 0
        self.total_steps = 0
        # First episode of each crystal row, which holds the shared arrays.
        self._first_episode: dict[int, int] = {}
        self._compact = h5p.create(h5p.DATASET_CREATE)
        self._compact.set_layout(h5d.COMPACT)
        self._compact.set_obj_track_times(False)
        # Equal episodes give equal bytes: no object has a time.
        self._timeless = h5p.create(h5p.GROUP_CREATE)
        self._timeless.set_obj_track_times(False)
        self._scalar = h5s.create(h5s.SCALAR)
        self._text = h5t.py_create(h5py.string_dtype(), logical=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, episodes: Episodes, collection: CrystalCollection) -> None:
        """Write a batch of episodes.

        Args:
            episodes: B episodes.
            collection: The crystals of the episodes, for their ids and splits.
        """
        if self._layout is None:
            observations = {
                key: np.ascontiguousarray(values, self._observation_space[key].dtype)
                for key, values in episodes.observations.items()
            }
        else:
            observations = _flatten(self._layout, episodes.observations)
        for index in range(len(episodes)):
            self._write_episode(index, episodes, observations, collection)
        # The flush updates the file's modification time, which shows that the build is running.
        self._file.flush()

    def _write_episode(
        self,
        index: int,
        episodes: Episodes,
        observations: dict[str, np.ndarray] | np.ndarray,
        collection: CrystalCollection,
    ) -> None:
        row, n = int(episodes.crystal[index]), int(episodes.n_steps[index])
        group = h5g.create(self._file.id, b"episode_%d" % self.total_episodes, gcpl=self._timeless)
        self._write_attribute(group, b"id", self.total_episodes)
        self._write_attribute(group, b"total_steps", n)
        self._write_attribute(group, b"crystal", str(collection.ids[row]))
        self._write_attribute(group, b"row", row)
        self._write_attribute(group, b"split", str(collection.splits[row]))
        self._write_attribute(group, b"start_site", int(episodes.start_site[index]))
        if episodes.kept is not None:
            self._write_attribute(group, b"keep", np.flatnonzero(episodes.kept[index]))
        if episodes.behavior is not None:
            self._write_attribute(group, b"behavior", str(episodes.behavior[index]))
        if isinstance(observations, np.ndarray):
            values = observations[index, : n + 1]
            self._write_array(group, b"observations", values, FLAT_COMPACT_LIMIT)
        else:
            self._write_observations(
                group, index, n, observations, shared=row in self._first_episode
            )
        self._write_array(group, b"actions", episodes.actions[index, :n])
        self._write_array(group, b"rewards", episodes.rewards[index, :n])
        if row in self._first_episode:
            self._link_shared_arrays(group, self._first_episode[row])
        else:
            self._first_episode[row] = self.total_episodes
            self._write_array(group, b"terminations", np.arange(1, n + 1) == n)
            self._write_array(group, b"truncations", np.zeros(n, bool))
        h5g.create(group, b"infos", gcpl=self._timeless)
        self.total_episodes += 1
        self.total_steps += n

    def _write_observations(
        self, group: Any, index: int, n: int, observations: dict[str, np.ndarray], *, shared: bool
    ) -> None:
        """Write the arrays of an episode; if ``shared``, without those that are linked later."""
        observation_group = h5g.create(group, b"observations", gcpl=self._timeless)
        for key, values in observations.items():
            if not (shared and key in SHARED_OBSERVATIONS):
                limit = EDGES_COMPACT_LIMIT if key == "edges" else None
                self._write_array(observation_group, key.encode(), values[index, : n + 1], limit)

    def _link_shared_arrays(self, group: Any, episode: int) -> None:
        first = h5g.open(self._file.id, b"episode_%d" % episode)
        for name in self._shared_arrays:
            group.links.create_hard(name, first, name)

    def _write_attribute(self, group: Any, name: bytes, value: str | int | np.ndarray) -> None:
        kind = self._text if isinstance(value, str) else h5t.NATIVE_INT64
        content = np.array(value, object if isinstance(value, str) else np.int64)
        space = _dataspace_of(content.shape) if content.shape else self._scalar
        h5a.create(group, name, kind, space).write(content)

    def _write_array(
        self, group: Any, name: bytes, values: np.ndarray, compact_limit: int | None = None
    ) -> None:
        kind, shape = _type_of(values.dtype), _dataspace_of(values.shape)
        limit = COMPACT_LIMIT if compact_limit is None else compact_limit
        layout = self._compact if values.nbytes <= limit else _compressed(values.shape)
        h5d.create(group, name, kind, shape, layout).write(h5s.ALL, h5s.ALL, values, kind)


def _flatten(layout: FlatLayout, observations: dict[str, np.ndarray]) -> np.ndarray:
    """Return the observations of B episodes, arrays (B, N + 1, …), as vectors (B, N + 1, D)."""
    first = {key: observations[key][:, :1] for key in layout.geometry_keys}
    return layout.flatten(observations, layout.geometry(first))


class EpisodeReader:
    """A reader that collects the flat arrays of ``Transitions`` from a ``main_data.hdf5``.

    Args:
        file: The open file.
        total_steps: The number T of steps of all episodes.
        combined: Whether Minari combined the file from several datasets, without the attributes of
            their episodes. Then equal geometries are one skeleton, whose id is their digest.
    """

    def __init__(self, file: h5py.File, total_steps: int, *, combined: bool = False) -> None:
        self._file = file
        self._combined = combined
        observations: Any = file["episode_0/observations"]
        n_max, e_max = observations["element"].shape[1], observations["edges"].shape[1]
        # An episode has one observation more than steps; the next episode overwrites the last one.
        self._elements = np.empty((total_steps + 1, n_max), np.int16)
        self._focus = np.empty(total_steps + 1, np.int16)
        self._action = np.empty(total_steps, np.int16)
        self._reward = np.empty(total_steps, np.float32)
        self._done = np.empty(total_steps, bool)
        self._steps_read = 0
        # For each episode.
        self._start_site: list[int] = []
        self._skeleton: list[int] = []
        self._lengths: list[int] = []
        # For each skeleton.
        self._skeleton_of_key: dict[int | str, int] = {}
        self._ids: list[str] = []
        self._n_sites: list[int] = []
        # A buffer for the geometry, which the file repeats at every step, and a copy per skeleton.
        self._geometry = {
            "frac_coords": (np.empty((n_max + 1, n_max, 3), np.float32), []),
            "lattice": (np.empty((n_max + 1, 6), np.float32), []),
            "edges": (np.empty((n_max + 1, e_max, 5), np.int16), []),
        }

    def read(self, episode: int) -> None:
        """Append one episode.

        Raises:
            CrystalGymError: If the episode has no attributes ``row`` and ``start_site``.
        """
        group = h5g.open(self._file.id, b"episode_%d" % episode)
        n = _read_integer(group, b"total_steps")
        steps = slice(self._steps_read, self._steps_read + n)
        observations = slice(self._steps_read, self._steps_read + n + 1)
        _read_array(group, b"actions", self._action[steps])
        _read_array(group, b"observations/element", self._elements[observations])
        _read_array(group, b"observations/focus", self._focus[observations])
        _read_array(group, b"rewards", self._reward[steps])
        _read_array(group, b"terminations", self._done[steps])
        if self._combined:
            key, start_site = self._digest_geometry(group, n), int(self._focus[self._steps_read])
        else:
            key, start_site = self._read_position(group, episode)
        if key not in self._skeleton_of_key:
            self._skeleton_of_key[key] = len(self._skeleton_of_key)
            self._read_geometry(group, n)
            name = key if self._combined else h5py.Group(group).attrs["crystal"]
            self._append_skeleton(str(name))
        self._skeleton.append(self._skeleton_of_key[key])
        self._start_site.append(start_site)
        self._lengths.append(n)
        self._steps_read += n

    def _read_position(self, group: Any, episode: int) -> tuple[int, int]:
        """Return the row of the crystal and the start site of an episode."""
        try:
            return _read_integer(group, b"row"), _read_integer(group, b"start_site")
        except KeyError:
            place = f"episode {episode} of {self._file.filename}"
            if h5a.exists(group, b"source"):
                raise CrystalGymError(
                    f"Expected the attribute 'start_site' in {place}, got 'source' of an earlier "
                    "version of crystal-gym. Build the dataset again with overwrite=True."
                ) from None
            raise CrystalGymError(
                f"Expected the attributes 'row' and 'start_site' in {place}, got an episode "
                "without them. Load only datasets whose episodes were all written by "
                "crystal_datasets."
            ) from None

    def _read_geometry(self, group: Any, n_steps: int) -> None:
        for name, (buffer, _) in self._geometry.items():
            _read_array(group, b"observations/" + name.encode(), buffer[: n_steps + 1])

    def _digest_geometry(self, group: Any, n_steps: int) -> str:
        self._read_geometry(group, n_steps)
        content = b"".join(buffer[0].tobytes() for buffer, _ in self._geometry.values())
        return hashlib.sha256(b"%d " % n_steps + content).hexdigest()[:16]

    def _append_skeleton(self, name: str) -> None:
        """Append the skeleton in the geometry buffers."""
        self._ids.append(name)
        self._n_sites.append(int(np.count_nonzero(self._elements[self._steps_read] >= 0)))
        for buffer, kept in self._geometry.values():
            kept.append(buffer[0].copy())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the array fields of ``Transitions`` for all episodes read.

        Raises:
            ValueError: If the episodes read do not have ``total_steps`` steps in total.
        """
        if self._steps_read != len(self._action):
            raise ValueError(f"expected {len(self._action)} steps, got {self._steps_read}")
        lengths = np.array(self._lengths)
        return {
            "skeleton_ids": np.array(self._ids),
            "n_sites": np.array(self._n_sites, np.int32),
            **{name: np.stack(kept) for name, (_, kept) in self._geometry.items()},
            "skeleton": np.repeat(np.array(self._skeleton, np.int32), lengths),
            "trajectory": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            "start_site": np.repeat(np.array(self._start_site, np.int16), lengths),
            "step": np.count_nonzero(self._elements[:-1] > 0, axis=1).astype(np.int16),
            "elements": self._elements[:-1],
            "focus": self._focus[:-1],
            "action": self._action,
            "reward": self._reward,
            "done": self._done,
        }


def _read_array(group: Any, name: bytes, target: np.ndarray) -> None:
    """Read an array into ``target``; HDF5 raises an error if their sizes differ."""
    kind, shape = _type_of(target.dtype), _dataspace_of(target.shape)
    h5d.open(group, name).read(shape, h5s.ALL, target, kind)


def _read_integer(group: Any, name: bytes) -> int:
    value = np.empty((), np.int64)
    h5a.open(group, name).read(value, h5t.NATIVE_INT64)
    return int(value)


@functools.cache  # without the two caches, writing takes twice as long
def _type_of(dtype: np.dtype) -> Any:
    return h5t.py_create(dtype, logical=True)


@functools.cache
def _dataspace_of(shape: tuple[int, ...]) -> Any:
    return h5s.create_simple(shape)


def _compressed(shape: tuple[int, ...]) -> Any:
    """Return the creation properties of a chunked and compressed array."""
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CHUNKED)
    layout.set_chunk(shape)
    layout.set_shuffle()
    layout.set_deflate(1)
    layout.set_obj_track_times(False)
    return layout
