"""BehaviorPolicy data sets in Minari's format, written on a bulk path.

Minari's own writers need minutes for the 56,780 short episodes of Perov-5. Here the metadata go
through Minari's storage class and the episodes straight into its HDF5 layout. This leans on the
layout on disk of the pinned Minari version; a test holds it against the official writer.
"""

import copy
import importlib.metadata
import re
from collections.abc import Iterable, Mapping
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
from crystal_datasets.episodes import Episodes
from crystal_datasets.hdf5_file import EpisodeFile
from crystal_gym.collections import canonical_origin
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable, observation_space
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import REWARDS, Reward, resolve_reward
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

    # A name of ``crystal_gym.rewards.REWARDS``, or a name of your own and what ``resolve_reward``
    # takes: ``("halves", {"match": 0.5, "validity": 0.5})``.
    NamedReward = str | tuple[str, RewardLike]

NAMESPACE = "crystal-gym"
ENVIRONMENT = "CrystalSkeleton-v0"
AUTHOR = "The crystal-gym developers"
# Minari asks for an address "or some other obvious contact information".
CONTACT = "the issue tracker of crystal-gym"


def dataset_id(collection: str, split: str, behavior: str = "expert", reward: str = "match") -> str:
    """The Minari id of a behavior data set: ``crystal-gym/<collection>/<behavior>-<split>-v0``.

    Rewards other than ``match`` stand in it too: ``…/<behavior>-<split>-<reward>-v0``.

    Args:
        collection: the collection's name; what an id cannot hold becomes ``-``.
        split: ``train``, ``val``, ``test`` or ``all``.
        behavior: ``expert``, ``random``, ``mixed`` or ``replay``.
        reward: the reward's name.
    """
    told = "" if reward == "match" else f"-{_slug(reward, 'reward')}"
    return f"{NAMESPACE}/{_slug(collection, 'crystals')}/{behavior}-{split}{told}-v0"


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
        behavior: ``expert``, ``random``, ``mixed`` or ``replay``.
        algorithm: who plays, in words.
        reward: its name.
        labels: names of those that the reward looks up.
        environment: in which the episodes happen, where it can be written down.
        settings: what else goes into the section ``crystal_gym`` of the metadata.
    """

    name: str
    table: EpisodeTable
    split: str
    behavior: str
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
                "behavior": self.behavior,
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
    with staged_folder(plan.name, overwrite) as folder:
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
            EpisodeFile(folder / "data" / "main_data.hdf5", observations) as file,
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
        create_namespaces(plan.name, crystals.description)


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


def canonical_reward_name(reward: "NamedReward") -> tuple[str, Reward]:
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
        "collection": canonical_origin(collection),
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
            "elements are put on the sites of crystal skeletons, one site a step. BehaviorPolicy: "
            f"{plan.algorithm}.{earned} {collection.description}"
        ),
    }
    if plan.environment is not None:
        provenance["eval_env_spec"] = plan.environment.to_json()
    return provenance
