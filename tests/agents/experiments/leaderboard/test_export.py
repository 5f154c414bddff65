"""Submissions from records, and the committed submissions of this project."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from crystal_agents.experiments.benchmark.results import load_results
from crystal_agents.experiments.discovery.results import results_file
from crystal_agents.experiments.leaderboard.export import export_file, export_records
from crystal_gym.errors import (
    CrystalGymError,
    DamagedFileError,
    MissingDataError,
    SubmissionError,
)

DOCS = Path(__file__).parents[4] / "docs"
SUBMISSIONS = DOCS / "leaderboard" / "submissions"
AUTHORS = ["The crystal-gym developers"]
# The records behind the rows of this project.
RECORDS = (
    "benchmark-perov-5/benchmark.json",
    "discovery/discovery.json",
    "reproduction/table-1.json",
    "accuracy/perov-5.json",
    "accuracy/mp-20.json",
)


@pytest.fixture(scope="module")
def exports():
    return {name: export_file(DOCS / "data" / name, AUTHORS) for name in RECORDS}


def test_committed_rows_of_this_project_come_from_committed_records(exports):
    advice = "Run the command in docs/leaderboard.md, then crystal-gym leaderboard render."
    expected = {s.file_name: s.text() for export in exports.values() for s in export.submissions}
    assert len(expected) == sum(len(export.submissions) for export in exports.values())
    for name, text in expected.items():
        assert (SUBMISSIONS / name).read_text("utf-8") == text, f"{name}: {advice}"
    page = (DOCS / "leaderboard.md").read_text()
    assert all(f"docs/data/{name}" in page for name in RECORDS)


def test_runs_of_a_method_become_one_submission(exports):
    by_name = {s.file_name: s for s in exports[RECORDS[0]].submissions}
    warm = by_name["perov-5/match/ppo-warm-start.json"]
    records = [
        record
        for record in load_results(DOCS / "data" / "benchmark-perov-5")
        if (record.method, record.reward) == ("ppo-warm", "match")
    ]
    assert warm.seeds == tuple(record.seed for record in records)
    assert warm.values["match"] == tuple(record.metrics["match"] for record in records)
    assert (warm.expert_data, warm.environment_steps) == (True, records[0].config["steps"])
    scratch = by_name["perov-5/match/maskableppo-from-scratch.json"]
    assert (scratch.expert_data, by_name["perov-5/match/bc.json"].environment_steps) == (False, 0)


def test_evaluations_of_searches_are_exported(exports):
    by_name = {s.method: s for s in exports[RECORDS[1]].submissions}
    search = by_name["random search"]
    assert search.oracle_calls == max(search.values["evaluations_20"])
    assert not search.expert_data


def test_the_ground_truth_and_the_random_column_are_no_rows(exports):
    assert not {"ground truth", "random"} & {
        s.method for name in RECORDS[2:] for s in exports[name].submissions
    }


def test_methods_that_do_not_fit_a_task_are_listed():
    search = results_file(DOCS / "data" / "discovery").load()[0]
    unfinished = dataclasses.replace(search, found_at=search.found_at[:12])
    export = export_records([unfinished], AUTHORS)
    assert export.submissions == []
    assert "got 0 numbers as values.evaluations_20 of random search" in export.left_out[0]
    run = load_results(DOCS / "data" / "benchmark-perov-5")[0]
    export = export_records([dataclasses.replace(run, reward="validity")], AUTHORS)
    assert export.left_out == ["uniform: the leaderboard has no task perov-5/validity."]
    other = dataclasses.replace(run, collection_sha256="0" * 64)
    assert "collection_sha256 of uniform" in export_records([other], AUTHORS).left_out[0]


def test_authors_are_required_and_valid():
    run = load_results(DOCS / "data" / "benchmark-perov-5")[0]
    with pytest.raises(CrystalGymError, match="Pass --authors NAME"):
        export_records([run], [])
    with pytest.raises(SubmissionError, match=r"authors\[0\] of the submission of uniform"):
        export_records([run], ["two\nlines"])


def test_files_without_records_are_rejected(tmp_path):
    path = tmp_path / "records.json"
    with pytest.raises(MissingDataError, match="got no file"):
        export_file(path, AUTHORS)
    for text, message in [
        ("{", "cannot be parsed"),
        ("[]", "other content"),
        ('[{"reward": "match"}]', "Expected a BenchmarkRecord in entry 1"),
        ('{"rows": {}}', "without the key 'collection'"),
    ]:
        path.write_text(text)
        with pytest.raises(DamagedFileError, match=message):
            export_file(path, AUTHORS)


def test_evaluation_of_a_part_of_the_crystals_is_rejected(tmp_path):
    path = tmp_path / "report.json"
    report = json.loads((DOCS / "data" / "accuracy" / "mp-20.json").read_text())
    for change in ({"split": "val"}, {"crystals": 100}, {"n_start_sites": 5}):
        path.write_text(json.dumps(report | change))
        with pytest.raises(CrystalGymError, match="Expected an evaluation on all test crystals"):
            export_file(path, AUTHORS)
    shutil.copy(DOCS / "data" / "accuracy" / "mp-20.json", path)
    methods = [submission.method for submission in export_file(path, AUTHORS).submissions]
    assert methods[0] == "mp-20/mpnn"
