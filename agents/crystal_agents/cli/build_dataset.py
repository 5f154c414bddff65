"""``crystal-gym build-dataset NAME``: write the Minari data sets of a collection."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console

if TYPE_CHECKING:
    from rich.console import Console

    from crystal_datasets.behaviors import PolicyMixture
    from crystal_gym.collections.collection import CrystalCollection


@dataclass
class BuildDataset(Command):
    """Write the behavior data sets of a collection, one for each split, in Minari's format.

    They lie where Minari keeps its data sets (MINARI_DATASETS_PATH).
    """

    after_stop: ClassVar[str] = (
        "Complete data sets are kept; the same command goes on with those that are missing."
    )

    name: tyro.conf.Positional[str]
    """A name from `crystal-gym list`, a CSV file or folder in CDVAE's format, CIFs or a folder."""

    splits: tuple[str, ...] = ()
    """Splits to build, each a data set of its own: train, val, test, all (default: the three)."""

    split_by: Literal["origin", "composition"] = "origin"
    """The source's own splits, or splits anew where all crystals of one composition stand in one;
    these data sets are named NAME-by-composition."""

    behavior: str = "expert"
    """Who fills the crystals: expert (puts back the true elements), random, or mixed (each episode
    by one of expert, --policy and random)."""

    reward: str = "match"
    """What is earned: match, validity or another name that the environment takes; it becomes part
    of the data set's name."""

    policy: str | None = None
    """For mixed: a name from `crystal-gym list`, or a folder of a trained policy."""

    mixture_weights: tuple[float, float, float] | None = None
    """For mixed: in which proportions expert, policy and random play the episodes (default: equal
    ones)."""

    temperature: float | None = None
    """For mixed: at which the policy's elements are drawn (default: 1); above 1 more varied."""

    trajectories: int = 5
    """Episodes for each crystal, each from another start site."""

    seed: int = 0
    """Seed of the start sites, where a crystal has more than are used, and of the behavior."""

    overwrite: bool = False
    """Build anew what exists; the old data set goes when the new one is complete."""

    def run(self) -> None:
        """Build what is missing and print the ids."""
        from crystal_datasets.build import build_dataset
        from crystal_datasets.minari_writer import dataset_id
        from crystal_gym.collections import load_collection
        from crystal_gym.collections.collection import SPLITS
        from crystal_gym.errors import CrystalGymError
        from crystal_gym.rewards import resolve_reward

        out = console()
        labels = resolve_reward(self.reward).labels  # a mistake is told before all work
        collection = load_collection(self.name, split_by=self.split_by)
        behavior = self._behaviour(collection)
        made_from = {
            "trajectories": self.trajectories,
            "seed": self.seed,
            "collection_sha256": collection.fingerprint(),
            "labels_sha256": collection.labels_fingerprint(labels),
            "mixture": None if isinstance(behavior, str) else behavior.settings(),
        }
        sizes = {split: len(collection.in_split(split)) for split in self.splits or SPLITS}
        empty = [split for split, size in sizes.items() if not size]
        if empty and self.splits:  # told before anything is built
            raise CrystalGymError(f"{collection.name!r} has no crystals in {', '.join(empty)}.")
        if empty:
            out.print(f"{collection.name} has no crystals in {', '.join(empty)}: left out.")
        for split in sizes:
            name = dataset_id(collection.name, split, self.behavior, self.reward)
            if split in empty or (not self.overwrite and _is_built(name, made_from, out)):
                continue
            start = time.perf_counter()
            build_dataset(
                self.name,
                split,
                behavior,
                reward=self.reward,
                split_by=self.split_by,
                trajectories=self.trajectories,
                seed=self.seed,
                overwrite=self.overwrite,
            )
            seconds = time.perf_counter() - start
            size = _size(_metadata(name))
            out.print(f"{name}: {size}, built in {seconds:.1f} s.")

    def _behaviour(self, collection: "CrystalCollection") -> "str | PolicyMixture":
        """What ``build_dataset`` takes.

        Raises:
            CrystalGymError: a policy is missing, of another vocabulary, or given where none plays.
        """
        from crystal_datasets.behaviors import get_behavior_policy, mixed
        from crystal_gym.errors import CrystalGymError

        given = {"mixture_weights": self.mixture_weights, "temperature": self.temperature}
        changes = {name: value for name, value in given.items() if value is not None}
        if self.behavior == "mixed" and self.policy:
            from crystal_agents.policies.policy import load_policy

            policy = load_policy(self.policy).require(collection.vocabulary, collection.max_sites)
            return mixed(policy.probabilities, self.policy, **changes)
        if self.policy:
            raise CrystalGymError(
                f"--policy is for --behavior mixed; in {self.behavior!r} no policy plays."
            )
        if changes and self.behavior != "mixed":
            raise CrystalGymError(
                f"--{next(iter(changes))} is for --behavior mixed, not for {self.behavior!r}."
            )
        get_behavior_policy(self.behavior)
        return self.behavior


def _is_built(name: str, made_from: dict[str, Any], out: "Console") -> bool:
    """Whether this data set stands there, made from the same crystals in the same way.

    Raises:
        CrystalGymError: it was made from others or in another way.
    """
    from crystal_gym.errors import CrystalGymError

    metadata = _metadata(name)
    if metadata is None:
        return False
    before = metadata.get("crystal_gym", {})
    for setting, value in made_from.items():
        if before.get(setting) != value:
            raise CrystalGymError(
                f"{name} was built with {setting} {before.get(setting)}, not {value}. Pass "
                "--overwrite to build it anew."
            )
    out.print(f"{name}: built already; --overwrite builds it anew.")
    return True


def _metadata(name: str) -> Any:
    """Metadata of a data set, or ``None`` where there is none of this name."""
    import minari

    return minari.list_local_datasets(prefix=name).get(name)


def _size(metadata: Any) -> str:
    return (
        f"{metadata['total_episodes']:,} episodes, {metadata['total_steps']:,} steps, "
        f"{metadata['dataset_size']:,.1f} MB"
    )
