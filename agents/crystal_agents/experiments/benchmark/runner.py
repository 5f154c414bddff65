"""FIXDOC."""

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from crystal_agents.experiments.benchmark.config import BenchmarkConfig
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.results import (
    RESULTS_FILE,
    Record,
    _require_same_plan,
    load_results,
)
from crystal_agents.experiments.benchmark.task import BenchmarkTask
from crystal_agents.experiments.provenance import hardware, versions
from crystal_agents.experiments.results_file import (
    require_same_crystals,
    save_records,
)
from crystal_gym.collections.collection import SPLITS, CrystalCollection
from crystal_gym.errors import CrystalGymError


def run_benchmark(config: BenchmarkConfig, folder: Path) -> Iterator[Record]:
    """Make the runs that are not made yet and append each to the results.

    The first seed of every contestant comes first, so that a stopped benchmark has some of each.

    Args:
        plan: what is compared.
        folder: of the results, the data sets and the checkpoints of offline learners.

    Yields:
        The record of each new run.

    Raises:
        CrystalGymError: the folder holds results of another plan, other crystals or other labels,
            or a split has no crystals.
        DamagedFileError: the results are damaged.
        ModuleNotFoundError: a contestant needs a package that is not installed.
        StorageError: the folder cannot be written.
    """
    settings = config.settings
    path = folder / RESULTS_FILE
    tasks = {name: BenchmarkTask(config, name, folder) for name in config.rewards}
    collection = next(iter(tasks.values())).collection
    # What is missing is told before hours of runs.
    _check_splits(collection)
    for name in config.methods:
        if METHODS[name].needs:
            importlib.import_module(METHODS[name].needs)
    sha256 = collection.fingerprint()
    labels = {n: collection.labels_fingerprint(a.reward.labels) for n, a in tasks.items()}
    for seed in config.seeds:
        for reward, task in tasks.items():
            for name in config.methods:
                method = METHODS[name]
                before = load_results(folder)
                _require_same_plan(path, before, settings)
                require_same_crystals(path, before, sha256)
                _require_same_labels(path, before, labels)
                made = [one for one in before if (one.method, one.reward) == (name, reward)]
                if seed in [one.seed for one in made] or (made and not method.seeded):
                    continue
                began = time.perf_counter()
                outcome = method.run(task, seed)
                metrics = task.measure(outcome.score, "test", method.mask)
                record = Record(
                    method=name,
                    reward=reward,
                    seed=seed,
                    config=settings,
                    collection_sha256=sha256,
                    metrics=metrics,
                    curve=outcome.curve,
                    seconds=round(time.perf_counter() - began, 1),
                    hardware=hardware(torch.device("cpu")),
                    versions=versions(),
                    date=datetime.now(UTC).isoformat(timespec="seconds"),
                    labels_sha256=labels[reward],
                )
                # Read anew: another process may have finished runs of its own meanwhile.
                save_records(path, [*load_results(folder), record])
                yield record


def _check_splits(collection: CrystalCollection) -> None:
    empty = [split for split in SPLITS if not len(collection.in_split(split))]
    if empty:
        raise CrystalGymError(
            f"{collection.name!r} has no crystals in {', '.join(empty)}. Contestants learn on "
            "train, their curves are drawn on val and they are measured on test: all are needed."
        )


def _require_same_labels(
    path: Path, before: Sequence[Record], labels: Mapping[str, str | None]
) -> None:
    """Nor are results of a reward with different labels."""
    for record in before:
        if record.reward in labels and record.labels_sha256 != labels[record.reward]:
            raise CrystalGymError(
                f"{path} holds results of {record.reward!r} with other labels than those at hand. "
                "Choose another folder."
            )
