"""Behaviour data sets in Minari's format, written on a bulk path.

Minari's own writers need minutes for the 56,780 short episodes of Perov-5. Here the metadata go
through Minari's storage class and the episodes straight into its HDF5 layout. This leans on the
layout on disk of the pinned Minari version; a test holds it against the official writer.
"""

import contextlib
import copy
import importlib.metadata
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import gymnasium
import h5py
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from h5py import h5a, h5d, h5g, h5p, h5s, h5t  # pyright: ignore - compiled, without stubs
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from crystal_datasets.cards import dataset_card
from crystal_datasets.trajectories import (
    Episodes,
    behaviour_named,
    choose_sources,
    generate_episodes,
)
from crystal_gym.collection import CrystalCollection
from crystal_gym.collections import collection_address, load_collection
from crystal_gym.elements import Vocabulary
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, StorageError
from crystal_gym.observation import observation_space
from crystal_gym.progress import progress_bar

NAMESPACE = "crystal-gym"
ENVIRONMENT = "CrystalSkeleton-v0"
AUTHOR = "The crystal-gym developers"
# Minari asks for an address "or some other obvious contact information".
CONTACT = "the issue tracker of crystal-gym"

# What all episodes of one crystal have in common is stored once and hard-linked.
SHARED_OBSERVATIONS = ("frac_coords", "lattice", "edges")
# HDF5 keeps up to 64 kB beside an object's header; larger arrays are chunked and compressed.
_COMPACT_LIMIT = 60_000
# A hidden building folder that nobody has touched for so long (s) was left by a killed process.
_ABANDONED = 3600


def dataset_id(collection: str, split: str, behaviour: str = "expert") -> str:
    """The Minari id of a behaviour data set: ``crystal-gym/<collection>/<behaviour>-<split>-v0``.

    Args:
        collection: the collection's name; what an id cannot hold becomes ``-``.
        split: ``train``, ``val``, ``test`` or ``all``.
        behaviour: a name of ``BEHAVIOURS``.
    """
    name = re.sub(r"[^-a-zA-Z0-9_]+", "-", collection).strip("-") or "crystals"
    return f"{NAMESPACE}/{name}/{behaviour}-{split}-v0"


def build_dataset(
    collection: str | Path | CrystalCollection,
    split: str,
    behaviour: str = "expert",
    *,
    split_by: str = "source",
    vocabulary: Vocabulary | None = None,
    trajectories: int = 5,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Write the episodes of every crystal of a split as a Minari data set, with its card.

    The data set is built in a hidden folder and gets its name when it is complete. An environment
    can be recovered from it when the collection is given by name or path; a collection at hand has
    no address that could be written down.

    Args:
        collection: a name, a path, or a collection at hand.
        split: ``train``, ``val``, ``test`` or ``all``.
        behaviour: a name of ``BEHAVIOURS``.
        split_by: ``source`` or ``composition``, see ``crystal_gym.load_collection``; the latter
            gives the data set the name ``<collection>-by-composition``.
        vocabulary: the elements of the action space (default: those of the collection).
        trajectories: episodes for each crystal, one from each source site; crystals with more
            sites get a sample of them, crystals with fewer get one from each site.
        seed: of that sample and of the behaviour.
        overwrite: replace an existing data set, once the new one is complete.
        progress: show progress bars.

    Returns:
        The id, to be passed to ``minari.load_dataset`` or ``load_transitions``.

    Raises:
        UnknownNameError: an unknown collection, split, behaviour or ``split_by``.
        CrystalGymError: the data set exists, the split is empty, a crystal holds an element that
            the vocabulary lacks, ``trajectories`` is below 1, or ``seed`` below 0.
        StorageError: the folder of Minari's data sets cannot be written or the disk is full.
    """
    act = behaviour_named(behaviour)
    crystals = load_collection(collection, split_by=split_by, progress=progress)
    rows = crystals.in_split(split)
    if not len(rows):
        raise CrystalGymError(f"{crystals.name!r} has no crystals in its split {split!r}.")
    vocabulary = vocabulary or crystals.vocabulary
    table = EpisodeTable(crystals.take(rows), vocabulary)
    sources = choose_sources(crystals.n_sites, trajectories, seed)[rows]
    name = dataset_id(crystals.name, split, behaviour)
    environment = None
    if not isinstance(collection, CrystalCollection):
        environment = _environment_spec(collection, split, split_by, vocabulary)

    with _built_beside(name, overwrite) as folder:
        observations = observation_space(crystals.max_sites, crystals.max_edges, len(vocabulary))
        storage = MinariStorage.new(
            folder / "data",
            observation_space=observations,
            action_space=spaces.Discrete(len(vocabulary)),
            env_spec=environment,
        )
        storage.update_metadata(
            {
                "dataset_id": name,
                **_provenance(crystals, split, behaviour, environment),
                # Exact returns of the reward `match`: uniform over V elements, and all sites right.
                "ref_min_score": 1 / len(vocabulary),
                "ref_max_score": 1.0,
                "num_episodes_average_score": len(rows),
                "crystal_gym": {
                    "collection": crystals.name,
                    "split": split,
                    "split_by": split_by,
                    "behaviour": behaviour,
                    "crystals": len(rows),
                    "collection_sha256": crystals.fingerprint(),
                    "trajectories": trajectories,
                    "seed": seed,
                    "vocabulary": list(vocabulary.symbols),
                },
            }
        )
        with (
            _EpisodeFile(folder / "data" / "main_data.hdf5", observations) as file,
            progress_bar(f"Writing {name}", len(rows), shown=progress) as advance,
        ):
            for batch in generate_episodes(table, sources, act, seed):
                file.append(batch, crystals, rows[batch.crystal])
                advance(len(np.unique(batch.crystal)))
            totals = {"total_episodes": file.total_episodes, "total_steps": file.total_steps}
        storage.update_metadata({**totals, "dataset_size": storage.get_size()})
        (folder / "README.md").write_text(dataset_card(storage.metadata, crystals), "utf-8")
        _create_namespaces(name, crystals.description)
    return name


_ALGORITHMS = {
    "expert": "expert: puts back the true element of each site",
    "random": "uniform random over the vocabulary",
}


class _EpisodeFile:
    """Minari's ``main_data.hdf5``, written episode by episode through HDF5's own interface.

    Groups ``episode_<i>`` with the episode's metadata as attributes hold ``observations/<key>``,
    ``actions``, ``rewards``, ``terminations``, ``truncations`` and an empty group ``infos``.
    """

    def __init__(self, path: Path, observations: spaces.Dict) -> None:
        self._file = h5py.File(path, "w", libver="latest", track_order=True)
        self._observations = observations
        self.total_episodes = 0
        self.total_steps = 0
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

    def append(self, episodes: Episodes, collection: CrystalCollection, rows: np.ndarray) -> None:
        """Write a batch of episodes, those of one crystal one after the other.

        Args:
            episodes: B episodes.
            collection: tells ids and splits.
            rows: the crystals' rows in the collection, (B,).
        """
        observations = {
            key: np.ascontiguousarray(values, self._observations[key].dtype)
            for key, values in episodes.observations.items()
        }
        own = [key for key in observations if key not in SHARED_OBSERVATIONS]
        first = None
        for b, (row, source, n) in enumerate(
            zip(rows.tolist(), episodes.source.tolist(), episodes.n_steps.tolist(), strict=True)
        ):
            group = h5g.create(self._file.id, b"episode_%d" % self.total_episodes)
            self._attribute(group, b"id", self.total_episodes)
            self._attribute(group, b"total_steps", n)
            self._attribute(group, b"crystal", str(collection.ids[row]))
            self._attribute(group, b"row", row)
            self._attribute(group, b"split", str(collection.splits[row]))
            self._attribute(group, b"source", source)
            seen = h5g.create(group, b"observations")
            for key in own:
                self._array(seen, key.encode(), observations[key][b, : n + 1])
            self._array(group, b"actions", episodes.actions[b, :n])
            self._array(group, b"rewards", episodes.rewards[b, :n])
            if first is not None and rows[b - 1] == row:
                for key in SHARED_OBSERVATIONS:
                    seen.links.create_hard(key.encode(), first[1], key.encode())
                for key in (b"terminations", b"truncations"):
                    group.links.create_hard(key, first[0], key)
            else:
                for key in SHARED_OBSERVATIONS:
                    self._array(seen, key.encode(), observations[key][b, : n + 1])
                self._array(group, b"terminations", np.arange(1, n + 1) == n)
                self._array(group, b"truncations", np.zeros(n, bool))
                first = group, seen
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


@contextlib.contextmanager
def _built_beside(name: str, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder with a sub-folder ``data``; it becomes data set ``name`` at the end.

    Minari passes over hidden folders when it lists data sets. An existing data set is only moved
    away when the new one is complete.
    """
    building, final = None, None
    try:
        final = get_dataset_path(name)
        if final.exists() and not overwrite:
            raise CrystalGymError(
                f"The data set {name} exists at {final}. Use it as it is, or pass overwrite=True: "
                "it is then replaced once the new one is complete."
            )
        root, prefix = get_dataset_path(), f".building-{name.replace('/', '-')}-"
        _sweep(root, prefix)
        building = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        folder = building / "new"
        (folder / "data").mkdir(parents=True)
        yield folder
        _put_in_place(folder, final, building / "old")
    except OSError as error:
        raise StorageError(
            f"Cannot write the data set {name} to {final or 'its folder'} "
            f"({_reason(error)}). Free some space or set MINARI_DATASETS_PATH to another "
            "folder, then build it again; nothing half-made is left."
        ) from error
    except KeyboardInterrupt as stop:
        stop.add_note(
            f"{name} is not complete, and nothing half-made is left. Build it again in the same "
            "way; prepared skeletons are kept."
        )
        raise
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)


def _put_in_place(folder: Path, final: Path, aside: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        folder.rename(final)
        return
    final.rename(aside)
    try:
        folder.rename(final)
    except BaseException:
        aside.rename(final)
        raise


def _sweep(root: Path, prefix: str) -> None:
    """Remove what killed builds of this data set left."""
    for left in root.glob(f"{prefix}*"):
        # Another build may just be finishing.
        with contextlib.suppress(FileNotFoundError):
            touched = max(path.stat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - touched > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _create_namespaces(name: str, description: str) -> None:
    namespace = name.rpartition("/")[0]
    if namespace not in list_local_namespaces():
        create_namespace(namespace, description=description)


def _environment_spec(
    collection: str | Path, split: str, split_by: str, vocabulary: Vocabulary
) -> EnvSpec:
    """The environment in which these episodes happen, by keywords that JSON can hold."""
    spec = copy.deepcopy(gymnasium.spec(ENVIRONMENT))
    spec.kwargs |= {
        "collection": collection_address(collection),
        "split": split,
        "split_by": split_by,
        "vocabulary": list(vocabulary.symbols),
    }
    return spec


def _provenance(
    collection: CrystalCollection, split: str, behaviour: str, environment: EnvSpec | None
) -> dict[str, Any]:
    """What Minari asks for: who made the data set, how, and what is needed to use it."""
    version = importlib.metadata.version("crystal-gym")
    provenance = {
        "minari_version": importlib.metadata.version("minari"),
        "algorithm_name": _ALGORITHMS[behaviour],
        "author": {AUTHOR},
        "author_email": {CONTACT},
        "code_permalink": f"crystal-gym {version}, crystal_datasets/trajectories.py",
        "requirements": [f"crystal-gym>={version}"],
        "description": (
            f"Episodes of {ENVIRONMENT} on the split {split!r} of {collection.name!r}: elements "
            "are put on the sites of crystal skeletons, one site a step. Behaviour: "
            f"{_ALGORITHMS[behaviour]}. {collection.description}"
        ),
    }
    if environment is not None:
        provenance["eval_env_spec"] = environment.to_json()
    return provenance


def _reason(error: OSError) -> str:
    """In short; HDF5 tells whole stories."""
    if error.errno:
        return os.strerror(error.errno)
    return (str(error) or type(error).__name__).splitlines()[0]
