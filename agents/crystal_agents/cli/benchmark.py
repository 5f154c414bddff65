"""``crystal-gym benchmark CONFIG``: compare behavioral cloning with reinforcement learning."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from crystal_agents.cli.command import Command, console, print_table


@dataclass
class Benchmark(Command):
    """Compare behavioral cloning with online and offline reinforcement learning.

    Finished runs are stored in one JSON file and not repeated; tables and learning curves are
    written from it.
    """

    after_stop: ClassVar[str] = (
        "Finished runs are kept. Rerun the same command to execute the others, or add "
        "--report-only to write the table of the finished runs."
    )

    config: tyro.conf.Positional[str] = "perov-5"
    """perov-5 (hours), smoke (a minute or two), or a TOML file of the same form."""

    rewards: tuple[str, ...] = ()
    """Rewards of the config to run (default: all)."""

    methods: tuple[str, ...] = ()
    """Methods of the config to run (default: all)."""

    seeds: tuple[int, ...] = ()
    """Seeds of the config to run (default: all)."""

    folder: Path | None = None
    """Folder of results, table, curves and datasets (default: benchmark-CONFIG)."""

    report_only: bool = False
    """Start no run; write table and curves of the selected runs from the stored results."""

    def run(self) -> None:
        """Execute the missing runs, then write table and curves."""
        folder = self.folder or Path(f"benchmark-{Path(self.config).stem}")
        # The benchmark keeps the datasets of its offline learners in its own folder.
        os.environ["MINARI_DATASETS_PATH"] = str((folder / "minari").resolve())
        from crystal_agents.experiments.benchmark.config import load_benchmark_config
        from crystal_agents.experiments.benchmark.report import build_tables, save_curves
        from crystal_agents.experiments.benchmark.results import RESULTS_FILE, load_results, select
        from crystal_agents.experiments.benchmark.runner import run_benchmark
        from crystal_gym.errors import CrystalGymError
        from crystal_gym.utils.files import atomic_write

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
        if not records:
            raise CrystalGymError(
                f"Expected results in {folder}, found none. Run the benchmark without "
                "--report-only."
            )
        tables = build_tables(records)
        for table in tables:
            print_table(table)
        text = "\n".join(table.markdown() for table in tables)
        with atomic_write(folder / "benchmark.md") as temporary:
            temporary.write_text(text, "utf-8")
        console().print(str(save_curves(records, folder / "curves.png")), soft_wrap=True)
