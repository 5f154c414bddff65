"""``crystal-gym benchmark CONFIG``: compare methods of learning, or of discovery."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import tyro

from crystal_agents.cli.command import Command, console, print_table
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_agents.experiments.results_file import RunRecord
    from crystal_agents.experiments.tables import Table

# The config that compares methods of search instead of learners.
DISCOVERY = "discovery"


@dataclass
class Benchmark(Command):
    """Compare behavioral cloning with online and offline reinforcement learning.

    Finished runs are stored in one JSON file and not repeated; tables and learning curves are
    written from it. The config discovery compares methods that search Perov-5 for target crystals
    with few evaluations.
    """

    after_stop: ClassVar[str] = (
        "Finished runs are kept. Rerun the same command to execute the others, or add "
        "--report-only to write the table of the finished runs."
    )

    config: tyro.conf.Positional[str] = "perov-5"
    """perov-5 (hours), smoke (a minute or two), or a TOML file of the same form; or discovery."""

    rewards: tuple[str, ...] = ()
    """Rewards of the config to run (default: all)."""

    methods: tuple[str, ...] = ()
    """Methods of the config to run (default: all)."""

    seeds: tuple[int, ...] = ()
    """Seeds of the config to run (default: all)."""

    budget: int | None = None
    """Evaluations per search, for the config discovery only (default: all crystals)."""

    folder: Path | None = None
    """Folder of results, table, curves and datasets (default: benchmark-CONFIG)."""

    report_only: bool = False
    """Start no run; write table and curves of the selected runs from the stored results."""

    submit_as: tuple[str, ...] = ()
    """Names of authors: also write a submission to the leaderboard for each method and reward, in
    the folder submissions beside the results."""

    def run(self) -> None:
        """Execute the missing runs, then write table and curves."""
        folder = self.folder or Path(f"benchmark-{Path(self.config).stem}")
        if self.config == DISCOVERY:
            self._run_discovery(folder)
            return
        if self.budget is not None:
            raise CrystalGymError(
                f"Expected --budget with the config {DISCOVERY}, got the config {self.config!r}. "
                "Leave it out."
            )
        # The benchmark keeps the datasets of its offline learners in its own folder.
        os.environ["MINARI_DATASETS_PATH"] = str((folder / "minari").resolve())
        from crystal_agents.experiments.benchmark.config import load_benchmark_config
        from crystal_agents.experiments.benchmark.report import build_tables, save_curves
        from crystal_agents.experiments.benchmark.results import RESULTS_FILE, load_results, select
        from crystal_agents.experiments.benchmark.runner import run_benchmark

        config = load_benchmark_config(self.config).only(
            rewards=self.rewards, methods=self.methods, seeds=self.seeds
        )
        if not self.report_only:
            for record in run_benchmark(config, folder):
                console().print(
                    f"{record.reward}, {record.method}, seed {record.seed}: return "
                    f"{record.metrics['return']:.3f} ({record.seconds:.0f} s)"
                )
        records = load_results(folder)
        if self.report_only:
            records = select(records, config, folder / RESULTS_FILE)
        _require_results(records, folder)
        _write_tables(build_tables(records), folder / "benchmark.md")
        console().print(str(save_curves(records, folder / "curves.png")), soft_wrap=True)
        self._write_submissions(records, folder)

    def _run_discovery(self, folder: Path) -> None:
        """Execute the missing searches, then write the tables."""
        from crystal_agents.experiments.discovery.report import build_tables
        from crystal_agents.experiments.discovery.results import results_file
        from crystal_agents.experiments.discovery.runner import DiscoveryConfig, run_discovery

        selected = {"tasks": self.rewards, "methods": self.methods, "seeds": self.seeds}
        config = DiscoveryConfig(
            budget=self.budget, **{name: values for name, values in selected.items() if values}
        )
        if not self.report_only:
            for record in run_discovery(config, folder):
                last = record.found_at[-1] if record.found_at else record.evaluations
                console().print(
                    f"{record.task}, {record.method}, seed {record.seed}: "
                    f"{len(record.found_at)} of {record.n_targets} targets in {last} evaluations "
                    f"({record.seconds:.0f} s)"
                )
        records = config.select(results_file(folder).load())
        _require_results(records, folder)
        _write_tables(build_tables(records), folder / "discovery.md")
        self._write_submissions(records, folder)

    def _write_submissions(self, records: "Sequence[RunRecord]", folder: Path) -> None:
        if self.submit_as:
            from crystal_agents.cli.leaderboard import save_export
            from crystal_agents.experiments.leaderboard.export import export_records

            save_export(export_records(records, self.submit_as), folder / "submissions")


def _require_results(records: Sequence[object], folder: Path) -> None:
    if not records:
        raise CrystalGymError(
            f"Expected results in {folder}, found none. Run the benchmark without --report-only."
        )


def _write_tables(tables: "Sequence[Table]", path: Path) -> None:
    """Print the tables, and save them in one file."""
    from crystal_gym.utils.files import atomic_write

    for table in tables:
        print_table(table)
    text = "\n".join(table.markdown() for table in tables)
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")
