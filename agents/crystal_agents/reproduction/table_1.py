"""The paper's Table 1 and Figure 2: five columns, each learned with several seeds."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crystal_agents.evaluation import Estimate
from crystal_agents.recipes import Recipe, recipe_named
from crystal_agents.reproduction.results import (
    Record,
    append_record,
    load_records,
    require_same_crystals,
)
from crystal_agents.reproduction.runs import Bench
from crystal_gym.errors import DamagedFileError, UnknownNameError

RESULTS_FILE = "table-1.json"
PAPER_EPOCHS = 1000


@dataclass(frozen=True)
class Column:
    """A column of the paper's table.

    Attributes:
        title: for the reader.
        recipe: a name of ``crystal_agents.recipes.RECIPES``; ``None``: elements drawn uniformly.
        trajectories: of each crystal to learn from.
        accuracy: the paper's value, in percent.
        validity: likewise.
    """

    title: str
    recipe: str | None
    trajectories: int
    accuracy: float
    validity: float


COLUMNS: dict[str, Column] = {
    "egnn-1": Column("EGNN, 1 trajectory", "egnn-paper", 1, 44.12, 96.08),
    "egnn-3": Column("EGNN, 3 trajectories", "egnn-paper", 3, 47.65, 96.48),
    "egnn-5": Column("EGNN, 5 trajectories", "egnn-paper", 5, 49.53, 96.75),
    "gcn-5": Column("GCN, 5 trajectories", "gcn", 5, 37.06, 95.03),
    # Printed as 17.8: one of 56 elements is 1.79 %.
    "random": Column("random", None, 0, 1.78, 82.20),
}


def reproduce(
    bench: Bench,
    columns: Sequence[str] = tuple(COLUMNS),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    epochs: int | None = None,
) -> Iterator[Record]:
    """Make the runs that are not made yet and append each to the results.

    The first seed of every column comes first, so that a stopped experiment has some of each.

    Args:
        bench: the crystals, the machine, the folder.
        columns: names of ``COLUMNS``.
        seeds: of the runs.
        epochs: passes over the transitions (default: the paper's 1000).

    Yields:
        The record of each new run.

    Raises:
        UnknownNameError: an unknown column.
        MissingDataError: the data sets are not built.
        DamagedFileError: the results or a run are damaged.
        CrystalGymError: the folder holds results on other crystals.
    """
    for name in columns:
        if name not in COLUMNS:
            raise UnknownNameError("column", name, COLUMNS)
    path = bench.folder / RESULTS_FILE
    require_same_crystals(path, load_table(path), bench.sha256)
    for seed in seeds:
        for name in columns:
            column, recipe = COLUMNS[name], _recipe(COLUMNS[name], epochs)
            settings = (0, None) if recipe is None else (recipe.epochs, bench.precision)
            # Read anew: other columns may be run at the same time.
            done = {(r.column, r.seed, r.epochs, r.precision) for r in load_table(path)}
            if (name, seed, *settings) in done:
                continue
            if recipe is None:
                record = bench.draw_uniformly(name, seed)
            else:
                run = bench.folder / f"{name}-seed-{seed}{suffix(recipe.epochs, bench.precision)}"
                record = bench.learn(name, run, recipe, trajectories=column.trajectories, seed=seed)
            append_record(path, record)
            yield record


def _recipe(column: Column, epochs: int | None) -> Recipe | None:
    if column.recipe is None:
        return None
    recipe = recipe_named(column.recipe)
    return recipe if epochs is None else dataclasses.replace(recipe, epochs=epochs)


def suffix(epochs: int, precision: str) -> str:
    """What tells the runs and figures of other settings from those of the paper's."""
    return ("" if epochs == PAPER_EPOCHS else f"-epochs-{epochs}") + (
        "" if precision == "32-true" else f"-{precision}"
    )


def load_table(path: Path) -> list[Record]:
    """The records of the results file, none where there is none.

    Raises:
        DamagedFileError: the file is damaged, or not of this experiment.
    """
    records = load_records(path)
    for record in records:
        if record.column not in COLUMNS:
            raise DamagedFileError(
                f"{path} holds a column {record.column!r} that Table 1 does not have. Known: "
                f"{', '.join(COLUMNS)}."
            )
    return records


@dataclass(frozen=True)
class Line:
    """The runs of one column with the same settings.

    Attributes:
        column: a name of ``COLUMNS``.
        records: the runs.
    """

    column: str
    records: list[Record]

    @property
    def epochs(self) -> int:
        """Of every run; 0 where nothing is learned."""
        return self.records[0].epochs

    @property
    def precision(self) -> str | None:
        """Of every run; ``None`` where nothing is learned."""
        return self.records[0].precision

    def figure(self, name: str) -> Estimate | None:
        """Mean over the runs; the interval is over runs, or over the crystals of a single one."""
        estimates = [record.figures[name] for record in self.records if name in record.figures]
        if len(estimates) < 2:
            return estimates[0] if estimates else None
        return Estimate.of(np.array([estimate.mean for estimate in estimates]))


def lines_of(records: Sequence[Record]) -> list[Line]:
    """Runs that differ in their seed alone, together: longest training first, then by column."""
    groups: dict[tuple[int, str, str], list[Record]] = {}
    for record in records:
        key = (record.epochs, record.precision or "", record.column)
        groups.setdefault(key, []).append(record)
    order = list(COLUMNS)
    return [
        Line(key[-1], groups[key])
        for key in sorted(groups, key=lambda key: (-key[0], key[1], order.index(key[2])))
    ]
