"""The runs of a benchmark: made once each, kept in one JSON file."""

import dataclasses
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
from crystal_agents.records import load_records, save_records
from crystal_gym.errors import CrystalGymError

RESULTS_FILE = "benchmark.json"
# What may grow from one call to the next; all else decides what a run is.
_LISTS = ("rewards", "contestants", "seeds")


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


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    rewards: Sequence[str] = (),
    contestants: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Iterator[Record]:
    """Make the runs that are not made yet and append each to the results.

    The first seed of every contestant comes first, so that a stopped benchmark has some of each.

    Args:
        plan: what is compared.
        folder: of the results, the data sets and the checkpoints of offline learners.
        rewards: some of the plan's (default: all).
        contestants: likewise.
        seeds: likewise.

    Yields:
        The record of each new run.

    Raises:
        CrystalGymError: the folder holds results of another plan or other crystals, or something
            is asked for that the plan does not hold.
        DamagedFileError: the results are damaged.
        StorageError: the folder cannot be written.
    """
    asked = {"rewards": rewards, "contestants": contestants, "seeds": seeds}
    chosen = {name: _chosen(plan, name, list(some)) for name, some in asked.items()}
    settings = {k: v for k, v in dataclasses.asdict(plan).items() if k not in _LISTS}
    path = folder / RESULTS_FILE
    arenas = {name: Arena(plan, name, folder) for name in chosen["rewards"]}
    sha256 = next(iter(arenas.values())).collection.fingerprint()
    for number, seed in enumerate(chosen["seeds"]):
        for reward, arena in arenas.items():
            for name in chosen["contestants"]:
                contestant = CONTESTANTS[name]
                before = load_results(folder)
                _same(path, before, settings, sha256)
                made = {(one.contestant, one.reward, one.seed) for one in before}
                if (name, reward, seed) in made or (number and not contestant.seeded):
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
                )
                # Read anew: another process may have finished runs of its own meanwhile.
                save_records(path, [*load_results(folder), record])
                yield record


def _chosen(plan: Plan, name: str, some: list[Any]) -> list[Any]:
    """Some of a list of the plan, or all of it."""
    held = list(getattr(plan, name))
    strange = [one for one in some if one not in held]
    if strange:
        told, asked = (", ".join(map(str, names)) for names in (held, strange))
        raise CrystalGymError(f"The plan's {name} are {told}; not {asked}.")
    return some or held


def _same(path: Path, before: list[Record], settings: dict[str, Any], sha256: str) -> None:
    """Results of different plans, or on different crystals, are never brought together."""
    for record in before:
        if record.collection_sha256 != sha256 or record.plan != settings:
            raise CrystalGymError(
                f"{path} holds results of another plan or on other crystals. Choose another folder."
            )
