"""``crystal-gym fill FILE…``: fill the skeletons of structure files with a policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console
from crystal_agents.cli.kept_sites import parse_sites

if TYPE_CHECKING:
    from rich.table import Table

    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_agents.rollouts.complete_structure import FilledStructure
    from crystal_agents.rollouts.ranking import EnergyRanking, RankedFilling


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
    """Order of the fillings: by their probability, or by their energy, computed with CHGNet (extra
    `energy`)."""

    phase_diagram: Path | None = None
    """For --rank energy: order by the energy above the hull of this phase diagram, a JSON file of
    pymatgen with CHGNet's energies or those of the Materials Project."""

    relax: bool = False
    """For --rank energy: relax the cell and the sites of each filling first (minutes for many
    fillings)."""

    relax_steps: int = 200
    """Largest number of steps of a relaxation."""

    compare_training: bool = False
    """Report which fillings are crystals that the policy was trained on. Their collection is
    prepared first if necessary."""

    primitive: bool = False
    """Fill the primitive cell of the file's crystal, with its elements. `mp-20/mpnn` was trained on
    primitive cells."""

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
        from crystal_agents.rollouts.filled_files import write_fillings
        from crystal_gym.errors import CrystalGymError

        if not self.files:
            raise CrystalGymError("Expected at least one structure file, got none. Pass its path.")
        if self.output is not None and self.output.exists() and not self.overwrite:
            raise CrystalGymError(
                f"Expected a new folder for --output, got {self.output}, which exists. Choose "
                "another one, or pass --overwrite."
            )
        ranking = self._ranking()
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
            primitive=self.primitive,
        )
        ranked = self._rank(policy, fillings, ranking)
        out = console()
        for file, found in zip(self.files, ranked, strict=True):
            out.print(_table(file, found, self.show))
        if self.output is not None:
            path = write_fillings(self.output, self.files, ranked, self.format)
            count = sum(map(len, ranked))
            out.print(f"Wrote {count:,} crystals and {path}.", soft_wrap=True)

    def _ranking(self) -> "EnergyRanking | None":
        """Read what the ranking needs, before anything is filled."""
        from crystal_agents.rollouts.ranking import EnergyRanking
        from crystal_gym.errors import CrystalGymError

        if self.rank == "energy":
            if self.relax_steps < 1:
                raise CrystalGymError(
                    f"Expected --relax-steps of at least 1, got {self.relax_steps}. Leave --relax "
                    "out to rank unrelaxed crystals."
                )
            return EnergyRanking(self.phase_diagram, self.relax_steps if self.relax else None)
        for name, given in (("phase-diagram", self.phase_diagram), ("relax", self.relax)):
            if given:
                raise CrystalGymError(
                    f"Expected --rank energy with --{name}, got --rank {self.rank}. Add --rank "
                    "energy."
                )
        return None

    def _rank(
        self,
        policy: "SkeletonPolicy",
        fillings: "list[list[FilledStructure]]",
        ranking: "EnergyRanking | None",
    ) -> "list[list[RankedFilling]]":
        from crystal_agents.cli.policy_collection import PolicyCollection
        from crystal_agents.rollouts.ranking import RankedFilling, compare_with_training
        from crystal_gym.collections.known_crystals import KnownCrystals
        from crystal_gym.utils.progress import progress_bar

        ranked = [[RankedFilling(filling) for filling in found] for found in fillings]
        if ranking is not None:
            for found in fillings:
                ranking.check(found)
            total = sum(map(len, fillings))
            with progress_bar("Energies of the fillings", total, shown=True) as advance:
                ranked = [ranking(found, advance) for found in fillings]
        if self.compare_training:
            collection = PolicyCollection.of(policy, self.policy, None, None, "raise").load()
            known = KnownCrystals(collection)
            ranked = [compare_with_training(found, known) for found in ranked]
        return ranked


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _table(file: str, fillings: "list[RankedFilling]", show: int) -> "Table":
    from rich.table import Table

    title = f"{file}: {len(fillings):,} fillings"
    table = Table("rank", title=title if len(fillings) > 1 else file)
    headings = ["formula", "elements", "log p", "count", "valid"]
    further = {
        "formation energy,\neV/atom": "formation_energy",
        "above hull,\neV/atom": "energy_above_hull",
        "relaxed": "converged",
        "in training": "in_training",
    }
    further = {
        heading: name
        for heading, name in further.items()
        if any(getattr(filling, name) is not None for filling in fillings)
    }
    for heading in (*headings, *further):
        table.add_column(heading, justify="left" if heading in headings[:2] else "right")
    for rank, filling in enumerate(fillings[:show], start=1):
        filled = filling.filled
        table.add_row(
            str(rank),
            filled.formula,
            " ".join(site.specie.symbol for site in filled.structure),
            f"{filled.log_probability:.2f}",
            str(filled.count),
            "yes" if filled.valid else "no",
            *(_cell(getattr(filling, name)) for name in further.values()),
        )
    return table


def _cell(value: float | bool | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "not converged"
    return f"{value:.3f}"
