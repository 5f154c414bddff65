"""Execution of runs: each run once, stored as soon as it ends."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import pytest

from crystal_agents.experiments.results_file import ResultsFile, RunRecord
from crystal_agents.experiments.runner import Run, run_missing
from crystal_gym.errors import CrystalGymError


@dataclass(frozen=True, kw_only=True)
class LetterRecord(RunRecord):
    """A record with a letter."""

    letter: str

    @property
    def key(self) -> Hashable:
        return self.letter

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        return cls(**entry)


def record(letter):
    return LetterRecord(
        letter=letter,
        collection="toy",
        collection_sha256="ab" * 32,
        seconds=0.0,
        hardware="",
        versions={},
        date="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def results(tmp_path):
    return ResultsFile(tmp_path / "results.json", LetterRecord, "")


@pytest.fixture
def executed():
    return []


@pytest.fixture
def run_of(executed):
    def make(letter, error=None):
        def execute():
            executed.append(letter)
            if error is not None:
                raise error
            return record(letter)

        return Run(letter, execute)

    return make


def accept(_records):
    """Accept all records."""


def test_runs_are_executed_in_order_and_stored_one_by_one(results, run_of):
    runs = run_missing(map(run_of, "bca"), results, accept)
    for number, letter in enumerate("bca", 1):
        assert next(runs) == record(letter)
        assert [stored.letter for stored in results.load()] == list("bca"[:number])
    assert not list(runs)


def test_finished_runs_are_skipped(results, run_of, executed):
    results.append(record("b"))
    assert list(run_missing(map(run_of, "abcc"), results, accept)) == [record("a"), record("c")]
    assert executed == ["a", "c"]
    assert not list(run_missing(map(run_of, "cab"), results, accept))
    assert executed == ["a", "c"]


def test_runs_of_another_process_are_skipped(results, run_of, executed):
    runs = run_missing(map(run_of, "ab"), results, accept)
    next(runs)
    results.append(record("b"))
    assert not list(runs)
    assert executed == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()])
def test_interrupted_run_is_repeated_and_earlier_runs_are_kept(results, run_of, executed, error):
    runs = run_missing([run_of("a"), run_of("b", error), run_of("c")], results, accept)
    with pytest.raises(type(error)):
        list(runs)
    assert results.load() == [record("a")]
    list(run_missing(map(run_of, "abc"), results, accept))
    assert executed == ["a", "b", "b", "c"]
    assert [stored.letter for stored in results.load()] == ["a", "b", "c"]


@pytest.mark.parametrize("letters", ["c", "", "b"])
def test_rejected_results_stop_all_runs(results, run_of, executed, letters):
    results.append(record("b"))

    def reject(records):
        if any(stored.letter == "b" for stored in records):
            raise CrystalGymError("other settings")

    with pytest.raises(CrystalGymError, match="other settings"):
        list(run_missing(map(run_of, letters), results, reject))
    assert not executed
    assert results.load() == [record("b")]
