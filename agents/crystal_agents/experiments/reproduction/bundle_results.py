"""Results of ``bundle_run``: policies, histories and records in the folder of the reproduction.

::

    python -m crystal_agents.experiments.reproduction.bundle_results RUNS --folder reproduction

evaluates the finished runs in the folder RUNS on the test split and stores them as
``crystal-gym reproduce table-1`` does, which then writes the table with ``--report-only``.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from crystal_agents.experiments.provenance import versions
from crystal_agents.experiments.reproduction.experiment import altered_contexts, suffix
from crystal_agents.experiments.reproduction.results import ReproductionRecord, results_file
from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.reproduction.table_1 import TABLE_1
from crystal_agents.experiments.results_file import require_same_crystals
from crystal_agents.experiments.runner import Run, run_missing
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.history import HISTORY_FILE, write_history
from crystal_agents.training.learner import new_policy
from crystal_gym.errors import CrystalGymError, DamagedFileError


def read_runs(runs: Path, context: RunContext) -> Iterator[ReproductionRecord]:
    """Evaluate the finished runs in a folder of ``bundle_run`` that have no record yet.

    Args:
        runs: Folder with one JSON file and one file of weights for each finished run.
        context: The collection of the bundle, and the folder for policies and results.

    Yields:
        The record of each new run.

    Raises:
        CrystalGymError: If the folder has no finished run, or a run belongs to other crystals.
        DamagedFileError: If a file of a run is damaged.
    """
    files = sorted(runs.glob("*-seed-*.json"))
    if not files:
        raise CrystalGymError(f"Expected finished runs (*.json) in {runs}, got none.")
    results = results_file(TABLE_1.results(context.folder))
    contexts = altered_contexts(context, TABLE_1.variants.values())
    pending = []
    for file in files:
        run = _read_record(file)
        if run["collection_sha256"] != context.sha256:
            raise CrystalGymError(
                f"Expected a run on the crystals of {context.origin} "
                f"({context.sha256[:12]}) in {file}, got one on {run['collection_sha256'][:12]}. "
                "Give the collection of its bundle."
            )
        key = (run["column"], run["seed"], run["epochs"], run["precision"])
        altered = contexts[TABLE_1.variants[run["column"]].altered]
        pending.append(Run(key, partial(_evaluate, altered, file, run)))

    def check(records: Sequence[ReproductionRecord]) -> None:
        require_same_crystals(results.path, records, context.origin, context.sha256)

    yield from run_missing(pending, results, check)


def _read_record(file: Path) -> dict[str, Any]:
    fields = {
        *("column", "seed", "precision", "compiled", "epochs", "transitions", "seconds"),
        *("hardware", "versions", "date", "collection_sha256", "history"),
    }
    try:
        run = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{file} is damaged: {error}.") from error
    if not isinstance(run, dict) or set(run) != fields or run["column"] not in TABLE_1.variants:
        raise DamagedFileError(f"Expected a record of bundle_run in {file}, got another content.")
    return run


def _evaluate(context: RunContext, file: Path, run: dict[str, Any]) -> ReproductionRecord:
    """Save the policy and the history of a run, and evaluate it on the test split."""
    column, seed, epochs = run["column"], run["seed"], run["epochs"]
    variant = TABLE_1.variants[column]
    recipe = variant.training_recipe(epochs)
    if recipe is None:
        raise DamagedFileError(f"Expected a trained column in {file}, got {column!r}.")
    folder = context.folder / f"{column}-seed-{seed}{suffix(epochs, run['precision'])}"
    data = context.transitions("train", variant.trajectories, seed)
    training = {
        **context.training_provenance(data, variant.trajectories),
        **{key: value for key, value in run.items() if key not in {"history", "column"}},
    }
    config = dataclasses.replace(new_policy(recipe, data).config, training=training)
    policy = SkeletonPolicy(config)
    policy.load_state_dict(load_file(file.with_suffix(".safetensors")))
    policy.save(folder)
    write_history(folder / HISTORY_FILE, run["history"])
    return context.training_record(
        folder,
        variant=column,
        seed=seed,
        epochs=epochs,
        network=recipe.network,
        trajectories=variant.trajectories,
        transitions=run["transitions"],
        precision=run["precision"],
        metrics=context.test_metrics(column, policy.eval()),
        seconds=run["seconds"],
        hardware=run["hardware"],
        versions={**versions(), **run["versions"]},
        date=run["date"],
    )


def main(arguments: list[str] | None = None) -> None:
    """Evaluate the finished runs of a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--folder", type=Path, default=Path("reproduction"))
    parser.add_argument("--collection", default="perov-5", help="name or path of the collection")
    options = parser.parse_args(arguments)
    for record in read_runs(options.runs, RunContext(options.folder, options.collection)):
        accuracy = record.metrics["accuracy"]
        print(f"{record.variant}, seed {record.seed}, {record.precision}: {accuracy.mean:.2%}")


if __name__ == "__main__":
    main()
