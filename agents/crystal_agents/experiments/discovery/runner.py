"""Searches of the discovery task: every method on every task with every seed."""

import importlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch

from crystal_agents.experiments.discovery.methods import METHODS, get_method
from crystal_agents.experiments.discovery.results import (
    DiscoveryRecord,
    require_same_searches,
    results_file,
)
from crystal_agents.experiments.discovery.search_space import SearchSpace
from crystal_agents.experiments.discovery.task import (
    TASKS,
    DiscoveryTask,
    check_budget,
)
from crystal_agents.experiments.provenance import provenance
from crystal_agents.experiments.results_file import require_same_crystals
from crystal_agents.experiments.runner import Run, run_missing
from crystal_gym.collections import canonical_origin, load_collection
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError


@dataclass(frozen=True)
class DiscoveryConfig:
    """The searches of a discovery benchmark.

    Attributes:
        tasks: Names of ``TASKS``.
        methods: Names of ``METHODS``.
        seeds: Seeds; every method runs once for each.
        budget: Number of distinct crystals that may be evaluated, ``None`` for all.
        collection: Name or path of the collection.

    Raises:
        UnknownNameError: If a task or a method is unknown.
        CrystalGymError: If a seed or the budget is invalid.
    """

    tasks: tuple[str, ...] = TASKS
    methods: tuple[str, ...] = tuple(METHODS)
    seeds: tuple[int, ...] = tuple(range(20))
    budget: int | None = None
    collection: str = "perov-5"

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in TASKS:
                raise UnknownNameError("discovery task", task, TASKS)
        for method in self.methods:
            get_method(method)
        for seed in self.seeds:
            if type(seed) is not int or not 0 <= seed < 2**32:
                raise CrystalGymError(f"Expected seeds to be integers from 0, got {seed!r}.")
        if self.budget is not None and self.budget < 1:
            raise CrystalGymError(
                f"Expected a budget of at least 1 evaluation, got {self.budget}. "
                "Choose another budget."
            )

    def select(self, records: Sequence[DiscoveryRecord]) -> list[DiscoveryRecord]:
        """Return the records of these tasks, methods and seeds."""
        return [
            record
            for record in records
            if record.task in self.tasks
            and record.method in self.methods
            and record.seed in self.seeds
        ]


def run_discovery(config: DiscoveryConfig, folder: Path) -> Iterator[DiscoveryRecord]:
    """Execute the searches that have no record yet, and append each record to the results.

    The first seed of all methods runs first, so that an interrupted benchmark has results of every
    method.

    Args:
        config: The searches.
        folder: Folder of the results.

    Yields:
        The record of each new search.

    Raises:
        CrystalGymError: If the budget exceeds the number of crystals, the labels are missing, or
            the folder contains searches with another budget or other labels.
        CollectionMismatchError: If the folder contains searches on other crystals.
        DamagedFileError: If the results are damaged.
        ModuleNotFoundError: If a method needs a package that is not installed.
        StorageError: If the folder cannot be written.
    """
    for name in config.methods:
        if METHODS[name].needs:
            importlib.import_module(METHODS[name].needs)
    collection = load_collection(config.collection)
    budget = len(collection) if config.budget is None else config.budget
    check_budget(budget, len(collection))
    table = EpisodeTable(collection)
    tasks = {name: DiscoveryTask.of(table, name) for name in config.tasks}
    origin, fingerprint = canonical_origin(config.collection), collection.fingerprint()
    results = results_file(folder)

    @cache
    def space_of(mask: str) -> SearchSpace:
        return SearchSpace.of(table, mask)

    def execute(task: DiscoveryTask, name: str, seed: int) -> DiscoveryRecord:
        method = METHODS[name]
        search = task.search(space_of(method.mask), seed, budget)
        oracle = search.oracle
        start = time.perf_counter()
        method.run(search)
        return DiscoveryRecord(
            task=task.name,
            method=name,
            seed=seed,
            budget=budget,
            n_crystals=len(collection),
            n_targets=int(task.is_target.sum()),
            found_at=tuple(oracle.found_at),
            evaluations=oracle.n_evaluations,
            settings=method.settings_used(),
            counts=dict(search.counts),
            labels_sha256=task.labels_sha256,
            collection=origin,
            collection_sha256=fingerprint,
            seconds=round(time.perf_counter() - start, 1),
            **provenance(torch.device("cpu")),
        )

    def check(records: Sequence[DiscoveryRecord]) -> None:
        require_same_crystals(results.path, records, origin, fingerprint)
        labels = {name: task.labels_sha256 for name, task in tasks.items()}
        require_same_searches(results.path, records, budget, labels)

    runs = [
        Run((task.name, name, seed), partial(execute, task, name, seed))
        for seed in config.seeds
        for task in tasks.values()
        for name in config.methods
    ]
    yield from run_missing(runs, results, check)
