"""What the experiments have in common: runs that are never repeated, and the lines of a table."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.reproduction.results import Record, append_record, load_records
from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.results_file import require_same_crystals
from crystal_agents.training.recipes import Recipe, get_recipe
from crystal_gym.errors import DamagedFileError, UnknownNameError

PAPER_EPOCHS = 1000


@dataclass(frozen=True)
class Variant:
    """What is learned, by several seeds: a column of the paper's table, a line of ours.

    Attributes:
        title: for the reader.
        recipe: a name of ``crystal_agents.training.recipes.RECIPES``; ``None``: elements drawn uniformly.
        trajectories: of each crystal to learn from.
        settings: of the network, in place of the recipe's.
        shuffled: the sites of every crystal are numbered at random.
        runs: what the folders of its runs begin with (default: its name); columns of two
            experiments whose runs are the same share them.
    """

    title: str
    recipe: str | None
    trajectories: int
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    shuffled: bool = field(default=False, kw_only=True)
    runs: str | None = field(default=None, kw_only=True)

    def trained(self, epochs: int | None) -> Recipe | None:
        """How it is trained; ``None`` where nothing is learned.

        Args:
            epochs: passes over the transitions (default: the recipe's).
        """
        if self.recipe is None:
            return None
        recipe = get_recipe(self.recipe)
        return dataclasses.replace(
            recipe,
            settings=recipe.settings | dict(self.settings),
            epochs=recipe.epochs if epochs is None else epochs,
        )


@dataclass(frozen=True)
class Line:
    """The runs of one column with the same settings.

    Attributes:
        column: its name.
        records: the runs.
    """

    variant: str
    records: list[Record]

    @property
    def epochs(self) -> int:
        """Of every run; 0 where nothing is learned."""
        return self.records[0].epochs

    @property
    def precision(self) -> str | None:
        """Of every run; ``None`` where nothing is learned."""
        return self.records[0].precision

    def figure(self, name: str) -> MeanWithCI | None:
        """Mean over the runs; the interval is over runs, or over the crystals of a single one."""
        return over_runs([r.metrics[name] for r in self.records if name in r.metrics])


def over_runs(estimates: Sequence[MeanWithCI]) -> MeanWithCI | None:
    """Mean of several runs with the interval over them; of a single one its own."""
    if len(estimates) < 2:
        return estimates[0] if estimates else None
    return MeanWithCI.of(np.array([estimate.mean for estimate in estimates]))


@dataclass(frozen=True)
class Experiment:
    """Columns, each learned by several seeds, and one file of results.

    Attributes:
        name: of its files.
        columns: by name, in the order of the table.
    """

    name: str
    variants: Mapping[str, Variant]

    def results(self, folder: Path) -> Path:
        """The file of results."""
        return folder / f"{self.name}.json"

    def reproduce(
        self,
        context: RunContext,
        variants: Sequence[str] = (),
        seeds: Sequence[int] = (0, 1, 2, 3, 4),
        epochs: int | None = None,
    ) -> Iterator[Record]:
        """Make the runs that are not made yet and append each to the results.

        The first seed of every column comes first, so that a stopped experiment has some of each.

        Args:
            bench: the crystals, the machine, the folder.
            columns: names of those to be run (default: all).
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
        for name in variants:
            if name not in self.variants:
                raise UnknownNameError("variant", name, self.variants)
        path = self.results(context.folder)
        require_same_crystals(path, self.load(context.folder), context.sha256)
        shuffled = dataclasses.replace(context, shuffled=True)
        for seed in seeds:
            for name in variants or self.variants:
                variant = self.variants[name]
                recipe = variant.trained(epochs)
                settings = (0, None) if recipe is None else (recipe.epochs, context.precision)
                # Read anew: other columns may be run at the same time.
                records = self.load(context.folder)
                if (name, seed, *settings) in {
                    (r.variant, r.seed, r.epochs, r.precision) for r in records
                }:
                    continue
                place = shuffled if variant.shuffled else context
                if recipe is None:
                    record = place.draw_uniformly(name, seed)
                else:
                    folder = f"{variant.runs or name}-seed-{seed}"
                    run = context.folder / (folder + suffix(recipe.epochs, context.precision))
                    record = place.learn(
                        name, run, recipe, trajectories=variant.trajectories, seed=seed
                    )
                append_record(path, record)
                yield record

    def load(self, folder: Path) -> list[Record]:
        """The records of the results file, none where there is none.

        Raises:
            DamagedFileError: the file is damaged, or not of this experiment.
        """
        path = self.results(folder)
        records = load_records(path)
        for record in records:
            if record.variant not in self.variants:
                raise DamagedFileError(
                    f"{path} holds a column {record.variant!r} that {self.name} does not have. "
                    f"Known: {', '.join(self.variants)}."
                )
        return records

    def lines(self, records: Sequence[Record]) -> list[Line]:
        """Runs that differ in their seed alone, together: longest training first, by column."""
        groups: dict[tuple[int, str, str], list[Record]] = {}
        for record in records:
            key = (record.epochs, record.precision or "", record.variant)
            groups.setdefault(key, []).append(record)
        order = list(self.variants)
        return [
            Line(key[-1], groups[key])
            for key in sorted(groups, key=lambda key: (-key[0], key[1], order.index(key[2])))
        ]

    def title(self, line: Line) -> str:
        """Of a line: its column's, and the precision where it is not the paper's."""
        precision = line.precision or "32-true"
        title = self.variants[line.variant].title
        return title + ("" if precision == "32-true" else f", {precision}")


def suffix(epochs: int, precision: str) -> str:
    """What tells the runs and figures of other settings from those of the paper's."""
    return ("" if epochs == PAPER_EPOCHS else f"-epochs-{epochs}") + (
        "" if precision == "32-true" else f"-{precision}"
    )
