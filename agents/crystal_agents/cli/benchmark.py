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
        "Finished runs are kept; the same command goes on with the others. With --draw-only it "
        "draws what there is."
    )

    plan: tyro.conf.Positional[str] = "perov-5"
    """perov-5 (hours), smoke (a minute or two), or a TOML file like theirs."""

    rewards: tuple[str, ...] = ()
    """Some of the plan's rewards (default: all)."""

    contestants: tuple[str, ...] = ()
    """Some of the plan's contestants (default: all)."""

    seeds: tuple[int, ...] = ()
    """Some of the plan's seeds (default: all)."""

    folder: Path | None = None
    """Where results, table, curves and data sets are written (default: benchmark-PLAN)."""

    draw_only: bool = False
    """Run nothing; draw table and curves of what is chosen from the results that are there."""

    def run(self) -> None:
        """Make the runs that are missing, then draw."""
        folder = self.folder or Path(f"benchmark-{Path(self.plan).stem}")
        # The offline learners' data are the benchmark's own.
        os.environ["MINARI_DATASETS_PATH"] = str((folder / "minari").resolve())
        from crystal_agents.benchmark.drawing import save_curves, table_of
        from crystal_agents.benchmark.plan import load_plan
        from crystal_agents.benchmark.results import (
            RESULTS_FILE,
            load_results,
            run_plan,
            select,
        )
        from crystal_gym.errors import CrystalGymError
        from crystal_gym.files import written_beside

        plan = load_plan(self.plan).only(
            rewards=self.rewards, contestants=self.contestants, seeds=self.seeds
        )
        if not self.draw_only:
            for record in run_plan(plan, folder):
                console().print(
                    f"{record.reward}, {record.contestant}, seed {record.seed}: return "
                    f"{record.figures['return']:.3f} ({record.seconds:.0f} s)"
                )
        records = load_results(folder)
        if self.draw_only:
            records = select(records, plan, folder / RESULTS_FILE)
        if not records:
            raise CrystalGymError(f"There are no results in {folder} to draw from.")
        tables = table_of(records)
        for table in tables:
            print_table(table)
        text = "\n".join(table.markdown() for table in tables)
        with written_beside(folder / "benchmark.md") as beside:
            beside.write_text(text)
        console().print(str(save_curves(records, folder / "curves.png")), soft_wrap=True)
