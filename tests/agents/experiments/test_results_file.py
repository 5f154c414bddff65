"""Results files: records are restored exactly, and damaged files are reported and kept."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import pytest

from crystal_agents.experiments.results_file import (
    ResultsFile,
    RunRecord,
    load_records,
    require_same_crystals,
    save_records,
)
from crystal_gym.errors import CrystalGymError, DamagedFileError


@dataclass(frozen=True, kw_only=True)
class NumberRecord(RunRecord):
    """A record with a number."""

    number: int

    @property
    def key(self) -> Hashable:
        return self.number

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        return cls(**entry)


def record(number=0, sha256="ab" * 32):
    return NumberRecord(
        number=number,
        collection="toy",
        collection_sha256=sha256,
        seconds=1.5,
        hardware="a processor, 1 thread",
        versions={"torch": "2"},
        date="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def results(tmp_path):
    return ResultsFile(tmp_path / "results.json", NumberRecord, "a rerun repeats all runs")


def test_missing_file_has_no_records(results):
    assert results.load() == []


def test_records_are_restored_in_order(results):
    records = [record(2), record(0), record(1)]
    for finished in records:
        results.append(finished)
    assert results.load() == records
    assert results.path.read_text().count("\n") == 2 + len(records)
    assert [path.name for path in results.path.parent.iterdir()] == ["results.json"]


def test_append_keeps_records_of_another_process(results):
    other = ResultsFile(results.path, NumberRecord, "")
    results.append(record(0))
    other.append(record(1))
    results.append(record(2))
    assert [stored.number for stored in results.load()] == [0, 1, 2]


def test_append_rejects_results_on_other_crystals(results):
    results.append(record(0))
    before = results.path.read_bytes()
    with pytest.raises(
        CrystalGymError, match=r"toy \(SHA-256 cdcd.*other crystals: toy \(SHA-256 abab"
    ):
        results.append(record(1, sha256="cd" * 32))
    assert results.path.read_bytes() == before


def test_same_crystals_are_accepted(tmp_path):
    require_same_crystals(tmp_path, [record(0), record(1)], "toy", "ab" * 32)
    require_same_crystals(tmp_path, [], "toy", "ab" * 32)


WITHOUT_NUMBER = {key: value for key, value in asdict(record()).items() if key != "number"}


@pytest.mark.parametrize(
    ("content", "place", "cause"),
    [
        ("[{", "a JSON list of runs in", json.JSONDecodeError),
        ("\udcff", "a JSON list of runs in", UnicodeDecodeError),
        ('{"number": 1}', "got dict", type(None)),
        ("[1]", "a NumberRecord in entry 1 of", TypeError),
        (json.dumps([asdict(record()), WITHOUT_NUMBER]), "in entry 2 of", TypeError),
        (json.dumps([asdict(record()) | {"color": "red"}]), "in entry 1 of", TypeError),
    ],
)
def test_damaged_files_are_reported_with_their_cause_and_kept(results, content, place, cause):
    results.path.write_text(content, errors="surrogateescape")
    before = results.path.read_bytes()
    for access in (results.load, lambda: results.append(record(9))):
        with pytest.raises(DamagedFileError, match=place) as error:
            access()
        assert isinstance(error.value.__cause__, cause)
        assert str(results.path) in str(error.value)
        assert "move it away: a rerun repeats all runs." in str(error.value)
    assert results.path.read_bytes() == before


def test_saved_records_can_be_loaded(tmp_path):
    path = tmp_path / "results.json"
    save_records(path, [record(3)])
    assert load_records(path, NumberRecord, after_removal="") == [record(3)]
    assert json.loads(path.read_text()) == [asdict(record(3))]
