"""Runs of a benchmark: every method on every reward with every seed."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from crystal_agents.experiments.benchmark.config import BenchmarkConfig
from crystal_agents.experiments.benchmark.methods import METHODS, check_methods, require_packages
from crystal_agents.experiments.benchmark.results import (
    BenchmarkRecord,
    require_same_config,
    results_file,
    run_key,
)
from crystal_agents.experiments.benchmark.task import BenchmarkTask
from crystal_agents.experiments.provenance import provenance
from crystal_agents.experiments.results_file import require_same_crystals
from crystal_agents.experiments.runner import Run, run_missing
from crystal_agents.training.training_stages import compare_crystals
from crystal_gym.collections import canonical_origin, load_collection
from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.errors import CollectionMismatchWarning, CrystalGymError


def run_benchmark(config: BenchmarkConfig, folder: Path) -> Iterator[BenchmarkRecord]:
    """Execute the runs that have no record yet, and append each record to the results.

    The first seed of all methods and rewards runs first, so that an interrupted benchmark has
    results of every method.

    Args:
        config: The benchmark config.
        folder: Folder of the results and of the checkpoints of offline learners.

    Yields:
        The record of each new run.

    Raises:
        UnknownNameError: If a method is unknown.
        CollectionMismatchError: If the folder contains results on other crystals or a dataset of
            other crystals, or if the crystals have changed since the training of the cloned policy.
        CrystalGymError: If the folder contains results of another config or with other labels, or
            if a split has no crystals.
        DamagedFileError: If the results are damaged.
        ModuleNotFoundError: If a method needs a package that is not installed.
        StorageError: If the folder cannot be written.

    Warns:
        CollectionMismatchWarning: If the cloned policy was trained on another collection.
    """
    # Missing requirements are reported before the first run: all runs together take hours.
    check_methods(config)
    tasks = {name: BenchmarkTask(config, name, folder) for name in config.rewards}
    collection = next(iter(tasks.values())).collection
    _require_all_splits(collection)
    _compare_training(next(iter(tasks.values())))
    require_packages(config)
    origin, fingerprint = canonical_origin(config.collection), collection.fingerprint()
    labels = {
        name: collection.labels_fingerprint(task.reward.labels) for name, task in tasks.items()
    }
    results = results_file(folder)

    def check(records: Sequence[BenchmarkRecord]) -> None:
        require_same_config(results.path, records, config)
        require_same_crystals(results.path, records, origin, fingerprint)
        _require_same_labels(results.path, records, labels)

    runs = [
        Run(
            run_key(method, reward, seed),
            partial(_execute, task, method, seed, fingerprint, labels[reward]),
        )
        for seed in config.seeds
        for reward, task in tasks.items()
        for method in config.methods
    ]
    yield from run_missing(runs, results, check)


def _execute(
    task: BenchmarkTask, name: str, seed: int, fingerprint: str, labels_sha256: str | None
) -> BenchmarkRecord:
    start = time.perf_counter()
    method = METHODS[name]
    result = method.run(task, seed)
    metrics = task.measure(result.score, "test", method.mask)
    return BenchmarkRecord(
        method=name,
        reward=task.reward_name,
        seed=seed,
        config=task.config.settings,
        metrics=metrics,
        curve=result.curve,
        oracle_calls=result.oracle_calls,
        labels_sha256=labels_sha256,
        collection=canonical_origin(task.config.collection),
        collection_sha256=fingerprint,
        seconds=round(time.perf_counter() - start, 1),
        **provenance(torch.device("cpu")),
    )


def _compare_training(task: BenchmarkTask) -> None:
    """Warn if the cloned policy was trained on other crystals; raise an error if they changed."""
    config = task.config
    note = compare_crystals(
        task.policy.config,
        config.policy,
        task.collection,
        origin=canonical_origin(config.collection),
        split_by="origin",
        load=lambda split_by: load_collection(config.collection, split_by=split_by),
    )
    if note is not None:
        warnings.warn(note, CollectionMismatchWarning, stacklevel=3)


def _require_all_splits(collection: CrystalCollection) -> None:
    empty = [split for split in SPLITS if not len(collection.in_split(split))]
    if empty:
        raise CrystalGymError(
            f"Expected crystals in train, val and test of {collection.name!r}, got none in "
            f"{', '.join(empty)}. Methods learn on train, learning curves are measured on val and "
            "results on test. Split the collection."
        )


def _require_same_labels(
    path: Path, records: Sequence[BenchmarkRecord], labels: Mapping[str, str | None]
) -> None:
    for record in records:
        if record.reward in labels and record.labels_sha256 != labels[record.reward]:
            raise CrystalGymError(
                f"Expected results of {record.reward!r} with the present labels in {path}, got "
                "results with other labels. Choose another folder."
            )
