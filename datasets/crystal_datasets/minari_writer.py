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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gymnasium
import h5py
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from h5py import h5a, h5d, h5g, h5p, h5s, h5t  # pyright: ignore - compiled, without stubs
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from crystal_datasets.behaviours import Mixture, behaviour_named
from crystal_datasets.cards import dataset_card
from crystal_datasets.trajectories import Episodes, choose_sources, generate_episodes
from crystal_gym.collection import CrystalCollection
from crystal_gym.collections import collection_address, load_collection
from crystal_gym.elements import Vocabulary
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, StorageError
from crystal_gym.observation import observation_space
from crystal_gym.progress import progress_bar
from crystal_gym.rewards import REWARDS, Reward, resolve_reward

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardSource

    # A name of ``crystal_gym.rewards.REWARDS``, or a name of your own and what ``resolve_reward``
    # takes: ``("halves", {"match": 0.5, "validity": 0.5})``.
    NamedReward = str | tuple[str, RewardSource]

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


def dataset_id(
    collection: str, split: str, behaviour: str = "expert", reward: str = "match"
) -> str:
    """The Minari id of a behaviour data set: ``crystal-gym/<collection>/<behaviour>-<split>-v0``.

    Rewards other than ``match`` stand in it too: ``…/<behaviour>-<split>-<reward>-v0``.

    Args:
        collection: the collection's name; what an id cannot hold becomes ``-``.
        split: ``train``, ``val``, ``test`` or ``all``.
        behaviour: ``expert``, ``random``, ``mixed`` or ``replay``.
        reward: the reward's name.
    """
    told = "" if reward == "match" else f"-{_slug(reward, 'reward')}"
    return f"{NAMESPACE}/{_slug(collection, 'crystals')}/{behaviour}-{split}{told}-v0"


def build_dataset(
    collection: str | Path | CrystalCollection,
    split: str,
    behaviour: str | Mixture = "expert",
    *,
    reward: "NamedReward" = "match",
    split_by: str = "source",
    vocabulary: Vocabulary | None = None,
    trajectories: int = 5,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Write the episodes of every crystal of a split as a Minari data set, with its card.

    The data set is built in a hidden folder and gets its name when it is complete. An environment
    can be recovered from it when the collection is given by name or path and the reward by names; a
    collection or a reward at hand has no address that could be written down.

    Args:
        collection: a name, a path, or a collection at hand.
        split: ``train``, ``val``, ``test`` or ``all``.
        behaviour: a name of ``BEHAVIOURS``, or a mixture, such as ``mixed`` makes one.
        reward: what is earned: a name, or a pair of a name of your own and any reward that the
            environment takes. Episodes on whose crystal it fails are left out and counted.
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
        UnknownNameError: an unknown collection, split, behaviour, reward or ``split_by``.
        CrystalGymError: the data set exists, the split is empty, a crystal holds an element that
            the vocabulary lacks, ``trajectories`` is below 1, ``seed`` below 0, or no episode has
            a reward that is a number.
        StorageError: the folder of Minari's data sets cannot be written or the disk is full.
    """
    mixture = behaviour if isinstance(behaviour, Mixture) else None
    act = mixture or behaviour_named(str(behaviour))
    kind = "mixed" if mixture else str(behaviour)
    reward_name, earned = named_reward(reward)
    crystals = load_collection(collection, split_by=split_by, progress=progress)
    rows = crystals.in_split(split)
    if not len(rows):
        raise CrystalGymError(f"{crystals.name!r} has no crystals in its split {split!r}.")
    table = EpisodeTable(crystals, vocabulary)
    earned.prepare(table)
    sources = choose_sources(crystals.n_sites, trajectories, seed)
    sources[np.isin(np.arange(len(crystals)), rows, invert=True)] = -1
    plan = DatasetPlan(
        dataset_id(crystals.name, split, kind, reward_name),
        table,
        split,
        kind,
        _ALGORITHMS[kind] if mixture is None else f"each episode by one of: {mixture.describe()}",
        reward_name,
        earned.labels,
        environment_spec(collection, split, split_by, table, reward),
        {
            "split_by": split_by,
            "crystals": len(rows),
            "trajectories": trajectories,
            "seed": seed,
            **({"mixture": mixture.settings()} if mixture else {}),
        },
    )
    episodes = generate_episodes(table, sources, act, seed, earned)
    write_dataset(plan, episodes, int((sources >= 0).sum()), overwrite, progress)
    return plan.name


_ALGORITHMS = {
    "expert": "expert: puts back the true element of each site",
    "random": "uniform random over the vocabulary",
}


@dataclass(frozen=True)
class DatasetPlan:
    """What a data set is to be, before its episodes are there.

    Attributes:
        name: the Minari id.
        table: the crystals and the vocabulary.
        split: where its crystals stand.
        behaviour: ``expert``, ``random``, ``mixed`` or ``replay``.
        algorithm: who plays, in words.
        reward: its name.
        labels: names of those that the reward looks up.
        environment: in which the episodes happen, where it can be written down.
        settings: what else goes into the section ``crystal_gym`` of the metadata.
    """

    name: str
    table: EpisodeTable
    split: str
    behaviour: str
    algorithm: str
    reward: str
    labels: tuple[str, ...]
    environment: EnvSpec | None
    settings: dict[str, Any]

    def metadata(self) -> dict[str, Any]:
        """Everything that Minari and ``load_transitions`` are told."""
        collection, vocabulary = self.table.collection, self.table.vocabulary
        metadata = {
            "dataset_id": self.name,
            **_provenance(self),
            "crystal_gym": {
                "collection": collection.name,
                "split": self.split,
                "behaviour": self.behaviour,
                "reward": self.reward,
                "collection_sha256": collection.fingerprint(),
                "labels_sha256": collection.labels_fingerprint(self.labels),
                "vocabulary": list(vocabulary.symbols),
                **self.settings,
            },
        }
        if self.reward == "match":
            # Exact returns: uniform over V elements, and all sites right.
            metadata |= {
                "ref_min_score": 1 / len(vocabulary),
                "ref_max_score": 1.0,
                "num_episodes_average_score": self.settings["crystals"],
            }
        return metadata


def write_dataset(
    plan: DatasetPlan,
    episodes: Iterable[Episodes],
    total: int,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Write episodes under the plan's name, with the card; those without a finite reward are left.

    Args:
        plan: what the data set is to be.
        episodes: in batches; crystals are rows of the plan's table.
        total: how many there are.
        overwrite: replace an existing data set, once the new one is complete.
        progress: show a progress bar.

    Raises:
        CrystalGymError: the data set exists, or no episode has a finite reward.
        StorageError: the folder of Minari's data sets cannot be written or the disk is full.
    """
    crystals = plan.table.collection
    with _built_beside(plan.name, overwrite) as folder:
        table = plan.table
        observations = observation_space(table.max_sites, table.max_edges, table.n_elements)
        storage = MinariStorage.new(
            folder / "data",
            observation_space=observations,
            action_space=spaces.Discrete(table.n_elements),
            env_spec=plan.environment,
        )
        metadata = plan.metadata()
        returns: list[np.ndarray] = []
        makers: list[np.ndarray] = []
        with (
            _EpisodeFile(folder / "data" / "main_data.hdf5", observations) as file,
            progress_bar(f"Writing {plan.name}", total, shown=progress) as advance,
        ):
            for batch in episodes:
                kept = batch.select(np.flatnonzero(np.isfinite(batch.returns)))
                file.append(kept, crystals)
                returns.append(kept.returns)
                if kept.made_by is not None:
                    makers.append(kept.made_by)
                advance(len(batch))
            totals = {"total_episodes": file.total_episodes, "total_steps": file.total_steps}
        if not file.total_episodes:
            raise CrystalGymError(
                f"The reward {plan.reward!r} is NaN or infinite in all {total} episodes of "
                f"{plan.name}: nothing is left to write."
            )
        metadata["crystal_gym"] |= {
            "left_out": total - file.total_episodes,
            "returns": _statistics(np.concatenate(returns)),
        }
        if makers:
            earned, made_by = np.concatenate(returns), np.concatenate(makers)
            metadata["crystal_gym"]["returns_by"] = {
                str(name): _statistics(earned[made_by == name]) for name in np.unique(made_by)
            }
        storage.update_metadata({**metadata, **totals, "dataset_size": storage.get_size()})
        (folder / "README.md").write_text(dataset_card(storage.metadata, crystals), "utf-8")
        _create_namespaces(plan.name, crystals.description)


def _statistics(returns: np.ndarray) -> dict[str, float]:
    return {
        "episodes": len(returns),
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "min": float(returns.min()),
        "max": float(returns.max()),
    }


def _slug(name: str, otherwise: str) -> str:
    """The name with what an id cannot hold replaced by ``-``."""
    return re.sub(r"[^-a-zA-Z0-9_]+", "-", name).strip("-") or otherwise


def named_reward(reward: "NamedReward") -> tuple[str, Reward]:
    """The name of a data set's reward, and the reward.

    Raises:
        CrystalGymError: another reward is given under the name of one of crystal-gym's.
    """
    if isinstance(reward, str):
        return reward, resolve_reward(reward)
    name, given = reward
    if name in REWARDS:
        raise CrystalGymError(
            f"{name!r} is the name of a reward of crystal-gym; choose another for your own, so "
            "that the data sets stay apart."
        )
    return name, resolve_reward(given)


def _in_json(reward: "NamedReward") -> bool:
    """Whether an environment with this reward can be written down."""
    return isinstance(reward, str) or isinstance(reward[1], str | Mapping)


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
            if episodes.made_by is not None:
                self._attribute(group, b"behaviour", str(episodes.made_by[b]))
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


def environment_spec(
    collection: str | Path | CrystalCollection,
    split: str,
    split_by: str,
    table: EpisodeTable,
    reward: "NamedReward",
) -> EnvSpec | None:
    """The environment in which episodes happen, if JSON can hold its keywords."""
    if isinstance(collection, CrystalCollection) or not _in_json(reward):
        return None
    source = reward if isinstance(reward, str) else reward[1]
    spec = copy.deepcopy(gymnasium.spec(ENVIRONMENT))
    spec.kwargs |= {
        "collection": collection_address(collection),
        "split": split,
        "split_by": split_by,
        "vocabulary": list(table.vocabulary.symbols),
        **({"max_sites": table.max_sites} if table.max_sites > table.collection.max_sites else {}),
        **({} if source == "match" else {"reward": source}),
    }
    return spec


def _provenance(plan: DatasetPlan) -> dict[str, Any]:
    """What Minari asks for: who made the data set, how, and what is needed to use it."""
    version = importlib.metadata.version("crystal-gym")
    collection = plan.table.collection
    earned = "" if plan.reward == "match" else f" Reward: {plan.reward}."
    provenance = {
        "minari_version": importlib.metadata.version("minari"),
        "algorithm_name": plan.algorithm,
        "author": {AUTHOR},
        "author_email": {CONTACT},
        "code_permalink": f"crystal-gym {version}, crystal_datasets/trajectories.py",
        "requirements": [f"crystal-gym>={version}"],
        "description": (
            f"Episodes of {ENVIRONMENT} on the split {plan.split!r} of {collection.name!r}: "
            "elements are put on the sites of crystal skeletons, one site a step. Behaviour: "
            f"{plan.algorithm}.{earned} {collection.description}"
        ),
    }
    if plan.environment is not None:
        provenance["eval_env_spec"] = plan.environment.to_json()
    return provenance


def _reason(error: OSError) -> str:
    """In short; HDF5 tells whole stories."""
    if error.errno:
        return os.strerror(error.errno)
    return (str(error) or type(error).__name__).splitlines()[0]
