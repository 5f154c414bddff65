"""FIXDOC."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np
from gymnasium import spaces
from h5py import h5a, h5d, h5g, h5p, h5s, h5t  # pyright: ignore - compiled, without stubs

from crystal_datasets.episodes import Episodes
from crystal_gym.collections.collection import CrystalCollection

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

    # A name of ``crystal_gym.rewards.REWARDS``, or a name of your own and what ``resolve_reward``
    # takes: ``("halves", {"match": 0.5, "validity": 0.5})``.
    NamedReward = str | tuple[str, RewardLike]


# What all episodes of one crystal have in common is stored once and hard-linked.
SHARED_OBSERVATIONS = ("frac_coords", "lattice", "edges")


# HDF5 keeps up to 64 kB beside an object's header; larger arrays are chunked and compressed.
_COMPACT_LIMIT = 60_000


class EpisodeFile:
    """Minari's ``main_data.hdf5``, written episode by episode through HDF5's own interface.

    Groups ``episode_<i>`` with the episode's metadata as attributes hold ``observations/<key>``,
    ``actions``, ``rewards``, ``terminations``, ``truncations`` and an empty group ``infos``.
    """

    def __init__(self, path: Path, observations: spaces.Dict) -> None:
        self._file = h5py.File(path, "w", libver="latest", track_order=True)
        self._observations = observations
        self.total_episodes = 0
        self.total_steps = 0
        # Each crystal's first episode, which has what its others share.
        self._first: dict[int, int] = {}
        self._compact = h5p.create(h5p.DATASET_CREATE)
        self._compact.set_layout(h5d.COMPACT)
        self._compact.set_obj_track_times(False)
        self._scalar = h5s.create(h5s.SCALAR)
        self._text = h5t.py_create(h5py.string_dtype(), logical=True)
        # Creating types and shapes anew for every array would double the time.
        self._types: dict[np.dtype, Any] = {}
        self._shapes: dict[tuple[int, ...], Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, episodes: Episodes, collection: CrystalCollection) -> None:
        """Write a batch of episodes.

        Args:
            episodes: B episodes.
            collection: tells the crystals' ids and splits.
        """
        rows = episodes.crystal
        observations = {
            key: np.ascontiguousarray(values, self._observations[key].dtype)
            for key, values in episodes.observations.items()
        }
        own = [key for key in observations if key not in SHARED_OBSERVATIONS]
        for b, (row, start_site, n) in enumerate(
            zip(rows.tolist(), episodes.start_site.tolist(), episodes.n_steps.tolist(), strict=True)
        ):
            group = h5g.create(self._file.id, b"episode_%d" % self.total_episodes)
            self._attribute(group, b"id", self.total_episodes)
            self._attribute(group, b"total_steps", n)
            self._attribute(group, b"crystal", str(collection.ids[row]))
            self._attribute(group, b"row", row)
            self._attribute(group, b"split", str(collection.splits[row]))
            self._attribute(group, b"start_site", start_site)
            if episodes.made_by is not None:
                self._attribute(group, b"behavior", str(episodes.made_by[b]))
            seen = h5g.create(group, b"observations")
            for key in own:
                self._array(seen, key.encode(), observations[key][b, : n + 1])
            self._array(group, b"actions", episodes.actions[b, :n])
            self._array(group, b"rewards", episodes.rewards[b, :n])
            if row in self._first:
                first = h5g.open(self._file.id, b"episode_%d" % self._first[row])
                for key in SHARED_OBSERVATIONS:
                    name = b"observations/" + key.encode()
                    group.links.create_hard(name, first, name)
                for key in (b"terminations", b"truncations"):
                    group.links.create_hard(key, first, key)
            else:
                self._first[row] = self.total_episodes
                for key in SHARED_OBSERVATIONS:
                    self._array(seen, key.encode(), observations[key][b, : n + 1])
                self._array(group, b"terminations", np.arange(1, n + 1) == n)
                self._array(group, b"truncations", np.zeros(n, bool))
            h5g.create(group, b"infos")
            self.total_episodes += 1
            self.total_steps += n
        # Also keeps the file's time of change fresh: the build is alive.
        self._file.flush()

    def _attribute(self, group: Any, name: bytes, value: str | int) -> None:
        kind = self._text if isinstance(value, str) else h5t.NATIVE_INT64
        content = np.array(value, object if isinstance(value, str) else np.int64)
        h5a.create(group, name, kind, self._scalar).write(content)

    def _array(self, group: Any, name: bytes, values: np.ndarray) -> None:
        if values.dtype not in self._types:
            self._types[values.dtype] = h5t.py_create(values.dtype, logical=True)
        if values.shape not in self._shapes:
            self._shapes[values.shape] = h5s.create_simple(values.shape)
        kind, shape = self._types[values.dtype], self._shapes[values.shape]
        layout = self._compact if values.nbytes <= _COMPACT_LIMIT else _compressed(values.shape)
        h5d.create(group, name, kind, shape, layout).write(h5s.ALL, h5s.ALL, values, kind)


def _compressed(shape: tuple[int, ...]) -> Any:
    layout = h5p.create(h5p.DATASET_CREATE)
    layout.set_layout(h5d.CHUNKED)
    layout.set_chunk(shape)
    layout.set_shuffle()
    layout.set_deflate(1)
    layout.set_obj_track_times(False)
    return layout
