"""``crystal-gym reproduce EXPERIMENT``: the paper's experiments, as far as they have been run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console, print_table
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from crystal_agents.experiments.reproduction.experiment import Experiment
    from crystal_agents.experiments.reproduction.results import Record
    from crystal_agents.experiments.tables import Table


@dataclass
class Reproduce(Command):
    """Run an experiment on the paper with its settings; draw its table and figures.

    Every run has a folder of its own and goes on where it was stopped; finished runs are kept in
    one JSON file, from which everything is drawn, and are not repeated. Runs of different numbers
    of epochs are told apart, never mixed.
    """

    after_stop: ClassVar[str] = (
        "Finished runs are kept; the same command goes on with the others from their last "
        "checkpoints. With --report-only it draws what there is."
    )

    experiment: tyro.conf.Positional[str]
    """table-1: accuracy and validity of the paper's five columns, and the curves of its Figure 2.
    differences: the paper's network to the letter, and with one thing changed."""

    epochs: int | None = None
    """Passes over the transitions (default: the paper's 1000)."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run of each column for each seed; the first seed of all columns comes first."""

    variants: tuple[str, ...] = ()
    """Some of the columns (default: all). Those of table-1 are egnn-1, egnn-3, egnn-5, gcn-5 and
    random; of differences: base, node-order, periodic-edges, no-coordinates, focus-as-index."""

    folder: Path = Path("reproduction")
    """Where runs, results, table and figures are written."""

    collection: str = "perov-5"
    """The crystals; the paper's are perov-5."""

    accelerator: str = "auto"
    """Where to train: cpu, cuda, mps or auto."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point arithmetic; the paper's is 32-true."""

    report_only: bool = False
    """Run nothing; draw table and figures from the results that are there."""

    def run(self) -> None:
        """Run what is missing, then draw."""
        if self.experiment not in EXPERIMENTS:
            raise UnknownNameError("experiment", self.experiment, EXPERIMENTS)
        EXPERIMENTS[self.experiment](self)


def _table_1(command: Reproduce) -> None:
    from crystal_agents.experiments.reproduction import table_1_report as drawing
    from crystal_agents.experiments.reproduction.table_1 import TABLE_1

    records = _records(command, TABLE_1)
    _show(
        command,
        TABLE_1,
        drawing.build_table(records),
        drawing.save_figures(records, command.folder),
    )


def _ablations(command: Reproduce) -> None:
    from crystal_agents.experiments.reproduction.ablations import ABLATIONS, build_table

    _show(command, ABLATIONS, build_table(_records(command, ABLATIONS)))


def _records(command: Reproduce, experiment: "Experiment") -> "list[Record]":
    """Those that are there, after the missing runs unless they are not wanted."""
    from crystal_agents.experiments.reproduction.runner import RunContext

    if not command.report_only:
        context = RunContext(
            command.folder, command.collection, command.accelerator, command.precision
        )
        for record in experiment.reproduce(
            context, command.variants, command.seeds, command.epochs
        ):
            minutes = f", {record.seconds / 60:.1f} minutes of training" if record.epochs else ""
            console().print(
                f"{record.variant}, seed {record.seed}: "
                f"accuracy {record.metrics['accuracy'].mean:.2%}, "
                f"validity {record.metrics['validity_smact14'].mean:.2%}{minutes}."
            )
    records = experiment.load(command.folder)
    if not records:
        raise CrystalGymError(
            f"There are no results in {experiment.results(command.folder)} to draw from."
        )
    return records


def _show(
    command: Reproduce, experiment: "Experiment", table: "Table", metrics: Sequence[Path] = ()
) -> None:
    """Print and save the table, and name all files."""
    print_table(table)
    saved = table.save(command.folder / f"{experiment.name}.md")
    for written in (experiment.results(command.folder), saved, *metrics):
        console().print(str(written), soft_wrap=True)


# What can be reproduced, by name.
EXPERIMENTS: dict[str, Callable[[Reproduce], None]] = {
    "table-1": _table_1,
    "ablations": _ablations,
}
