"""The runs of a benchmark: made once each, kept in one JSON file."""

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from crystal_agents.benchmark.arena import Arena
from crystal_agents.benchmark.contestants import CONTESTANTS
from crystal_agents.benchmark.plan import Plan
from crystal_agents.provenance import hardware, versions
from crystal_agents.records import load_records, require_same_crystals, save_records
from crystal_gym.collection import SPLITS, CrystalCollection
from crystal_gym.errors import CrystalGymError

RESULTS_FILE = "benchmark.json"


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        contestant: a name of ``CONTESTANTS``.
        reward: a name of ``crystal_gym.rewards.REWARDS``.
        seed: of the run.
        plan: what else decides its outcome.
        collection_sha256: fingerprint of the crystals.
        figures: on all crystals of test, see ``Arena.measure``.
        curve: steps of the environment and mean return on val; empty where nothing was learned
            there.
        seconds: of the run, with the measurements.
        hardware: where it was made.
        versions: of the software.
        date: when it ended, ISO 8601.
        labels_sha256: fingerprint of the labels that the reward looks up.
    """

    contestant: str
    reward: str
    seed: int
    plan: dict[str, Any]
    collection_sha256: str
    figures: dict[str, float]
    curve: list[tuple[int, float]]
    seconds: float
    hardware: str
    versions: dict[str, str]
    date: str
    labels_sha256: str | None = None

    @property
    def collection(self) -> str:
        """Of the crystals, as the plan names it."""
        return self.plan["collection"]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Record":
        """A record as ``dataclasses.asdict`` gave it; ``TypeError`` or alike where it is not."""
        curve = [(int(step), float(value)) for step, value in entry["curve"]]
        return cls(**{**entry, "curve": curve})


def load_results(folder: Path) -> list[Record]:
    """All runs of a folder.

    Raises:
        DamagedFileError: the file is damaged.
    """
    return load_records(
        folder / RESULTS_FILE,
        Record.from_json,
        without="online learners then learn anew; of offline ones the checkpoints beside it serve",
    )


def select(records: Sequence[Record], plan: Plan, path: Path) -> list[Record]:
    """The records of a plan's rewards, contestants and seeds.

    Raises:
        CrystalGymError: the records are of another plan.
    """
    _require_same_plan(path, records, plan.settings)
    return [
        record
        for record in records
        if record.reward in plan.rewards
        and record.contestant in plan.contestants
        and (record.seed in plan.seeds or not CONTESTANTS[record.contestant].seeded)
    ]


def run_plan(plan: Plan, folder: Path) -> Iterator[Record]:
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
    settings = plan.settings
    path = folder / RESULTS_FILE
    arenas = {name: Arena(plan, name, folder) for name in plan.rewards}
    collection = next(iter(arenas.values())).collection
    # What is missing is told before hours of runs.
    _check_splits(collection)
    for name in plan.contestants:
        if CONTESTANTS[name].needs:
            importlib.import_module(CONTESTANTS[name].needs)
    sha256 = collection.fingerprint()
    labels = {n: collection.labels_fingerprint(a.reward.labels) for n, a in arenas.items()}
    for seed in plan.seeds:
        for reward, arena in arenas.items():
            for name in plan.contestants:
                contestant = CONTESTANTS[name]
                before = load_results(folder)
                _require_same_plan(path, before, settings)
                require_same_crystals(path, before, sha256)
                _require_same_labels(path, before, labels)
                made = [one for one in before if (one.contestant, one.reward) == (name, reward)]
                if seed in [one.seed for one in made] or (made and not contestant.seeded):
                    continue
                began = time.perf_counter()
                outcome = contestant.run(arena, seed)
                figures = arena.measure(outcome.score, "test", contestant.mask)
                record = Record(
                    contestant=name,
                    reward=reward,
                    seed=seed,
                    plan=settings,
                    collection_sha256=sha256,
                    figures=figures,
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


def _require_same_plan(path: Path, records: Sequence[Record], settings: dict[str, Any]) -> None:
    """Results of different plans are never brought together."""
    if any(record.plan != settings for record in records):
        raise CrystalGymError(f"{path} holds results of another plan. Choose another folder.")


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
