"""``crystal-gym build NAME``: write the Minari data sets of a collection."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console

if TYPE_CHECKING:
    from rich.console import Console

    from crystal_gym.collection import CrystalCollection


@dataclass
class Build(Command):
    """Write the behaviour data sets of a collection, one for each split, in Minari's format.

    They lie where Minari keeps its data sets (MINARI_DATASETS_PATH).
    """

    after_stop: ClassVar[str] = (
        "Complete data sets are kept; the same command goes on with those that are missing."
    )

    name: tyro.conf.Positional[str]
    """A name from `crystal-gym list`, a CSV file or folder in CDVAE's format, CIFs or a folder."""

    splits: tuple[str, ...] = ()
    """Splits to build, each a data set of its own: train, val, test, all (default: the three)."""

    split_by: Literal["source", "composition"] = "source"
    """The source's own splits, or splits anew where all crystals of one composition stand in one;
    these data sets are named NAME-by-composition."""

    behaviour: str = "expert"
    """Who fills the crystals: expert (puts back the true elements) or random."""

    trajectories: int = 5
    """Episodes for each crystal, each from another source site."""

    seed: int = 0
    """Seed of the source sites, where a crystal has more than are used, and of the behaviour."""

    overwrite: bool = False
    """Build anew what exists; the old data set goes when the new one is complete."""

    def run(self) -> None:
        """Build what is missing and print the ids."""
        from crystal_datasets.minari_writer import build_dataset, dataset_id
        from crystal_gym.collection import SPLITS
        from crystal_gym.collections import load_collection
        from crystal_gym.errors import CrystalGymError

        out = console()
        collection = load_collection(self.name, split_by=self.split_by)
        sizes = {split: len(collection.in_split(split)) for split in self.splits or SPLITS}
        empty = [split for split, size in sizes.items() if not size]
        if empty and self.splits:  # told before anything is built
            raise CrystalGymError(f"{collection.name!r} has no crystals in {', '.join(empty)}.")
        if empty:
            out.print(f"{collection.name} has no crystals in {', '.join(empty)}: left out.")
        for split in sizes:
            name = dataset_id(collection.name, split, self.behaviour)
            if split in empty or (not self.overwrite and self._is_built(name, collection, out)):
                continue
            start = time.perf_counter()
            build_dataset(
                self.name,
                split,
                self.behaviour,
                split_by=self.split_by,
                trajectories=self.trajectories,
                seed=self.seed,
                overwrite=self.overwrite,
            )
            seconds = time.perf_counter() - start
            size = _size(_metadata(name))
            out.print(f"{name}: {size}, built in {seconds:.1f} s.")

    def _is_built(self, name: str, collection: "CrystalCollection", out: "Console") -> bool:
        """Whether this data set stands there, made from the same crystals in the same way.

        Raises:
            CrystalGymError: it was made from others or in another way.
        """
        from crystal_gym.errors import CrystalGymError

        metadata = _metadata(name)
        if metadata is None:
            return False
        before = metadata.get("crystal_gym", {})
        now = {
            "trajectories": self.trajectories,
            "seed": self.seed,
            "collection_sha256": collection.fingerprint(),
        }
        for setting, value in now.items():
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
