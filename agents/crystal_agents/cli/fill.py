"""``crystal-gym fill FILE…``: fill the skeletons of structure files with a policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console
from crystal_agents.cli.kept_sites import parse_sites

if TYPE_CHECKING:
    from rich.table import Table

    from crystal_agents.rollouts.filled_files import RankedFilling


@dataclass
class Fill(Command):
    """Fill the skeletons of structure files, and rank the fillings.

    The elements of the files are ignored, except those of kept sites. All files are read before the
    first one is filled.
    """

    after_stop: ClassVar[str] = "Nothing was written."

    files: tyro.conf.Positional[tuple[str, ...]]
    """CIF, POSCAR, extended XYZ or JSON files, also compressed."""

    policy: str = "mp-20/mpnn"
    """A name from `crystal-gym list`, or the folder of a trained policy."""

    composition: str | None = None
    """The composition of the filled crystal, such as SrTiO3: only assign its elements to sites."""

    elements: str | None = None
    """Elements that may be chosen, such as Sr,Ba,Ti,O (default: all that the policy was trained
    on)."""

    exclude: str = ""
    """Elements that may not be chosen, such as Pb,Cd,Hg."""

    keep: str = ""
    """Sites that keep the elements of the file, such as 0-3 or 0,2,5: the others are filled given
    these, as in substitution and doping."""

    keep_elements: str = ""
    """Elements of the file that are kept on all their sites, such as O."""

    mask: str = "none"
    """charge-neutral: only fillings that can be charge-neutral; charge-neutral-common: the same
    with common oxidation states only."""

    samples: int | None = None
    """Number of fillings to sample (default: only the greedy filling)."""

    replacement: bool = True
    """Sample with replacement; --no-replacement gives different fillings."""

    beam: int | None = None
    """Number of the most probable fillings to find by a beam search."""

    temperature: float = 1.0
    """Temperature of the samples: above 1, they are more diverse."""

    seed: int = 0
    """Seed of the samples."""

    rank: Literal["probability", "energy"] = "probability"
    """Order of the fillings: by their probability, or by their formation energy, computed with
    CHGNet for the unrelaxed crystal (extra `energy`)."""

    show: int = 10
    """Number of fillings of each file to print."""

    output: Path | None = None
    """Folder for the filled crystals and a table scores.csv (default: nothing is written)."""

    format: Literal["cif", "poscar", "extxyz"] = "cif"
    """Format of the filled crystals."""

    overwrite: bool = False
    """Replace the files of an output folder that exists."""

    def run(self) -> None:
        """Fill the structures, print the fillings and write them."""
        from crystal_agents.policies.policy import load_policy
        from crystal_agents.rollouts.filled_files import rank_fillings, write_fillings
        from crystal_gym.errors import CrystalGymError

        if not self.files:
            raise CrystalGymError("Expected at least one structure file, got none. Pass its path.")
        if self.output is not None and self.output.exists() and not self.overwrite:
            raise CrystalGymError(
                f"Expected a new folder for --output, got {self.output}, which exists. Choose "
                "another one, or pass --overwrite."
            )
        policy = load_policy(self.policy)
        fillings = policy.fill_all(
            self.files,
            composition=self.composition,
            elements=None if self.elements is None else _split(self.elements),
            exclude=_split(self.exclude),
            keep=parse_sites(self.keep, "--keep"),
            keep_elements=_split(self.keep_elements),
            mask=self.mask,
            samples=self.samples,
            replacement=self.replacement,
            beam=self.beam,
            temperature=self.temperature,
            seed=self.seed,
        )
        ranked = [rank_fillings(found, by_energy=self.rank == "energy") for found in fillings]
        out = console()
        for file, found in zip(self.files, ranked, strict=True):
            out.print(_table(file, found, self.show))
        if self.output is not None:
            path = write_fillings(self.output, self.files, ranked, self.format)
            count = sum(map(len, ranked))
            out.print(f"Wrote {count:,} crystals and {path}.", soft_wrap=True)


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _table(file: str, fillings: "list[RankedFilling]", show: int) -> "Table":
    from rich.table import Table

    title = f"{file}: {len(fillings):,} fillings"
    table = Table("rank", title=title if len(fillings) > 1 else file)
    with_energy = any(filling.formation_energy is not None for filling in fillings)
    for heading in ("formula", "elements", "log p", "count", "valid"):
        table.add_column(heading, justify="left" if heading in ("formula", "elements") else "right")
    if with_energy:
        table.add_column("formation energy, eV/atom", justify="right")
    for rank, filling in enumerate(fillings[:show], start=1):
        filled = filling.filled
        energy = [f"{filling.formation_energy:.3f}"] if with_energy else []
        table.add_row(
            str(rank),
            filled.formula,
            " ".join(site.specie.symbol for site in filled.structure),
            f"{filled.log_probability:.2f}",
            str(filled.count),
            "yes" if filled.valid else "no",
            *energy,
        )
    return table
