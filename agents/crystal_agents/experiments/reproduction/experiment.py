"""Experiments of the reproduction: variants, their runs, and the runs grouped by settings."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.reproduction.results import ReproductionRecord, results_file
from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.results_file import require_same_crystals
from crystal_agents.experiments.runner import Run, run_missing
from crystal_agents.training.recipes import Recipe, get_recipe
from crystal_gym.errors import DamagedFileError, UnknownNameError

PAPER_EPOCHS = 1000
PAPER_PRECISION = "32-true"


@dataclass(frozen=True)
class Variant:
    """One configuration of an experiment, trained with several seeds.

    A variant is a column of the paper's table and a row of our table.

    Attributes:
        title: Label of the row.
        recipe: Name of ``crystal_agents.training.recipes.RECIPES``; ``None`` for the uniform
            baseline, which is not trained.
        trajectories: Expert trajectories for each crystal.
        settings: Settings of the network that replace those of the recipe.
        altered: Name of ``ALTERATIONS`` by which the crystals are altered, if any.
        optional: Whether the variant is run only if it is named.
        runs: Prefix of the run folders (default: the variant's name). Variants of two
            experiments share their runs if they have the same prefix.
    """

    title: str
    recipe: str | None
    trajectories: int
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    altered: str | None = field(default=None, kw_only=True)
    optional: bool = field(default=False, kw_only=True)
    runs: str | None = field(default=None, kw_only=True)

    def training_recipe(self, epochs: int | None) -> Recipe | None:
        """Return the recipe with the variant's settings, or ``None`` without training.

        Args:
            epochs: Passes over the transitions (default: the recipe's).
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
class RunGroup:
    """The runs of one variant that differ only in their seed.

    Attributes:
        variant: Name of the variant.
        records: Records of the runs, at least one.
    """

    variant: str
    records: list[ReproductionRecord]

    @property
    def epochs(self) -> int:
        """Epochs of every run; 0 without training."""
        return self.records[0].epochs

    @property
    def precision(self) -> str | None:
        """Floating-point precision of every run; ``None`` without training."""
        return self.records[0].precision

    def mean(self, metric: str) -> MeanWithCI | None:
        """Return the mean of a metric over the runs, or ``None`` if no run has the metric."""
        return mean_over_runs([r.metrics[metric] for r in self.records if metric in r.metrics])


def mean_over_runs(estimates: Sequence[MeanWithCI]) -> MeanWithCI | None:
    """Return the mean of several runs with its interval over the runs.

    A single estimate is returned with its own interval; without any estimate it is ``None``.
    """
    if len(estimates) < 2:
        return estimates[0] if estimates else None
    return MeanWithCI.of(np.array([estimate.mean for estimate in estimates]))


@dataclass(frozen=True)
class Experiment:
    """Variants, each trained with several seeds, and one results file.

    Attributes:
        name: Name of the results file and the table.
        variants: Variants by name, in the order of the table.
    """

    name: str
    variants: Mapping[str, Variant]

    @property
    def default(self) -> list[str]:
        """Names of the variants that are run by default."""
        return [name for name, variant in self.variants.items() if not variant.optional]

    def results(self, folder: Path) -> Path:
        """Return the path of the results file."""
        return folder / f"{self.name}.json"

    def reproduce(
        self,
        context: RunContext,
        variants: Sequence[str] = (),
        seeds: Sequence[int] = (0, 1, 2, 3, 4),
        epochs: int | None = None,
    ) -> Iterator[ReproductionRecord]:
        """Execute the runs that have no record yet, and append each record to the results.

        The first seed of all variants runs first, so that an interrupted experiment has results
        of every variant.

        Args:
            context: The collection, the device and the folder of the runs.
            variants: Names of the variants (default: all that are not optional).
            seeds: Seeds; every variant runs once for each.
            epochs: Passes over the transitions (default: the paper's 1000).

        Yields:
            The record of each new run.

        Raises:
            UnknownNameError: If a variant is unknown.
            MissingDataError: If the expert datasets are not built.
            DamagedFileError: If the results or the files of a run are damaged.
            CrystalGymError: If the folder contains results on other crystals.
            TimeLimitError: If the context's deadline ends the experiment before the last run.
        """
        for name in variants:
            if name not in self.variants:
                raise UnknownNameError("variant", name, self.variants)
        results = results_file(self.results(context.folder))

        def check(records: Sequence[ReproductionRecord]) -> None:
            self._require_known_variants(records, results.path)
            require_same_crystals(results.path, records, context.origin, context.sha256)

        contexts = altered_contexts(context, self.variants.values())
        runs = [
            self._run(contexts[self.variants[name].altered], name, seed, epochs)
            for seed in seeds
            for name in variants or self.default
        ]
        yield from run_missing(runs, results, check)

    def _run(
        self, context: RunContext, name: str, seed: int, epochs: int | None
    ) -> Run[ReproductionRecord]:
        variant = self.variants[name]
        recipe = variant.training_recipe(epochs)
        if recipe is None:
            return Run((name, seed, 0, None), partial(context.evaluate_uniform, name, seed))
        folder = f"{variant.runs or name}-seed-{seed}{suffix(recipe.epochs, context.precision)}"
        learn = partial(
            context.learn,
            name,
            context.folder / folder,
            recipe,
            trajectories=variant.trajectories,
            seed=seed,
        )
        return Run((name, seed, recipe.epochs, context.precision), learn)

    def load(self, folder: Path) -> list[ReproductionRecord]:
        """Return the records of the results file, or an empty list if there is no file.

        Raises:
            DamagedFileError: If the file is damaged or belongs to another experiment.
        """
        results = results_file(self.results(folder))
        records = results.load()
        self._require_known_variants(records, results.path)
        return records

    def _require_known_variants(self, records: Sequence[ReproductionRecord], path: Path) -> None:
        for number, record in enumerate(records, 1):
            if record.variant not in self.variants:
                raise DamagedFileError(
                    f"Expected a variant of {self.name} ({', '.join(self.variants)}) in entry "
                    f"{number} of {path}, got {record.variant!r}. Move the file to the folder of "
                    "its experiment."
                )

    def groups(self, records: Sequence[ReproductionRecord]) -> list[RunGroup]:
        """Group runs that differ only in their seed.

        Returns:
            The groups, sorted by epochs (descending), precision and variant.
        """
        groups: dict[tuple[int, str, str], list[ReproductionRecord]] = {}
        for record in records:
            key = (record.epochs, record.precision or "", record.variant)
            groups.setdefault(key, []).append(record)
        order = list(self.variants)
        return [
            RunGroup(key[-1], groups[key])
            for key in sorted(groups, key=lambda key: (-key[0], key[1], order.index(key[2])))
        ]

    def title(self, group: RunGroup) -> str:
        """Return the variant's title, with the precision if it is not the paper's."""
        title = self.variants[group.variant].title
        if group.precision in {None, PAPER_PRECISION}:
            return title
        return f"{title}, {group.precision}"


def altered_contexts(
    context: RunContext, variants: Iterable[Variant]
) -> dict[str | None, RunContext]:
    """Return the context for each alteration of the crystals of some variants.

    Args:
        context: The context of the crystals as they are, which loads them at most once.
        variants: The variants.
    """
    names = {variant.altered for variant in variants}
    return {name: dataclasses.replace(context, altered=name) if name else context for name in names}


def suffix(epochs: int, precision: str) -> str:
    """Return the suffix of file names for settings that are not the paper's."""
    return ("" if epochs == PAPER_EPOCHS else f"-epochs-{epochs}") + (
        "" if precision == PAPER_PRECISION else f"-{precision}"
    )
