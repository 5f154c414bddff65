"""``crystal-gym build-dataset NAME``: write the Minari datasets of a collection."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from crystal_agents.cli.cluster_command import ClusterCommand
from crystal_agents.cli.command import console
from crystal_agents.cli.kept_sites import parse_keep

if TYPE_CHECKING:
    from rich.console import Console

    from crystal_datasets.behaviors import PolicyMixture
    from crystal_gym.collections.collection import CrystalCollection


@dataclass
class BuildDataset(ClusterCommand):
    """Write the episodes of a behavior policy as Minari datasets, one for each split.

    Datasets are stored in Minari's folder, which MINARI_DATASETS_PATH sets.
    """

    after_stop: ClassVar[str] = (
        "Complete datasets are kept. Rerun the same command to build the missing ones."
    )

    name: tyro.conf.Positional[str]
    """A name from `crystal-gym list`, a CSV file or folder in CDVAE's format, or a structure
    file (CIF, POSCAR, extended XYZ, JSON) or a folder of such files."""

    splits: tuple[str, ...] = ()
    """Splits to build, one dataset each: train, val, test, all (default: the first three)."""

    split_by: str = "origin"
    """The splits: `origin`, those of the collection's origin; `composition` or `prototype`, where
    all crystals of one composition, or of one prototype (space group, anonymous formula and number
    of sites), share a split; `random:SEED`, random splits of the origin's sizes; or a file, either
    CSV with the columns material_id and split, or JSON with lists of ids under train, val and test.
    The names of the datasets contain the splits, as in NAME-by-composition, NAME-by-random-SEED
    and NAME-by-file-STEM."""

    on_error: Literal["raise", "skip"] = "raise"
    """Stop at crystals that cannot be read, or leave them out with a warning."""

    behavior: str = "expert"
    """Behavior policy: expert (assigns the true elements), random, or mixed (each episode follows
    the expert, --policy, or random)."""

    reward: str = "match"
    """Reward of the episodes: match, validity or another name that the environment accepts. It is
    part of the dataset's name."""

    policy: str | None = None
    """For mixed: a name from `crystal-gym list`, or the folder of a trained policy."""

    mixture_weights: tuple[float, float, float] | None = None
    """For mixed: proportions of episodes by expert, policy and random (default: equal)."""

    temperature: float | None = None
    """For mixed: temperature at which the policy's actions are sampled (default: 1)."""

    observations: Literal["dict", "flat", "flat-pairs"] = "dict"
    """Observations as dicts, or as float32 vectors for libraries that require them, without or with
    pair features of the neighbor graph. Flat ones are part of the dataset's name."""

    start: Literal["empty", "partial"] = "empty"
    """Start from empty skeletons, or with the true elements on the sites of --keep. Partial starts
    are part of the dataset's name, and so are --mask and --target."""

    keep: str | None = None
    """For --start partial: the fraction of the sites to keep, such as 0.5 (default), or their
    numbers, such as 0,3."""

    mask: str = "none"
    """Action mask of the dataset's environment: charge-neutral or composition. The behavior random
    draws from its elements."""

    target: tuple[str, ...] = ()
    """Labels that observations contain as `target`. Crystals without them are left out."""

    trajectories: int = 5
    """Episodes for each crystal, each from a different start site."""

    seed: int = 0
    """Seed of the start sites, where a crystal has more than are used, and of the actions."""

    overwrite: bool = False
    """Rebuild existing datasets; an old dataset is deleted once the new one is complete."""

    def run(self) -> None:
        """Build the missing datasets and print their ids."""
        from crystal_datasets import build_dataset, dataset_id
        from crystal_datasets.dataset_metadata import read_metadata
        from crystal_datasets.task import DatasetTask
        from crystal_gym.collections import load_collection
        from crystal_gym.collections.collection import SPLITS
        from crystal_gym.errors import CrystalGymError
        from crystal_gym.rewards import resolve_reward

        out = console()
        reward = resolve_reward(self.reward)  # rejects unknown rewards before any work
        task = DatasetTask.of(self.start, parse_keep(self.keep), self.mask, self.target)
        collection = load_collection(self.name, split_by=self.split_by, on_error=self.on_error)
        behavior = self._behavior(collection)
        settings = {
            "trajectories": self.trajectories,
            "seed": self.seed,
            "reward_definition": reward.definition,
            "labels_sha256": collection.labels_fingerprint(reward.labels),
            "mixture": None if isinstance(behavior, str) else behavior.settings(),
        }
        sizes = {split: len(collection.in_split(split)) for split in self.splits or SPLITS}
        empty = [split for split, size in sizes.items() if not size]
        if empty and self.splits:
            raise CrystalGymError(
                f"Expected crystals in {', '.join(sizes)} of {collection.name!r}, got no crystals "
                f"in {', '.join(empty)}. Choose other --splits."
            )
        if empty:
            out.print(f"{collection.name} has no crystals in {', '.join(empty)}: skipped.")
        for split in sizes:
            name = dataset_id(
                collection.name, split, self.behavior, self.reward, self.observations, task=task
            )
            if split in empty:
                continue
            if not self.overwrite and self._is_built(name, collection, settings, out):
                continue
            start = time.perf_counter()
            build_dataset(
                self.name,
                split,
                behavior,
                reward=self.reward,
                split_by=self.split_by,
                on_error=self.on_error,
                observations=self.observations,
                start=task.start,
                keep=task.keep,
                mask=task.mask,
                target=task.target,
                trajectories=self.trajectories,
                seed=self.seed,
                overwrite=self.overwrite,
            )
            seconds = time.perf_counter() - start
            out.print(f"{name}: {_size(read_metadata(name))}, built in {seconds:.1f} s.")

    def _is_built(
        self,
        name: str,
        collection: "CrystalCollection",
        settings: dict[str, Any],
        out: "Console",
    ) -> bool:
        """Return whether this dataset exists, built from the same crystals in the same way.

        Raises:
            CrystalGymError: If it was built from other crystals or with other settings.
        """
        from crystal_datasets.dataset_metadata import identify, read_metadata, require_collection
        from crystal_datasets.minari_writer import RENAME_OR_OVERWRITE, origin_of
        from crystal_gym.errors import CrystalGymError, MissingDataError

        try:
            metadata = read_metadata(name)
        except MissingDataError:
            return False
        collections = identify(name, metadata).collections
        origin = origin_of(self.name)
        require_collection(name, collections, origin, collection, RENAME_OR_OVERWRITE)
        existing = metadata.get("crystal_gym", {})
        for setting, value in settings.items():
            if existing.get(setting) != value:
                raise CrystalGymError(
                    f"Expected {name} to be built with {setting} {value}, got "
                    f"{existing.get(setting)}. Pass --overwrite to rebuild it."
                )
        out.print(f"{name}: already built; pass --overwrite to rebuild it.")
        return True

    def _behavior(self, collection: "CrystalCollection") -> "str | PolicyMixture":
        """Return the behavior policy in the form that ``build_dataset`` accepts.

        Raises:
            CrystalGymError: If a policy is missing, has another vocabulary, or is not used.
        """
        from crystal_datasets.behaviors import get_behavior_policy, mixed
        from crystal_gym.errors import CrystalGymError

        options = {"mixture_weights": self.mixture_weights, "temperature": self.temperature}
        changes = {name: value for name, value in options.items() if value is not None}
        if self.behavior == "mixed" and self.policy:
            from crystal_agents.policies.policy import load_policy

            policy = load_policy(self.policy).require(collection.vocabulary, collection.max_sites)
            return mixed(policy.probabilities, self.policy, **changes)
        if self.policy:
            raise CrystalGymError(
                f"Expected --policy with --behavior mixed, got --behavior {self.behavior}. Leave "
                "--policy out."
            )
        if changes and self.behavior != "mixed":
            option = next(iter(changes)).replace("_", "-")
            raise CrystalGymError(
                f"Expected --{option} with --behavior mixed, got --behavior {self.behavior}. Leave "
                f"--{option} out."
            )
        get_behavior_policy(self.behavior)
        return self.behavior


def _size(metadata: Any) -> str:
    return (
        f"{metadata['total_episodes']:,} episodes, {metadata['total_steps']:,} steps, "
        f"{metadata['dataset_size']:,.1f} MB"
    )
