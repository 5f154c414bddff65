"""``crystal-gym reproduce EXPERIMENT``: run the paper's experiments."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console, print_table
from crystal_gym.errors import CrystalGymError, TimeLimitError, UnknownNameError

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

    precision: Literal["32-true", "tf32", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point precision; the paper uses 32-true. tf32 rounds the inputs of matrix products
    on GPUs that support it."""

    fixed_shapes: Literal["auto", "on", "off"] = "auto"
    """Train with batches of fixed shapes, on a GPU with a CUDA graph and compiled code. auto does
    so on a GPU if all crystals have the same number of sites and the network supports it."""

    time_limit: float = math.inf
    """Seconds after which no run and no epoch starts. The run in progress saves its checkpoint."""

    report_only: bool = False
    """Start no run; write table and plots from the stored results."""

    def run(self) -> None:
        """Execute the missing runs, then write table and plots unless the time limit is reached."""
        deadline = time.monotonic() + self.time_limit
        if not self.time_limit > 0:
            raise CrystalGymError(f"Expected a time limit above 0 s, got {self.time_limit:g} s.")
        if self.experiment not in EXPERIMENTS:
            raise UnknownNameError("experiment", self.experiment, EXPERIMENTS)
        try:
            EXPERIMENTS[self.experiment](self, deadline)
        except TimeLimitError as stop:
            console().print(f"{stop} {self.after_stop}")


def _table_1(command: Reproduce, deadline: float) -> None:
    from crystal_agents.experiments.reproduction import table_1_report as report
    from crystal_agents.experiments.reproduction.table_1 import TABLE_1

    records = _records(command, TABLE_1, deadline)
    _write_report(
        command,
        TABLE_1,
        report.build_table(records),
        report.save_plots(records, command.folder),
    )


def _ablations(command: Reproduce, deadline: float) -> None:
    from crystal_agents.experiments.reproduction.ablations import ABLATIONS, build_table

    _write_report(command, ABLATIONS, build_table(_records(command, ABLATIONS, deadline)))


def _records(
    command: Reproduce, experiment: "Experiment", deadline: float
) -> "list[ReproductionRecord]":
    """Execute the missing runs unless only the report is requested; return all records."""
    from crystal_agents.experiments.reproduction.runner import RunContext

    if not command.report_only:
        context = RunContext(
            command.folder,
            command.collection,
            command.accelerator,
            command.precision,
            fixed_shapes=command.fixed_shapes,
            deadline=deadline,
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
EXPERIMENTS: dict[str, Callable[[Reproduce, float], None]] = {
    "table-1": _table_1,
    "ablations": _ablations,
}
