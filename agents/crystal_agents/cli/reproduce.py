"""``crystal-gym reproduce EXPERIMENT``: run the paper's experiments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console, print_table
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from crystal_agents.experiments.reproduction.experiment import Experiment
    from crystal_agents.experiments.reproduction.results import ReproductionRecord
    from crystal_agents.experiments.tables import Table


@dataclass
class Reproduce(Command):
    """Run one of the paper's experiments with its settings; write its table and plots.

    Every run has its own folder and resumes from its last checkpoint. Finished runs are stored in
    one JSON file and not repeated. Runs with different numbers of epochs are never mixed.
    """

    after_stop: ClassVar[str] = (
        "Finished runs are kept. Rerun the same command to resume the others from their last "
        "checkpoints, or add --report-only to write the table of the finished runs."
    )

    experiment: tyro.conf.Positional[str]
    """table-1: accuracy and validity of the paper's five columns, and the curves of its Figure 2.
    ablations: the paper's network as published, and variants with one change each."""

    epochs: int | None = None
    """Passes over the transitions (default: the paper's 1000)."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run of each variant for each seed; the first seed of all variants runs first."""

    variants: tuple[str, ...] = ()
    """The variants to run (default: all). table-1 has egnn-1, egnn-3, egnn-5, gcn-5 and random;
    ablations has base, node-order, periodic-edges, no-coordinates and focus-as-index."""

    folder: Path = Path("reproduction")
    """Folder of runs, results, table and plots."""

    collection: str = "perov-5"
    """The collection; the paper uses perov-5."""

    accelerator: str = "auto"
    """Device type: cpu, cuda, mps or auto."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point precision; the paper uses 32-true."""

    report_only: bool = False
    """Start no run; write table and plots from the stored results."""

    def run(self) -> None:
        """Execute the missing runs, then write table and plots."""
        if self.experiment not in EXPERIMENTS:
            raise UnknownNameError("experiment", self.experiment, EXPERIMENTS)
        EXPERIMENTS[self.experiment](self)


def _table_1(command: Reproduce) -> None:
    from crystal_agents.experiments.reproduction import table_1_report as report
    from crystal_agents.experiments.reproduction.table_1 import TABLE_1

    records = _records(command, TABLE_1)
    _write_report(
        command,
        TABLE_1,
        report.build_table(records),
        report.save_plots(records, command.folder),
    )


def _ablations(command: Reproduce) -> None:
    from crystal_agents.experiments.reproduction.ablations import ABLATIONS, build_table

    _write_report(command, ABLATIONS, build_table(_records(command, ABLATIONS)))


def _records(command: Reproduce, experiment: "Experiment") -> "list[ReproductionRecord]":
    """Execute the missing runs unless only the report is requested; return all records."""
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
                f"validity (smact14) {record.metrics['validity_smact14'].mean:.2%}{minutes}."
            )
    records = experiment.load(command.folder)
    if not records:
        raise CrystalGymError(
            f"Expected results in {experiment.results(command.folder)}, found none. Run the "
            "experiment without --report-only."
        )
    return records


def _write_report(
    command: Reproduce, experiment: "Experiment", table: "Table", plots: Sequence[Path] = ()
) -> None:
    """Print and save the table, and print the paths of all files."""
    print_table(table)
    saved = table.save(command.folder / f"{experiment.name}.md")
    for path in (experiment.results(command.folder), saved, *plots):
        console().print(str(path), soft_wrap=True)


# Experiments by name.
EXPERIMENTS: dict[str, Callable[[Reproduce], None]] = {
    "table-1": _table_1,
    "ablations": _ablations,
}
