"""``crystal-gym benchmark PLAN``: behavioral cloning against reinforcement learning."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from crystal_agents.cli.command import Command, console, print_table


@dataclass
class Benchmark(Command):
    """Compare a cloned policy with learners online and offline, on several rewards.

    Finished runs are kept in one JSON file, from which tables and curves are drawn, and are not
    repeated.
    """

    after_stop: ClassVar[str] = (
        "Finished runs are kept; the same command goes on with the others. With --report-only it "
        "draws what there is."
    )

    config: tyro.conf.Positional[str] = "perov-5"
    """perov-5 (hours), smoke (a minute or two), or a TOML file like theirs."""

    rewards: tuple[str, ...] = ()
    """Some of the plan's rewards (default: all)."""

    methods: tuple[str, ...] = ()
    """Some of the plan's contestants (default: all)."""

    seeds: tuple[int, ...] = ()
    """Some of the plan's seeds (default: all)."""

    folder: Path | None = None
    """Where results, table, curves and data sets are written (default: benchmark-PLAN)."""

    report_only: bool = False
    """Run nothing; draw table and curves of what is chosen from the results that are there."""

    def run(self) -> None:
        """Make the runs that are missing, then draw."""
        folder = self.folder or Path(f"benchmark-{Path(self.config).stem}")
        # The offline learners' data are the benchmark's own.
        os.environ["MINARI_DATASETS_PATH"] = str((folder / "minari").resolve())
        from crystal_agents.experiments.benchmark.config import load_benchmark_config
        from crystal_agents.experiments.benchmark.report import build_table, save_curves
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
            raise CrystalGymError(f"There are no results in {folder} to draw from.")
        tables = build_table(records)
        for table in tables:
            print_table(table)
        text = "\n".join(table.markdown() for table in tables)
        with atomic_write(folder / "benchmark.md") as beside:
            beside.write_text(text)
        console().print(str(save_curves(records, folder / "curves.png")), soft_wrap=True)
