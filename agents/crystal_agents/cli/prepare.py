"""``crystal-gym prepare NAME``: download, verify, prepare and describe a collection."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.cluster_command import ClusterCommand
from crystal_agents.cli.command import console

if TYPE_CHECKING:
    from rich.table import Table

    from crystal_gym.collections.collection import CrystalCollection


@dataclass
class Prepare(ClusterCommand):
    """Download, verify and prepare a crystal collection, and describe it.

    Prepared arrays are cached. Local copies of the original files are found through
    CRYSTAL_GYM_DATA; missing files are downloaded.
    """

    after_stop: ClassVar[str] = (
        "Prepared crystals are kept. Rerun the same command to prepare the rest."
    )

    name: tyro.conf.Positional[str]
    """A name from `crystal-gym list`, a CSV file or folder in CDVAE's format, or a structure
    file (CIF, POSCAR, extended XYZ, JSON) or a folder of such files."""

    split_by: str = "origin"
    """The splits to describe, as in `build-dataset`: origin, composition, prototype, random:SEED or
    a file."""

    on_error: Literal["raise", "skip"] = "raise"
    """Stop at crystals that cannot be read, or leave them out with a warning."""

    labels: bool = False
    """Also download the DFT labels (perov-5 only: heats of formation, band gaps, band edges)."""

    def run(self) -> None:
        """Load the collection and print its contents."""
        from crystal_gym.collections import load_collection
        from crystal_gym.errors import CrystalGymError
        from crystal_gym.utils.identity import short_fingerprint

        if self.labels and self.name != "perov-5":
            raise CrystalGymError(
                f"Expected --labels with 'perov-5', the only collection with DFT labels, got "
                f"{self.name!r}. Leave --labels out."
            )
        out = console()
        start = time.perf_counter()
        if self.labels:
            from crystal_gym.collections import perov5

            perov5.load(download_labels=True)
        collection = load_collection(self.name, split_by=self.split_by, on_error=self.on_error)
        seconds = time.perf_counter() - start
        if collection.description:
            out.print(collection.description)
        out.print(_splits(collection))
        out.print(_contents(collection))
        out.print(f"Fingerprint: {short_fingerprint(collection.fingerprint())}")
        out.print(f"Ready in {seconds:.1f} s.")


def _splits(collection: "CrystalCollection") -> "Table":
    import numpy as np
    from rich.table import Table

    from crystal_gym.collections.collection import SPLITS

    # Two crystals have the same composition if their sorted elements are equal.
    _, compositions = np.unique(
        np.sort(collection.atomic_numbers, axis=1), axis=0, return_inverse=True
    )
    train = set(compositions[collection.in_split("train")].tolist())
    table = Table("split", title=f"{collection.name}: {len(collection):,} crystals")
    for heading in ("crystals", "compositions", "also in train"):
        table.add_column(heading, justify="right")
    for split in SPLITS:
        inside = set(compositions[collection.in_split(split)].tolist())
        shared = "" if split == "train" else f"{len(inside & train):,}"
        table.add_row(split, f"{len(collection.in_split(split)):,}", f"{len(inside):,}", shared)
    return table


def _contents(collection: "CrystalCollection") -> "Table":
    import numpy as np
    from rich.table import Table

    def span(values: np.ndarray, unit: str = "", digits: int = 0) -> str:
        low, high = values.min(), values.max()
        text = f"{low:.{digits}f}" + (f" to {high:.{digits}f}" if high > low else "")
        return f"{text} {unit}".strip()

    table = Table("property", "value", show_header=False)
    table.add_row("sites per cell", span(collection.n_sites))
    table.add_row("edges per cell", span(collection.n_edges))
    table.add_row("cell lengths", span(collection.parameters[:, :3], "Å", 2))
    table.add_row("cell angles", span(collection.parameters[:, 3:], "°", 1))
    symbols = collection.vocabulary.symbols
    table.add_row(f"{len(symbols)} elements", " ".join(symbols))
    for name, values in collection.labels.items():
        known = values[~np.isnan(values)]
        table.add_row(name, f"{len(known):,} known, {span(known, digits=2)}")
    return table
