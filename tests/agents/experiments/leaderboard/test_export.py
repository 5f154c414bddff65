"""Submissions from records, and the committed submissions of this project."""

import dataclasses
import json
from pathlib import Path

import pytest

from crystal_agents.experiments.benchmark.results import load_results
from crystal_agents.experiments.discovery.results import results_file
from crystal_agents.experiments.leaderboard.export import (
    export_files,
    export_records,
    save_submissions,
)
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
    "benchmark-perov-5-indexed/benchmark.json",
    "discovery/discovery.json",
    "reproduction/table-1.json",
    "accuracy/perov-5.json",
    "accuracy/mp-20.json",
)


@pytest.fixture(scope="module")
def exports():
    return {name: export_files([DOCS / "data" / name], AUTHORS) for name in RECORDS}


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
    by_name = {s.file_name: s for s in exports["discovery/discovery.json"].submissions}
    search = by_name["discovery/perov5-water-splitting/random-search.json"]
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
        export_files([path], AUTHORS)
    for text, message in [
        ("{", "cannot be parsed"),
        ("[]", "other content"),
        ('[{"reward": "match"}]', "Expected a BenchmarkRecord in entry 1"),
        ('{"rows": {}}', "other content .KeyError: 'collection'"),
    ]:
        path.write_text(text)
        with pytest.raises(DamagedFileError, match=message):
            export_files([path], AUTHORS)


@pytest.fixture
def report():
    return json.loads((DOCS / "data" / "accuracy" / "mp-20.json").read_text())


@pytest.mark.parametrize(
    "change", [{"split": "val"}, {"crystals": 100}, {"n_start_sites": 5}, {"mask": "composition"}]
)
def test_evaluation_under_other_conditions_is_rejected(report, tmp_path, change):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report | change))
    with pytest.raises(CrystalGymError, match="Expected an evaluation on all crystals of test"):
        export_files([path], AUTHORS)


def test_policies_of_several_evaluations_become_one_submission(report, tmp_path):
    paths = [tmp_path / f"{seed}.json" for seed in (3, 4)]
    row = report["rows"]["mpnn"]
    for seed, path in zip((3, 4), paths, strict=True):
        row["metrics"]["accuracy"]["mean"] = seed / 10
        report["policies"] = {f"runs/seed-{seed}": {"seed": seed, "finetuned": seed > 3}}
        path.write_text(json.dumps(report))
    export = export_files(paths, AUTHORS)
    by_name = {submission.method: submission for submission in export.submissions}
    assert (by_name["mpnn"].seeds, by_name["mpnn"].values) == ((3, 4), {"accuracy": (0.3, 0.4)})
    # The baselines are the same in both evaluations.
    assert by_name["uniform"].seeds == (0,)
    assert not by_name["uniform"].expert_data
    # The environment steps of a fine-tuned policy are unknown.
    assert by_name["uniform"].environment_steps == 0
    finetuned = export_files(paths[1:], AUTHORS).submissions[0]
    assert (finetuned.method, finetuned.environment_steps) == ("mpnn", None)


def test_means_over_policies_are_listed(report, tmp_path):
    path = tmp_path / "report.json"
    report["rows"]["mpnn"]["runs"] = 2
    path.write_text(json.dumps(report))
    export = export_files([path], AUTHORS)
    assert "mpnn" not in {submission.method for submission in export.submissions}
    (sentence,) = export.left_out
    assert sentence.startswith("mpnn: expected one policy in this row.")


def test_runs_on_other_crystals_are_not_mixed():
    run, other = load_results(DOCS / "data" / "benchmark-perov-5")[:2]
    other = dataclasses.replace(other, seed=7, collection_sha256="0" * 64)
    export = export_records([run, other], AUTHORS)
    assert [submission.seeds for submission in export.submissions] == [(run.seed,)]
    assert len(export.left_out) == 1


def test_submissions_of_other_authors_are_not_replaced(tmp_path):
    records = load_results(DOCS / "data" / "benchmark-perov-5")
    ours = export_records(records[:1], AUTHORS).submissions
    theirs = export_records(records[:2], ["Ada"]).submissions
    (path,) = save_submissions(ours, tmp_path)
    with pytest.raises(SubmissionError, match="Expected no submission of other authors"):
        save_submissions(theirs, tmp_path)
    assert path.read_text() == ours[0].text()
    again = export_records(records[:2], AUTHORS).submissions
    assert save_submissions(again, tmp_path) == [path]
    assert path.read_text() == again[0].text()
    path.write_text("damaged")
    assert save_submissions(theirs, tmp_path) == [path]
